package layout

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageLooksForLeaks keeps a new package from forgetting it.
func TestEveryPackageLooksForLeaks(t *testing.T) {
	packages := map[string][]source{} // by folder, the files of their tests
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			packages[s.dir()] = append(packages[s.dir()], s)
		}
	}
	for dir, files := range packages {
		if !looksForLeaks(files) {
			t.Errorf("no TestMain of %s looks for goroutines that its tests leave behind\n\tremedy: func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }", dir)
		}
	}
}

// looksForLeaks tells whether there is a TestMain and goleak is asked about the whole run.
func looksForLeaks(files []source) bool {
	main, asked := false, false
	for _, s := range files {
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				main = main || n.Recv == nil && n.Name.Name == "TestMain"
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				asked = asked || ok && pkg.Name == "goleak" && slices.Contains([]string{"VerifyTestMain", "Find"}, n.Sel.Name)
			}
			return true
		})
	}
	return main && asked
}
