// Package template is the one implementation of {{...}} templates: JSON in which strings
// name values that are put in when it is rendered.
//
// A string that is exactly one template becomes the value itself and keeps its JSON type;
// inside a longer string the value is text. Values are spliced in as raw bytes: nothing is
// decoded and encoded again, and a value that contains "{{" is data. A template is compiled
// once and is safe for concurrent use.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// MaxPaths is how many different paths one template may hold, which bounds the work of a render.
const MaxPaths = 1000

// ErrTooLarge says that a rendered template would be larger than allowed.
var ErrTooLarge = errors.New("rendered template is too large")

// Template is compiled JSON with templates in its strings.
type Template struct {
	raw     []byte
	splices []splice
	paths   []Path
}

// splice is a place in raw that a value replaces.
type splice struct {
	start, end int  // in raw; with the quotes when whole
	whole      bool // the string is this one template
	path       int  // in Template.paths
	field      string
}

// Reference is one use of a path and where it stands in the JSON, such as "values[0]".
type Reference struct {
	Path  Path
	Field string
}

// Problem is a fault of a template, where it stands in the JSON ("" for the top) and its remedy.
type Problem struct {
	Field   string
	Message string
}

// Lookup gives the raw JSON value of a path; false when there is none.
type Lookup func(Path) (json.RawMessage, bool)

// Parse compiles raw, any JSON value. Every malformed template is a Problem and is left
// as text in the result; the result is nil only when raw is no JSON.
func Parse(raw json.RawMessage) (*Template, []Problem) {
	if !json.Valid(raw) {
		return nil, []Problem{{Message: "is not valid JSON; correct its syntax"}}
	}
	p := parser{
		template: &Template{raw: bytes.Clone(raw)},
		index:    map[string]int{},
	}
	p.value(0)
	return p.template, p.problems
}

// Paths gives the different paths of the template in the order they first stand in it.
func (t *Template) Paths() []Path { return t.paths }

// References gives every use of a path in the order of the JSON.
func (t *Template) References() []Reference {
	refs := make([]Reference, len(t.splices))
	for i, s := range t.splices {
		refs[i] = Reference{Path: t.paths[s.path], Field: s.field}
	}
	return refs
}

// Render puts the values in. The paths that lookup does not know stay as they are written
// and are returned. lookup is asked once for each path and must give valid JSON.
func (t *Template) Render(lookup Lookup) ([]byte, []Path) {
	b, unresolved, _ := t.RenderWithin(math.MaxInt, lookup)
	return b, unresolved
}

// RenderWithin is Render for results of at most limit bytes; beyond that it fails with ErrTooLarge.
func (t *Template) RenderWithin(limit int, lookup Lookup) ([]byte, []Path, error) {
	out, _, unresolved, err := t.render(limit, nil, lookup)
	return out, unresolved, err
}

// Hole is a place in a rendered template that somebody else fills: the text of a string, escaped as JSON has it,
// belongs before the byte At.
type Hole struct {
	Path Path
	At   int
}

// RenderAround is RenderWithin for a template of which others know some values: the paths of that root are left out, and what
// is returned, in its order, is where they belong. A string that is one of them alone becomes an empty string.
func (t *Template) RenderAround(limit int, root string, lookup Lookup) ([]byte, []Hole, []Path, error) {
	left := make([]bool, len(t.paths))
	for i, p := range t.paths {
		left[i] = p.Root() == root
	}
	return t.render(limit, left, lookup)
}

// render renders the template; left tells of each path whether it is left out, nil that none is.
func (t *Template) render(limit int, left []bool, lookup Lookup) ([]byte, []Hole, []Path, error) {
	values := make([]json.RawMessage, len(t.paths))
	var unresolved []Path
	var holes []Hole
	size := len(t.raw)
	for i, p := range t.paths {
		if left != nil && left[i] {
			continue
		}
		v, ok := lookup(p)
		if v = trim(v); !ok || len(v) == 0 {
			unresolved = append(unresolved, p)
			continue
		}
		values[i] = v
	}
	for _, s := range t.splices {
		size += len(values[s.path])
	}
	out := make([]byte, 0, min(size, limit))
	at := 0
	for _, s := range t.splices {
		v := values[s.path]
		if left != nil && left[s.path] {
			out = append(out, t.raw[at:s.start]...)
			at = s.end
			hole := Hole{t.paths[s.path], len(out)}
			if s.whole {
				out = append(out, `""`...)
				hole.At++
			}
			holes = append(holes, hole)
			continue
		}
		if v == nil {
			continue
		}
		if len(out)+(s.start-at)+len(v) > limit {
			return nil, nil, unresolved, ErrTooLarge
		}
		out = append(out, t.raw[at:s.start]...)
		at = s.end
		switch {
		case s.whole:
			out = append(out, v...)
		case v[0] == '"' && len(v) > 1:
			out = append(out, v[1:len(v)-1]...)
		default:
			out = appendEscaped(out, v)
		}
	}
	if out = append(out, t.raw[at:]...); len(out) > limit {
		return nil, nil, unresolved, ErrTooLarge
	}
	return out, holes, unresolved, nil
}

// Rename gives the JSON of the template with other paths in it, those that name gives for its own.
func (t *Template) Rename(name func(Path) Path) json.RawMessage {
	var out []byte
	at := 0
	for _, s := range t.splices {
		text, _ := json.Marshal("{{" + name(t.paths[s.path]).String() + "}}") // a string always encodes
		if !s.whole {
			text = text[1 : len(text)-1]
		}
		out = append(append(out, t.raw[at:s.start]...), text...)
		at = s.end
	}
	return append(out, t.raw[at:]...)
}

// appendEscaped puts JSON text into a JSON string.
func appendEscaped(b, text []byte) []byte {
	for _, c := range text {
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, c)
		}
	}
	return b
}

// parser walks valid JSON and notes the templates in its strings.
type parser struct {
	template *Template
	index    map[string]int // of Template.paths by their text
	where    []Segment      // of the value at hand
	problems []Problem
}

// value reads the value at i and gives the place behind it.
func (p *parser) value(i int) int {
	raw := p.template.raw
	i = skipSpace(raw, i)
	switch raw[i] {
	case '"':
		next := skipString(raw, i)
		p.text(i, next)
		return next
	case '{':
		return p.members(i, '}', func(i, _ int) int {
			colon := skipString(raw, i)
			key, _ := unquote(raw[i:colon])
			p.where = append(p.where, Key(key))
			return skipSpace(raw, colon) + 1
		})
	case '[':
		return p.members(i, ']', func(i, n int) int {
			p.where = append(p.where, Index(n))
			return i
		})
	default:
		return skipScalar(raw, i)
	}
}

// members reads an object or an array; enter notes where its n-th value stands and gives its place.
func (p *parser) members(i int, closing byte, enter func(i, n int) int) int {
	raw := p.template.raw
	i = skipSpace(raw, i+1)
	for n := 0; raw[i] != closing; n++ {
		i = skipSpace(raw, p.value(enter(i, n)))
		p.where = p.where[:len(p.where)-1]
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return i + 1
}

// text notes the templates of the string that stands at raw[from:to] with its quotes.
func (p *parser) text(from, to int) {
	body := from + 1
	t := &text{raw: p.template.raw[body : to-1]}
	for {
		start, ok := t.find('{')
		if !ok {
			return
		}
		inside := t.at
		path, fault := t.path()
		if fault != "" {
			t.at = inside
			if _, closed := t.find('}'); !closed {
				p.problem(`"{{" has no matching "}}"; close it, like {{inputs.name}}`)
				return
			}
			p.problem(fmt.Sprintf("the template %q %s", t.raw[start:min(t.at, start+100)], fault))
			continue
		}
		s := splice{start: body + start, end: body + t.at, field: Path(p.where).String()}
		if start == 0 && t.at == len(t.raw) {
			s.start, s.end, s.whole = from, to, true
		}
		if s.path, ok = p.path(path); ok {
			p.template.splices = append(p.template.splices, s)
		}
	}
}

// path gives the number of a path.
func (p *parser) path(path Path) (int, bool) {
	name := path.String()
	n, known := p.index[name]
	if known {
		return n, true
	}
	n = len(p.template.paths)
	if n == MaxPaths {
		if !slices.ContainsFunc(p.problems, func(p Problem) bool { return p.Message == tooManyPaths }) {
			p.problem(tooManyPaths)
		}
		return 0, false
	}
	p.index[name] = n
	p.template.paths = append(p.template.paths, path)
	return n, true
}

var tooManyPaths = "there are more than " + strconv.Itoa(MaxPaths) + " different templates; name a larger value once instead of its parts"

func (p *parser) problem(message string) {
	p.problems = append(p.problems, Problem{Field: Path(p.where).String(), Message: message})
}
