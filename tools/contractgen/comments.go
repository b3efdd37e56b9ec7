package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

// comments finds what the source says of types of contracts and of their fields.
type comments struct {
	root     string
	packages map[string]map[string]string // by import path, then by Type or Type.Field
}

func newComments(root string) *comments {
	return &comments{root: root, packages: map[string]map[string]string{}}
}

// of gives the comment of a type; "" when it has none or is not of contracts.
func (c *comments) of(t reflect.Type) (string, error) { return c.find(t, "") }

// field gives the comment of a field, beside it or above.
func (c *comments) field(t reflect.Type, f reflect.StructField) (string, error) {
	for _, i := range f.Index[:len(f.Index)-1] { // of an embedded struct
		t = t.Field(i).Type
	}
	return c.find(t, "."+f.Name)
}

func (c *comments) find(t reflect.Type, field string) (string, error) {
	path := t.PkgPath()
	below, ours := strings.CutPrefix(path, "turbocat.io/")
	if !ours {
		return "", nil
	}
	if c.packages[path] == nil {
		found, err := parse(filepath.Join(c.root, filepath.FromSlash(below)))
		if err != nil {
			return "", err
		}
		c.packages[path] = found
	}
	name, _, _ := strings.Cut(t.Name(), "[") // without type arguments
	return c.packages[path][name+field], nil
}

// parse reads the comments of the package in a folder.
func parse(dir string) (map[string]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no Go files in %s: %w", dir, err)
	}
	found := map[string]string{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			types, ok := decl.(*ast.GenDecl)
			if !ok || types.Tok != token.TYPE {
				continue
			}
			for _, spec := range types.Specs {
				addType(found, spec.(*ast.TypeSpec), types.Doc)
			}
		}
	}
	return found, nil
}

func addType(found map[string]string, spec *ast.TypeSpec, doc *ast.CommentGroup) {
	if spec.Doc != nil {
		doc = spec.Doc
	}
	found[spec.Name.Name] = text(doc)
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range fields.Fields.List {
		for _, name := range field.Names {
			comment := text(field.Comment)
			if comment == "" {
				comment = text(field.Doc)
			}
			found[spec.Name.Name+"."+name.Name] = comment
		}
	}
}

// text gives a comment on one line.
func text(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
