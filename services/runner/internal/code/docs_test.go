package code

import (
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/executor/executortest"
)

// TestDocumentedExamples runs the examples of docs/agents/code.md.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	examples := executortest.Examples(t, "../../../../docs/agents/code.md", catalog.AgentCode)
	if len(examples) < 3 {
		t.Errorf("only %d examples", len(examples))
	}
	for _, example := range examples {
		if strings.Contains(string(example.Config), `"python"`) && e.PythonAvailable() != nil {
			t.Logf("an example of Python is left out: %v", e.PythonAvailable())
			continue
		}
		job := task("", nil)
		job.Config, job.Input = example.Config, example.Input
		if output, err := e.Run(t.Context(), job); err != nil || !example.Gives(output) {
			t.Errorf("%s\ngives %v %s", example.Text, err, output)
		}
	}
}
