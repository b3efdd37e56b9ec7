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

// workspace gives the folder of go.work.
func workspace(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.work above this test")
		}
		dir = parent
	}
}

// sources parses every Go file of the workspace.
func sources(t *testing.T) []source {
	t.Helper()
	root := workspace(t)
	var found []source
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != root && (strings.HasPrefix(name, ".") || name == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		found = append(found, source{path: below, test: isTest(below), File: parsed})
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
