package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

//go:embed errors.md.tmpl
var errorsTemplate string

// codeGroup is a const block of codes: what its comment says, and each code with what its own says.
type codeGroup struct {
	Title string
	Codes []codeRow
}

type codeRow struct{ Value, Status, Meaning string }

// errorsPage gives docs/errors.md.
func errorsPage(root string) ([]byte, error) {
	page, err := template.New("errors.md").Parse(errorsTemplate)
	if err != nil {
		return nil, err
	}
	answers, err := codesIn(filepath.Join(root, "contracts", "errs", "errs.go"))
	if err != nil {
		return nil, err
	}
	details, err := codesIn(filepath.Join(root, "contracts", "errs", "detail.go"))
	if err != nil {
		return nil, err
	}
	steps, err := codesIn(filepath.Join(root, "contracts", "runner", "runner.go"))
	if err != nil {
		return nil, err
	}
	if len(answers) != 1 || len(steps) == 0 {
		return nil, fmt.Errorf("%d blocks of codes of answers and %d of steps; want one of the former and some of the latter", len(answers), len(steps))
	}
	for i, code := range answers[0].Codes {
		status, meaning, ok := strings.Cut(code.Meaning, ": ")
		if _, err := strconv.Atoi(status); err != nil || !ok {
			return nil, fmt.Errorf("the comment of %s does not begin with its status, like 404: ...", code.Value)
		}
		answers[0].Codes[i].Status, answers[0].Codes[i].Meaning = status, meaning
	}
	var stepCodes []codeRow
	for _, group := range steps {
		stepCodes = append(stepCodes, group.Codes...)
	}
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{"Answers": answers[0].Codes, "Details": details, "Steps": stepCodes})
	return b.Bytes(), err
}

// codesIn reads the const blocks of a file in which a name begins with Code or has a type that ends in Code. A code without a
// comment is an error.
func codesIn(path string) ([]codeGroup, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var groups []codeGroup
	for _, decl := range file.Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		group := codeGroup{Title: strings.TrimSuffix(text(block.Doc), ".")}
		for _, spec := range block.Specs {
			value := spec.(*ast.ValueSpec)
			of, typed := value.Type.(*ast.Ident)
			literal, ok := value.Values[0].(*ast.BasicLit)
			if !ok || !(typed && strings.HasSuffix(of.Name, "Code") || strings.HasPrefix(value.Names[0].Name, "Code")) {
				continue
			}
			code, err := strconv.Unquote(literal.Value)
			if err != nil {
				return nil, err
			}
			meaning := text(value.Comment)
			if meaning == "" {
				return nil, fmt.Errorf("%s in %s has no comment beside it; say what it means", value.Names[0].Name, path)
			}
			group.Codes = append(group.Codes, codeRow{Value: code, Meaning: strings.ReplaceAll(meaning, "|", "\\|")})
		}
		if group.Codes != nil {
			groups = append(groups, group)
		}
	}
	return groups, nil
}
