package data

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// mapping makes a row of named fields of each row; a field that the row lacks becomes null.
type mapping struct {
	fields []target
	names  map[string]bool
	keep   bool // the fields of the row that are not named stay, before the others
}

type target struct {
	quoted  string // the name as JSON
	source  path
	literal string // JSON, used instead of source when not empty
}

func parseMapping(o *form.Object, faults *form.Faults) operation {
	const example = `like {"name":"user.name","kind":{"value":"customer"}}`
	m := mapping{names: map[string]bool{}, keep: o.Bool("keep", false)}
	fields, ok := o.Sub("fields")
	if !ok {
		if !o.Has("fields") {
			faults.Add(o.At("fields"), "required", "is missing; name the fields of the new rows, %s", example)
		}
		return m
	}
	fields.Each(func(name string, v form.Value) {
		t := target{quoted: quote(name)}
		switch {
		case v.Type == gjson.String:
			t.source = parsePath(v.Str, v.Path, faults)
		case v.IsObject():
			e, _ := v.Object(faults)
			value, given := e.Raw("value")
			if !given {
				faults.Add(value.Path, "required", `is missing; give {"value":...} or the path of a field`)
			}
			t.literal = value.Result.Raw
			e.Done()
		default:
			faults.Add(v.Path, "type", `must be the path of a field or {"value":...}, not %s`, form.Kind(v.Result))
		}
		m.names[name] = true
		m.fields = append(m.fields, t)
	})
	return m
}

func (m mapping) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var b bytes.Buffer
	for i, row := range rows {
		b.Reset()
		if err := m.row(w, &b, i, row); err != nil {
			return nil, err
		}
		if err := w.making(b.Len()); err != nil {
			return nil, err
		}
		made = append(made, b.String())
	}
	return made, nil
}

func (m mapping) row(w *work, b *bytes.Buffer, i int, row string) error {
	r := gjson.Parse(row)
	b.WriteByte('{')
	field := func(quoted, raw string) {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(quoted)
		b.WriteByte(':')
		b.WriteString(raw)
	}
	if m.keep {
		if !r.IsObject() {
			return &rowFault{row: i, problem: "the row is " + form.Kind(r) + ", not an object"}
		}
		r.ForEach(func(key, value gjson.Result) bool {
			if !m.names[key.Str] {
				field(key.Raw, value.Raw)
			}
			return true
		})
	}
	for _, t := range m.fields {
		if err := w.reading(row); err != nil {
			return err
		}
		raw := t.literal
		if raw == "" {
			v, ok, problem := t.source.find(r)
			if problem != "" {
				return &rowFault{row: i, field: t.source.text, problem: problem}
			}
			if raw = v.Raw; missing(v, ok) {
				raw = "null"
			}
		}
		field(t.quoted, raw)
		if b.Len() > maxBytes {
			return w.making(b.Len())
		}
	}
	b.WriteByte('}')
	return nil
}

// picking keeps the named fields of each row, where they stand; those a row lacks are left out.
type picking struct {
	fields []path
	tree   *branch
	deep   []path // those with parts, which a row may also have as plain keys
}

// branch says what is kept of an object; one without keys is kept whole.
type branch struct{ keys map[string]*branch }

func parsePicking(o *form.Object, faults *form.Faults) operation {
	var p picking
	list, ok := o.List("fields")
	if ok || !o.Has("fields") {
		p.fields = parseFields(list, o.At("fields"), faults)
	}
	for _, f := range p.fields {
		if f.indexed || f.text == self {
			faults.Add(o.At("fields"), "path", "names %q; pick takes keys alone, use map to take a part of an array or the whole row", f.text)
		}
		if f.parts != nil {
			p.deep = append(p.deep, f)
		}
	}
	p.tree = grow(p.fields, nil)
	return p
}

// grow makes the tree of the fields; those in plain are keys as they are spelt.
func grow(fields []path, plain map[string]bool) *branch {
	root := &branch{}
	for _, f := range fields {
		parts := f.parts
		if parts == nil || plain[f.text] {
			parts = []string{f.text}
		}
		root.add(parts)
	}
	return root
}

func (b *branch) add(parts []string) {
	for i, part := range parts {
		next, known := b.keys[part]
		if known && next.keys == nil {
			return // kept whole already
		}
		if i == len(parts)-1 {
			next = &branch{}
		} else if !known {
			next = &branch{keys: map[string]*branch{}}
		}
		if b.keys == nil {
			b.keys = map[string]*branch{}
		}
		b.keys[part] = next
		b = next
	}
}

func (p picking) apply(w *work, rows []string) ([]string, error) {
	made := make([]string, 0, len(rows))
	var b []byte
	for i, row := range rows {
		if err := w.reading(row); err != nil {
			return nil, err
		}
		r := gjson.Parse(row)
		if !r.IsObject() {
			return nil, &rowFault{row: i, problem: "the row is " + form.Kind(r) + ", not an object"}
		}
		tree := p.tree
		var plain map[string]bool
		for _, f := range p.deep {
			if f.literal(r) {
				if plain == nil {
					plain = map[string]bool{}
				}
				plain[f.text] = true
			}
		}
		if plain != nil {
			tree = grow(p.fields, plain)
		}
		b, _ = tree.appendKept(b[:0], r)
		if err := w.making(len(b)); err != nil {
			return nil, err
		}
		made = append(made, string(b))
	}
	return made, nil
}

// appendKept appends what is kept of an object, and tells whether that is anything.
func (b *branch) appendKept(out []byte, object gjson.Result) ([]byte, bool) {
	start := len(out)
	out = append(out, '{')
	object.ForEach(func(key, value gjson.Result) bool {
		next, ok := b.keys[key.Str]
		if !ok {
			return true
		}
		undo := len(out)
		if undo > start+1 {
			out = append(out, ',')
		}
		out = append(append(out, key.Raw...), ':')
		switch {
		case next.keys == nil:
			out = append(out, value.Raw...)
		case value.IsObject():
			if out, ok = next.appendKept(out, value); !ok {
				out = out[:undo]
			}
		default:
			out = out[:undo]
		}
		return true
	})
	return append(out, '}'), len(out) > start+1
}

// quote gives s as a JSON string.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return string(bytes.TrimSpace(b.Bytes()))
}
