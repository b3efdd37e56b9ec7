package errs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"turbocat.io/contracts/errs"
)

// TestCodesAreAllListed finds codes that are declared and not listed, listed twice, or not explained.
func TestCodesAreAllListed(t *testing.T) {
	listed(t, "errs.go", errs.Codes())
	listed(t, "detail.go", errs.DetailCodes())
}

func listed[C ~string](t *testing.T, name string, list []C) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var declared []C
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) == 0 {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is no plain text", spec.Names[0])
		}
		code, err := strconv.Unquote(value.Value)
		if err != nil {
			t.Fatal(err)
		}
		declared = append(declared, C(code))
		if spec.Comment == nil {
			t.Errorf("%s is not explained; add a comment behind it", spec.Names[0])
		}
		return true
	})
	for _, code := range declared {
		if !slices.Contains(list, code) {
			t.Errorf("%s declares %s and does not list it; add it there, in the order of the declarations", name, code)
		}
	}
	if len(list) >= len(declared) && !slices.Equal(list, declared) {
		t.Errorf("the list of %s is not in the order of its declarations: it has %v\nand declares %v", name, list, declared)
	}
	slices.Sort(declared)
	if len(declared) != len(slices.Compact(declared)) {
		t.Errorf("a code is declared twice: %v", declared)
	}
}
