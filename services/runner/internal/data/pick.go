package data

import (
	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// picking keeps the named fields of each row, where they stand; those a row lacks are left
// out. omitting keeps all but those.
type picking struct {
	fields []path
	tree   *branch
	deep   []path // those with parts, which a row may also have as plain keys
	omit   bool
}

// branch names fields of an object; one without keys names all that is in it.
type branch struct{ keys map[string]*branch }

func parsePicking(o *form.Object, faults *form.Faults, omit bool) operation {
	p := picking{omit: omit}
	list, ok := o.List("fields")
	if ok || !o.Has("fields") {
		p.fields = parseFields(list, o.At("fields"), parseKeys, faults)
	}
	for _, f := range p.fields {
		if f.Parts != nil {
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
		parts := f.Parts
		if parts == nil || plain[f.Text] {
			parts = []string{f.Text}
		}
		root.add(parts)
	}
	return root
}

func (b *branch) add(parts []string) {
	for i, part := range parts {
		next, known := b.keys[part]
		if known && next.keys == nil {
			return // named whole already
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
			return nil, notAnObject(i, r)
		}
		tree := p.tree
		var plain map[string]bool
		for _, f := range p.deep {
			if f.literal(r) {
				if plain == nil {
					plain = map[string]bool{}
				}
				plain[f.Text] = true
			}
		}
		if plain != nil {
			tree = grow(p.fields, plain)
		}
		changed := true
		if p.omit {
			b, changed = tree.appendOthers(b[:0], r)
		} else {
			b, _ = tree.appendKept(b[:0], r)
		}
		if !changed {
			made = append(made, row)
			continue
		}
		if err := w.making(len(b)); err != nil {
			return nil, err
		}
		made = append(made, string(b))
	}
	return made, nil
}

// appendKept appends what is named of an object, and tells whether that is anything.
func (b *branch) appendKept(out []byte, object gjson.Result) ([]byte, bool) {
	start := len(out)
	out = append(out, '{')
	object.ForEach(func(key, value gjson.Result) bool {
		next, ok := b.keys[key.Str]
		if !ok {
			return true
		}
		undo := len(out)
		out = appendKey(out, start, key.Raw)
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

// appendOthers appends an object without what is named, and tells whether anything is left out.
// An object all of whose fields are named stays as an empty one.
func (b *branch) appendOthers(out []byte, object gjson.Result) (_ []byte, changed bool) {
	start := len(out)
	out = append(out, '{')
	object.ForEach(func(key, value gjson.Result) bool {
		next, named := b.keys[key.Str]
		if named && next.keys == nil {
			changed = true
			return true
		}
		out = appendKey(out, start, key.Raw)
		if named && value.IsObject() {
			var within bool
			out, within = next.appendOthers(out, value)
			changed = changed || within
		} else {
			out = append(out, value.Raw...)
		}
		return true
	})
	return append(out, '}'), changed
}

// appendKey begins a field of the object that begins at start.
func appendKey(out []byte, start int, quoted string) []byte {
	if len(out) > start+1 {
		out = append(out, ',')
	}
	return append(append(out, quoted...), ':')
}
