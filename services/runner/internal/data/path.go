package data

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// maxParts bounds how deep a path goes, since every part reads what the one before it found.
const maxParts = 32

// path names a field of a row: first a key spelt exactly like it, then the way through
// objects by key and through arrays by index, as in a.b[0].c or a.b.0.c.
type path struct {
	text    string
	parts   []string // nil when text is a plain key
	indexed bool     // has a [0]
}

// self is the path of the row itself.
const self = "."

// parsePath reads a path that stands at the given place of the config.
func parsePath(text, at string, faults *form.Faults) path {
	p := path{text: text}
	switch {
	case text == self || !strings.ContainsAny(text, ".[{"):
		if text == "" {
			faults.Add(at, "required", "must not be empty")
		}
		return p
	case strings.Contains(text, "{{"):
		faults.Add(at, "path", `names a field of the row and is no template; write it without braces, like "user.name"`)
		return p
	}
	for part := range strings.SplitSeq(text, ".") {
		key, rest, indexed := strings.Cut(part, "[")
		if key != "" {
			p.parts = append(p.parts, key)
		} else if !indexed || len(p.parts) > 0 {
			return malformed(p, at, faults)
		}
		for indexed {
			p.indexed = true
			index, after, closed := strings.Cut(rest, "]")
			if _, err := strconv.ParseUint(index, 10, 31); err != nil || !closed {
				return malformed(p, at, faults)
			}
			p.parts = append(p.parts, index)
			if rest, indexed = strings.CutPrefix(after, "["); !indexed && after != "" {
				return malformed(p, at, faults)
			}
		}
	}
	if len(p.parts) > maxParts {
		faults.Add(at, "path", "has %d parts; at most %d are allowed", len(p.parts), maxParts)
	}
	return p
}

func malformed(p path, at string, faults *form.Faults) path {
	faults.Add(at, "path", `is %q, which is no path; write it like "user.name" or "items[0].id"`, p.text)
	return p
}

// find gives the field of a row; false when the row has none. problem tells that the row
// can have no fields.
func (p path) find(row gjson.Result) (v gjson.Result, ok bool, problem string) {
	if p.text == self {
		return row, true, ""
	}
	if row.Type != gjson.JSON {
		return v, false, "the row is " + form.Kind(row) + ", not an object"
	}
	if v, ok = member(row, p.text); ok || p.parts == nil {
		return v, ok, ""
	}
	v = row
	for _, part := range p.parts {
		if v, ok = member(v, part); !ok {
			return v, false, ""
		}
	}
	return v, true, ""
}

// literal tells whether the row has a key spelt exactly like the path.
func (p path) literal(row gjson.Result) bool {
	_, ok := member(row, p.text)
	return ok
}

// member gives the value of a key of an object, or of an index of an array.
func member(v gjson.Result, name string) (found gjson.Result, ok bool) {
	switch {
	case v.IsObject():
		v.ForEach(func(key, value gjson.Result) bool {
			if key.Str != name {
				return true
			}
			found, ok = value, true
			return false
		})
	case v.IsArray():
		index, err := strconv.Atoi(name)
		if err != nil || index < 0 || strconv.Itoa(index) != name {
			return found, false
		}
		v.ForEach(func(_, value gjson.Result) bool {
			if index > 0 {
				index--
				return true
			}
			found, ok = value, true
			return false
		})
	}
	return found, ok
}
