package layout

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const configurationDoc = "docs/configuration.md"

var (
	tagPattern  = regexp.MustCompile(`env:"([A-Z][A-Z0-9_]*)`)
	ownPattern  = regexp.MustCompile(`^TURBOCAT_[A-Z0-9_]+$`)
	namePattern = regexp.MustCompile(`^[A-Z][A-Z0-9_]{2,}$`)
	rowPattern  = regexp.MustCompile("(?m)^\\| *`[A-Z][^|]*\\|") // the first cell of a row
	cellPattern = regexp.MustCompile("`([A-Z][A-Z0-9_]*)`")
)

// TestEnvironmentIsDocumented compares the variables that the code reads with the table rows
// of docs/configuration.md, both ways.
func TestEnvironmentIsDocumented(t *testing.T) {
	doc, err := os.ReadFile(workspace(t) + "/" + configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, cell := range rowPattern.FindAllString(string(doc), -1) {
		for _, name := range cellPattern.FindAllStringSubmatch(cell, -1) {
			documented[name[1]] = true
		}
	}
	read, mentioned := variables(sources(t))
	if len(read) < 20 {
		t.Errorf("only %d variables are read; does the search still find them?", len(read))
	}
	for name, where := range read {
		if !documented[name] && !within(where, "examples") {
			t.Errorf("%s reads %s, which %s does not name; add a row with its default and meaning", where, name, configurationDoc)
		}
	}
	for name := range documented {
		if read[name] == "" && !mentioned[name] {
			t.Errorf("%s names %s, which no code knows; remove the row", configurationDoc, name)
		}
	}
}

// TestTheEnvironmentIsReadInOnePlace keeps configuration explicit: who needs a variable is given it.
func TestTheEnvironmentIsReadInOnePlace(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || within(s.path, "tools") || within(s.path, "examples") || s.dir() == "pkg/service" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			on, ok := call.X.(*ast.Ident)
			if ok && on.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, call.Sel.Name) {
				t.Errorf("%s calls os.%s\n\trule:   the environment is read in pkg/service, tools and examples alone\n\tremedy: add a field with an env tag to the service's Config", s.path, call.Sel.Name)
			}
			return true
		})
	}
}

// variables gives the names of the environment variables that programs read, each with a file
// that does: those in env tags, those looked up in an environment by name, and every text that
// is TURBOCAT_NAME. mentioned are all texts that may be such a name.
func variables(files []source) (read map[string]string, mentioned map[string]bool) {
	read, mentioned = map[string]string{}, map[string]bool{}
	for _, s := range files {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Tag == nil {
					return true
				}
				for _, tag := range tagPattern.FindAllStringSubmatch(n.Tag.Value, -1) {
					read[tag[1]] = s.path
				}
			case *ast.IndexExpr:
				if name := text(n.Index); namePattern.MatchString(name) && isEnviron(n.X) {
					read[name] = s.path
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Getenv" || f.Sel.Name == "LookupEnv") && len(n.Args) == 1 {
					if name := text(n.Args[0]); name != "" {
						read[name] = s.path
					}
				}
			case *ast.BasicLit:
				name := text(n)
				mentioned[name] = namePattern.MatchString(name)
				if ownPattern.MatchString(name) {
					read[name] = s.path
				}
			}
			return true
		})
	}
	return read, mentioned
}

// isEnviron tells whether an expression is a map of the environment, by its name.
func isEnviron(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return strings.EqualFold(e.Name, "environ")
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "environ")
	}
	return false
}

// text gives the value of a string literal, else "".
func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return s
}
