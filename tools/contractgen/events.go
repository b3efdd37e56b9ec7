package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"time"

	"turbocat.io/contracts"
	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/subject"
)

//go:embed events.md.tmpl
var eventsTemplate string

// dataType is one Go type of data, which several events may share.
type dataType struct {
	Of      string // the events
	Fields  []fieldRow
	Example string
}

type fieldRow struct {
	Name, Type, Doc string
	Optional        bool
}

// eventsPage gives docs/events.md.
func eventsPage(root string, comments *comments) ([]byte, error) {
	events := contracts.Events()
	data, err := dataTypes(root, comments, events)
	if err != nil {
		return nil, err
	}
	page, err := template.New("events.md").Funcs(template.FuncMap{
		"join":    func(names []string) string { return cmp.Or(strings.Join(names, ", "), "nobody") },
		"kind":    kindOf,
		"body":    bodyOf,
		"subject": func(m contracts.Method) string { return subject.RPC(m.Service, m.Version, m.Name) },
	}).Parse(eventsTemplate)
	if err != nil {
		return nil, err
	}
	parameters := slices.DeleteFunc(contracts.Parameters(), func(p contracts.Parameter) bool {
		return !slices.ContainsFunc(events, func(e contracts.Message) bool { return strings.Contains(e.Subject, "{"+p.Name+"}") })
	})
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{
		"Events": events, "Parameters": parameters, "Attributes": contracts.EventAttributes(), "Data": data,
		"Messages": contracts.Messages(), "Methods": contracts.Methods(), "Actions": audit.Actions(),
	})
	return b.Bytes(), err
}

func kindOf(f contracts.Field) string {
	switch {
	case f.Value != "":
		return "`" + f.Value + "`"
	case f.Integer:
		return "integer"
	case f.Format != "":
		return "string, " + f.Format
	}
	return "string"
}

// bodyOf names the Go type of a message's body.
func bodyOf(m contracts.Message) string {
	switch m.Data {
	case nil:
		return "none"
	case reflect.TypeFor[json.RawMessage]():
		return "any JSON value"
	}
	return "`" + m.Data.String() + "`"
}

// dataTypes describes the types of the events' data in the order of their first event.
func dataTypes(root string, comments *comments, events []contracts.Message) ([]dataType, error) {
	var types []reflect.Type
	names := map[reflect.Type][]string{}
	for _, e := range events {
		if names[e.Data] == nil {
			types = append(types, e.Data)
		}
		names[e.Data] = append(names[e.Data], e.Name)
	}
	var all []dataType
	for _, t := range types {
		fields, err := rows(t, "", comments)
		if err != nil {
			return nil, err
		}
		example, err := fullest(root, names[t])
		if err != nil {
			return nil, err
		}
		all = append(all, dataType{"`" + commonPrefix(names[t]) + "`", fields, example})
	}
	return all, nil
}

// rows describes the fields of a struct, and those of structs in it.
func rows(t reflect.Type, prefix string, comments *comments) ([]fieldRow, error) {
	var all []fieldRow
	for _, field := range reflect.VisibleFields(t) {
		name := jsonName(field)
		if field.Anonymous || !field.IsExported() || name == "-" {
			continue
		}
		doc, err := comments.field(t, field)
		if err != nil {
			return nil, err
		}
		if doc == "" {
			return nil, fmt.Errorf("%s.%s has no comment; say beside the field what it means", t, field.Name)
		}
		of, inner := typeText(field)
		all = append(all, fieldRow{prefix + name, of, doc, strings.Contains(field.Tag.Get("json"), ",omit")})
		if inner == nil {
			continue
		}
		within, err := rows(inner, prefix+name+".", comments)
		if err != nil {
			return nil, err
		}
		all = append(all, within...)
	}
	return all, nil
}

// typeText gives a field's type in words, and the struct in it whose fields need rows too.
func typeText(field reflect.StructField) (words string, inner reflect.Type) {
	t := field.Type
	list := ""
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t != reflect.TypeFor[json.RawMessage]() {
		if t.Kind() == reflect.Slice {
			list = "list of "
		}
		t = t.Elem()
	}
	enum, format := field.Tag.Get("enum"), field.Tag.Get("format")
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return "any JSON value", nil
	case t == reflect.TypeFor[time.Time]():
		return list + "string, date-time", nil
	case enum != "":
		return list + "`" + strings.ReplaceAll(enum, ",", "`, `") + "`", nil
	case t.Kind() == reflect.Struct:
		return list + "object", t
	case t.Kind() == reflect.String && format != "":
		return list + "string, " + format, nil
	case t.Kind() == reflect.String:
		return list + "string", nil
	case t.Kind() == reflect.Bool:
		return list + "boolean", nil
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return list + "number", nil
	case t.Kind() == reflect.Map:
		return list + "object", nil
	}
	return list + "integer", nil
}

// fullest gives, indented, the first golden file with the most members in its data.
func fullest(root string, names []string) (string, error) {
	var files []string
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(root, "contracts", "testdata", "golden", name, "*.json"))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	most, best := 0, []byte(nil)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var e struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		if len(e.Data) > most {
			most, best = len(e.Data), raw
		}
	}
	if best == nil {
		return "", fmt.Errorf("%s has no golden file; add one to contracts/testdata/golden", names[0])
	}
	var b bytes.Buffer
	err := json.Indent(&b, best, "", "  ")
	return b.String(), err
}

// commonPrefix gives the one name, or the words at the beginning of all and a star.
func commonPrefix(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	prefix := names[0]
	for _, name := range names[1:] {
		for !strings.HasPrefix(name, prefix) {
			prefix = prefix[:strings.LastIndex(strings.TrimSuffix(prefix, "."), ".")+1]
		}
	}
	return prefix + "*"
}
