package data

import (
	"regexp"
	"slices"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/executor/executortest"
)

// TestDocumentedExamples runs the examples of docs/agents/data.md. Every operation has one.
func TestDocumentedExamples(t *testing.T) {
	var shown []string
	for _, example := range executortest.Examples(t, "../../../../docs/agents/data.md", catalog.AgentData) {
		for _, m := range regexp.MustCompile(`"operation": "(\w+)"`).FindAllSubmatch(example.Config, -1) {
			shown = append(shown, string(m[1]))
		}
		if got, stepError := run(t, string(example.Config), string(example.Input)); stepError != nil || !example.Gives([]byte(got)) {
			t.Errorf("%s\ngives %v %s", example.Text, stepError, got)
		}
	}
	for _, name := range operations {
		if !slices.Contains(shown, name) {
			t.Errorf("no example of %s", name)
		}
	}
}
