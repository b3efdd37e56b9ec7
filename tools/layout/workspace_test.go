package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// source is one Go file of the workspace.
type source struct {
	path string // below the folder of go.work, with slashes
	test bool   // a test, or of a package that only tests use
	*ast.File
}

// dir is the folder of the package that the file belongs to.
func (s source) dir() string { return path.Dir(s.path) }

// workspace gives the folder of go.work, as ../.. of the folder of these tests: of what a test
// opens, go test looks only at names below the module to see whether its last result still holds.
// So names below it are added with a slash, as filepath.Join would take the dots out.
func workspace(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for range strings.Count(filepath.ToSlash(dir), "/") {
		if _, err := os.Stat(dir + "/go.work"); err == nil {
			return dir
		}
		dir += "/.."
	}
	t.Fatal("no go.work above this test")
	return ""
}

// sources parses every Go file of the workspace.
func sources(t *testing.T) []source {
	t.Helper()
	root := workspace(t)
	var found []source
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != "." && (strings.HasPrefix(name, ".") || name == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), root+"/"+file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = append(found, source{path: file, test: isTest(file), File: parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 100 {
		t.Fatalf("only %d Go files below %s; is it the workspace?", len(found), root)
	}
	return found
}

// isTest tells whether only tests compile the file: a test, or a helper such as pgtest or bustest.
func isTest(file string) bool {
	return strings.HasSuffix(file, "_test.go") || strings.HasSuffix(path.Dir(file), "test") || within(file, "tools/e2e")
}
