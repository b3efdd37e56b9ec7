package pattern_test

import (
	"strings"
	"testing"

	"turbocat.io/pkg/pattern"
)

func TestCompile(t *testing.T) {
	for text, match := range map[string]string{
		"": "", "^a.+z$": "abz", `\p{L}{2,50}`: "äö", `^[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,255}\.[a-z]{2,}$`: "a@b.cd", `(\d{3}-?){50}`: strings.Repeat("123-", 50),
	} {
		re, err := pattern.Compile(text)
		if err != nil || !re.MatchString(match) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"(": "no RE2", "(?=a)": "no RE2", "a{1001}": "no RE2", `\1`: "no RE2",
		"((a{100}){100}){100}": "no RE2", "(abcdefghijklmnopqrstuvwxyzabcdefgh(n{20}|o)){40}": "too large", "(abc){1000}": "too large", "(abcde){500,}": "too large", strings.Repeat("ä", 1001): "too large",
	} {
		if _, err := pattern.Compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestBudget(t *testing.T) {
	var b pattern.Budget
	for i := range 1000 {
		if _, err := b.Compile("[a-z]{300}"); err != nil {
			if i < 20 || !strings.Contains(err.Error(), "together with the other expressions") {
				t.Errorf("after %d: %v", i, err)
			}
			return
		}
	}
	t.Error("there is no end")
}
