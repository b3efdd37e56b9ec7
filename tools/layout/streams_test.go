package layout

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

const architectureDoc = "docs/architecture.md"

// TestStreamsAreDocumented wants a row of the table of streams for each that contracts/subject names.
func TestStreamsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(workspace(t) + "/" + architectureDoc)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, s := range sources(t) {
		if s.path != "contracts/subject/subject.go" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasSuffix(spec.Names[0].Name, "Stream") && !strings.HasSuffix(spec.Names[0].Name, "Bucket") {
				return true
			}
			named++
			name := text(spec.Values[0])
			if !regexp.MustCompile(`(?m)^\| (bucket )?` + name + ` \|`).Match(doc) {
				t.Errorf("%s names %s, which the table of streams in %s does not; add a row", s.path, name, architectureDoc)
			}
			return true
		})
	}
	if named < 5 {
		t.Errorf("only %d streams are named; does the search still find them?", named)
	}
}
