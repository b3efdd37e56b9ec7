package layout

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var enumPattern = regexp.MustCompile(`enum:"([^"]*)"`)

// TestEnumsAreWhole compares the values that an enum tag documents with the blocks of constants
// in contracts that declare them.
func TestEnumsAreWhole(t *testing.T) {
	files := sources(t)
	var blocks [][]string
	for _, s := range files {
		if s.test || !within(s.path, "contracts") {
			continue
		}
		for _, decl := range s.Decls {
			if values := texts(decl); len(values) > 1 {
				blocks = append(blocks, values)
			}
		}
	}
	compared := 0
	for _, s := range files {
		ast.Inspect(s.File, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil || s.test {
				return true
			}
			tag := enumPattern.FindStringSubmatch(field.Tag.Value)
			if tag == nil {
				return true
			}
			enum := strings.Split(tag[1], ",")
			if problem := incomplete(enum, blocks, &compared); problem != "" {
				t.Errorf("%s documents %s with enum:%q%s", s.path, field.Names[0], tag[1], problem)
			}
			return true
		})
	}
	if compared < 10 {
		t.Errorf("only %d enums are compared; does the search still find them?", compared)
	}
}

// incomplete says what an enum lacks of the blocks that it has two values of. One that is no
// such block has all values of each.
func incomplete(enum []string, blocks [][]string, compared *int) string {
	problem := ""
	for _, block := range blocks {
		if len(enum) < 2 || !slices.Contains(block, enum[0]) || !slices.Contains(block, enum[1]) {
			continue
		}
		*compared++
		if slices.Equal(enum, block) {
			return ""
		}
		for _, value := range block {
			if !slices.Contains(enum, value) {
				problem = "; add " + value + ", which contracts declares beside " + enum[0]
			}
		}
	}
	return problem
}

// texts gives the values of a block of constants that are texts.
func texts(decl ast.Decl) []string {
	gen, ok := decl.(*ast.GenDecl)
	if !ok || gen.Tok != token.CONST {
		return nil
	}
	var values []string
	for _, spec := range gen.Specs {
		if spec := spec.(*ast.ValueSpec); len(spec.Values) == 1 && text(spec.Values[0]) != "" {
			values = append(values, text(spec.Values[0]))
		}
	}
	return values
}
