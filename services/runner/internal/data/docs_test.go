package data

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"

	"turbocat.io/pkg/form"
)

var codeBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

// TestDocumentedExamples runs the examples of the section DATA of docs/agents.md: JSON blocks
// with the fields input, config and output. Every operation has one, and the catalog saves them all.
func TestDocumentedExamples(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/agents.md")
	if err != nil {
		t.Fatal(err)
	}
	saved := savedSchema(t)
	var shown []string
	_, section, _ := bytes.Cut(page, []byte("\n## DATA\n"))
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	for _, block := range codeBlock.FindAllSubmatch(section, -1) {
		var example struct{ Input, Config, Output json.RawMessage }
		if json.Unmarshal(block[1], &example) != nil || example.Output == nil {
			t.Errorf("no example: %s", block[1])
			continue
		}
		for _, m := range regexp.MustCompile(`"operation": "(\w+)"`).FindAllSubmatch(example.Config, -1) {
			shown = append(shown, string(m[1]))
		}
		var refused form.Faults
		if err := saved.Validate(t.Context(), "", example.Config, &refused); err != nil || refused.Err("config") != nil {
			t.Errorf("%s can not be saved: %v %v", example.Config, err, refused.Err("config"))
		}
		got, stepError := run(t, string(example.Config), string(example.Input))
		if stepError != nil || compact(t, got) != compact(t, string(example.Output)) {
			t.Errorf("%s\ngives %v %s", block[1], stepError, got)
		}
	}
	for _, name := range operations {
		if !slices.Contains(shown, name) {
			t.Errorf("no example of %s", name)
		}
	}
}

func compact(t *testing.T, raw string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
