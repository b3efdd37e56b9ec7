package contracts_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const module = "turbocat.io/contracts"

// TestEverythingDeclaredIsListed finds methods, event types, message types, headers and streams
// that a package below declares and the lists of this package do not name.
func TestEverythingDeclaredIsListed(t *testing.T) {
	src := &source{fset: token.NewFileSet(), packages: map[string]*types.Package{}}
	listed := src.selectors(t)
	found := map[string]int{}
	err := filepath.WalkDir(".", func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || !entry.IsDir() || dir == ".":
			return err
		case entry.Name() == "testdata" || entry.Name() == "schema":
			return filepath.SkipDir
		}
		path := module + "/" + filepath.ToSlash(dir)
		pkg, err := src.Import(path)
		if err != nil {
			return err
		}
		for _, name := range pkg.Scope().Names() {
			kind := kindOf(pkg.Scope().Lookup(name))
			if kind == nil || !token.IsExported(name) {
				continue
			}
			found[kind.noun]++
			if !listed[path+"."+name] {
				t.Errorf("%s: %s.%s is %s that is not listed; %s",
					src.fset.Position(pkg.Scope().Lookup(name).Pos()), pkg.Name(), name, kind.noun, kind.remedy)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*kind{method, publicEvent, messageType, header, stream} {
		if found[k.noun] < 3 {
			t.Errorf("only %d of %q are found; does the search still work?", found[k.noun], k.noun)
		}
	}
}

// kind is a kind of declaration that has to be listed.
type kind struct{ noun, remedy string }

var (
	method      = &kind{"a method", "add a line to Methods in contracts/methods.go, then run `make contracts`"}
	publicEvent = &kind{"an event type", "add a line to Events in contracts/events.go and golden files in contracts/testdata/golden, then run `make contracts`"}
	messageType = &kind{"a message type", "add a Message to Messages in contracts/messages.go and golden files in contracts/testdata/golden, then run `make contracts`"}
	header      = &kind{"a header", "add a Field for it to the messages that bear it in contracts/messages.go, then run `make contracts`"}
	stream      = &kind{"a stream", "list what is sent on it in contracts/messages.go or contracts/events.go, then run `make contracts`"}
)

func kindOf(o types.Object) *kind {
	switch o := o.(type) {
	case *types.Func:
		return kindOfType(o.Signature().Results())
	case *types.Var:
		return kindOfType(o.Type())
	case *types.Const:
		if o.Val().Kind() != constant.String {
			return nil
		}
		value := constant.StringVal(o.Val())
		switch {
		case strings.HasPrefix(value, "io.turbocat."):
			return messageType
		case strings.HasPrefix(o.Name(), "Header"):
			return header
		case strings.HasSuffix(o.Name(), "Stream"):
			return stream
		}
	}
	return nil
}

func kindOfType(t types.Type) *kind {
	if results, ok := t.(*types.Tuple); ok {
		if results.Len() != 1 {
			return nil
		}
		t = results.At(0).Type()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return nil
	}
	switch named.Obj().Pkg().Path() + "." + named.Obj().Name() {
	case module + "/rpc.Method":
		return method
	case module + "/event.Type":
		return publicEvent
	}
	return nil
}

// source checks the packages of the module from their source. Of packages outside it nothing is
// known, which leaves types of contracts and constants as they are.
type source struct {
	fset     *token.FileSet
	packages map[string]*types.Package
}

// Import implements types.Importer.
func (s *source) Import(path string) (*types.Package, error) {
	if pkg := s.packages[path]; pkg != nil {
		return pkg, nil
	}
	below, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		pkg := types.NewPackage(path, filepath.Base(path))
		pkg.MarkComplete()
		return pkg, nil
	}
	files, err := s.parse(filepath.FromSlash(below))
	if err != nil {
		return nil, err
	}
	config := types.Config{Importer: s, IgnoreFuncBodies: true, Error: func(error) {}}
	pkg, err := config.Check(path, s.fset, files, nil)
	if pkg == nil {
		return nil, err
	}
	s.packages[path] = pkg
	return pkg, nil
}

func (s *source) parse(dir string) ([]*ast.File, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(s.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// selectors gives what the lists name of other packages, as path.Name.
func (s *source) selectors(t *testing.T) map[string]bool {
	t.Helper()
	files, err := s.parse(".")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, file := range files {
		paths := map[string]string{}
		for _, spec := range file.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			paths[filepath.Base(path)] = path
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				if on, ok := selector.X.(*ast.Ident); ok {
					named[paths[on.Name]+"."+selector.Sel.Name] = true
				}
			}
			return true
		})
	}
	return named
}
