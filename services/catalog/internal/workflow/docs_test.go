package workflow_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/expr"
	"turbocat.io/services/catalog/internal/workflow"
)

var codeBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

// TestDocumentedExamples saves the examples of docs/workflows.md, and compiles its expressions. The section of each step type has one with such a step.
func TestDocumentedExamples(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/workflows.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| to | write |")
	table, _, _ = strings.Cut(table, "\n\n")
	expressions := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(table, -1)
	if len(expressions) < 10 {
		t.Errorf("found %d expressions", len(expressions))
	}
	for _, e := range expressions {
		if _, err := expr.Compile(strings.ReplaceAll(e[1], `\|`, "|")); err != nil {
			t.Errorf("%s does not compile: %v", e[1], err)
		}
	}
	var shown []string
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
			w, err := workflow.New([]byte(block[1])).Finish(func(string) bool { return true })
			if got := faults(t, err); got != "" {
				t.Errorf("%s\ncan not be saved: %s", block[1], got)
			}
			if slices.ContainsFunc(w.Steps, func(s catalog.Step) bool { return s.StepType == title }) {
				shown = append(shown, title)
			}
		}
	}
	for _, stepType := range []string{catalog.StepAgent, catalog.StepCondition, catalog.StepLoop, catalog.StepParallel, catalog.StepWait} {
		if !slices.Contains(shown, stepType) {
			t.Errorf("no example of %s in its section", stepType)
		}
	}
}
