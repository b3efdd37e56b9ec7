package llm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrices(t *testing.T) {
	prices, err := LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]price{
		"claude-haiku-4-5": {1, 5}, "claude-haiku-4-5-20251001": {1, 5}, "gpt-4.1-2025-04-14": {2, 8}, "gpt-5": {1.25, 10}, "gpt-5-mini": {0.25, 2},
		"gpt-5-mega": {}, "claude-opus-4-9": {}, "claude-opus-4": {15, 75}, "llama3": {}, "": {}, "-": {}, "gpt": {},
	} {
		if got, known := prices.of(model); got != want || known != (want != price{}) {
			t.Errorf("%q costs %v, %v; want %v", model, got, known, want)
		}
	}
	if got := (price{0.1, 0.4}).cost(usage{input: 11, output: 1}); got != 2 { // 1.5, rounded up
		t.Errorf("it costs %d", got)
	}
}

func TestPricesOfOperators(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "prices.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	prices, err := LoadPrices(file(`{"asOf":"2027-01-02","usdPerMillionTokens":{"llama3":{"input":0.5,"output":1},"gpt-5":{"input":9,"output":9}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]price{"llama3": {0.5, 1}, "gpt-5": {9, 9}, "gpt-5-mini": {0.25, 2}} {
		if got, _ := prices.of(model); got != want {
			t.Errorf("%q costs %v, want %v", model, got, want)
		}
	}
	for text, want := range map[string]string{
		`{`: "unexpected end", `{"usdPerMillionTokens":{}}`: "asOf is \"\"", `{"asOf":"2027-01-02","usdPerMillionTokens":{"x":{"input":-1}}}`: "the price of x is below 0",
	} {
		if _, err := LoadPrices(file(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %s", text, err, want)
		}
	}
	if _, err := LoadPrices("/does/not/exist"); err == nil {
		t.Error("a file that is not there is read")
	}
}
