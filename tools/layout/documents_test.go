package layout

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

var testPattern = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// TestNamedTestsExist keeps the crash table and the table of semantics honest: a test that a document names must be there.
func TestNamedTestsExist(t *testing.T) {
	tests := map[string]bool{}
	for _, s := range sources(t) {
		for _, decl := range s.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasSuffix(s.path, "_test.go") {
				tests[fn.Name.Name] = true
			}
		}
	}
	root := workspace(t)
	named := 0
	for _, doc := range []string{"docs/engine.md", "docs/semantics.md", "docs/reliability.md", "docs/architecture.md", "CONTRIBUTING.md"} {
		body, err := os.ReadFile(root + "/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range testPattern.FindAllStringSubmatch(string(body), -1) {
			named++
			if !tests[name[1]] {
				t.Errorf("%s names %s, which is no test; name the one that proves it now", doc, name[1])
			}
		}
	}
	if named == 0 {
		t.Error("no document names a test; does the search still find them?")
	}
}
