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

// TestDetailCodesAreAllListed finds codes that are declared and not listed, listed twice, or not explained.
func TestDetailCodesAreAllListed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "detail.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var declared []errs.DetailCode
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
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
		declared = append(declared, errs.DetailCode(code))
		if spec.Comment == nil {
			t.Errorf("%s is not explained; add a comment behind it", spec.Names[0])
		}
		return true
	})
	if listed := errs.DetailCodes(); !slices.Equal(listed, declared) {
		t.Errorf("DetailCodes gives %v\nbut declared are %v", listed, declared)
	}
	slices.Sort(declared)
	if len(declared) != len(slices.Compact(declared)) {
		t.Errorf("a code is declared twice: %v", declared)
	}
}
