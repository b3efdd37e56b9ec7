// Package executortest is what tests of several executors share.
package executortest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/schema"
)

// Example is what an agent makes of an input, as the page of its type in docs/agents tells it.
type Example struct {
	Input, Config, Output json.RawMessage
	Text                  string // all of it
}

var codeBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

// Examples gives the examples that the page of an agent type, at a path, has: JSON blocks with the fields input, config and output.
// Each has a config that can be saved.
func Examples(t testing.TB, page, agentType string) []Example {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := catalog.ConfigSchema(agentType)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := schema.Compile(raw)
	if err != nil {
		t.Fatal(err)
	}
	var examples []Example
	for _, block := range codeBlock.FindAllSubmatch(text, -1) {
		e := Example{Text: string(block[1])}
		if json.Unmarshal(block[1], &e) != nil || e.Output == nil {
			t.Errorf("no example: %s", e.Text)
			continue
		}
		var refused form.Faults
		if err := saved.Validate(t.Context(), "", e.Config, &refused); err != nil || refused.Err("config") != nil {
			t.Errorf("%s can not be saved: %v %v", e.Config, err, refused.Err("config"))
		}
		examples = append(examples, e)
	}
	return examples
}

// Gives tells whether an output is that of the example.
func (e Example) Gives(output []byte) bool {
	var got, want bytes.Buffer
	return json.Compact(&got, output) == nil && json.Compact(&want, e.Output) == nil && bytes.Equal(got.Bytes(), want.Bytes())
}
