package template

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Path is what stands between the braces: a root word and the way from there into its value.
// The first segment is always a key.
type Path []Segment

// Segment is one part of a path: a key of an object, or an index into an array.
type Segment struct {
	Key     string
	Index   int
	IsIndex bool
}

// Key makes the segment for a key of an object.
func Key(name string) Segment { return Segment{Key: name} }

// Index makes the segment for a place in an array, from 0.
func Index(i int) Segment { return Segment{Index: i, IsIndex: true} }

// Root is the first word of the path: inputs, metadata, secrets, item, index or a step key.
func (p Path) Root() string {
	if len(p) == 0 {
		return ""
	}
	return p[0].Key
}

// String gives the path as it is written in a template, without spaces; equal paths give equal strings.
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.IsIndex:
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(s.Index))
			b.WriteByte(']')
		case isName(s.Key):
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Key)
		default:
			b.WriteString(`["`)
			b.WriteString(keyEscaper.Replace(s.Key))
			b.WriteString(`"]`)
		}
	}
	return b.String()
}

var keyEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func isName(s string) bool {
	if s == "" || !nameStart(rune(s[0])) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !namePart(rune(s[i])) {
			return false
		}
	}
	return true
}

func nameStart(c rune) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func namePart(c rune) bool  { return nameStart(c) || c == '-' || c >= '0' && c <= '9' }

// text reads the characters of a JSON string's body, so that what an escape stands for
// counts and the place in the raw bytes is known.
type text struct {
	raw []byte // without the quotes
	at  int
}

const end rune = -1

// peek gives the next character and how many raw bytes it takes.
func (t *text) peek() (rune, int) {
	if t.at >= len(t.raw) {
		return end, 0
	}
	c := t.raw[t.at]
	if c < utf8.RuneSelf && c != '\\' {
		return rune(c), 1
	}
	if c != '\\' {
		return utf8.DecodeRune(t.raw[t.at:])
	}
	if t.at+1 >= len(t.raw) {
		return end, 0
	}
	switch e := t.raw[t.at+1]; e {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(t.raw, t.at+2)
		if r2 := hex4(t.raw, t.at+8); utf16.IsSurrogate(r) && r2 >= 0 && t.raw[t.at+6] == '\\' && t.raw[t.at+7] == 'u' {
			if pair := utf16.DecodeRune(r, r2); pair != utf8.RuneError {
				return pair, 12
			}
		}
		if r < 0 {
			return end, 0
		}
		return r, 6
	default:
		return rune(e), 2
	}
}

// hex4 reads four hexadecimal digits; -1 when they are not there.
func hex4(b []byte, at int) rune {
	if at+4 > len(b) {
		return -1
	}
	n, err := strconv.ParseUint(string(b[at:at+4]), 16, 32)
	if err != nil {
		return -1
	}
	return rune(n)
}

// accept steps over the next character when it is c.
func (t *text) accept(c rune) bool {
	r, n := t.peek()
	if r != c || r == end {
		return false
	}
	t.at += n
	return true
}

// acceptTwice steps over the next two characters when both are c, over one when only that is.
func (t *text) acceptTwice(c rune) bool {
	if !t.accept(c) {
		return false
	}
	return t.accept(c)
}

func (t *text) skipSpace() {
	for t.accept(' ') || t.accept('\t') || t.accept('\n') || t.accept('\r') {
	}
}

// find steps to behind the next two c in a row and gives the place of the first; false when there are none.
func (t *text) find(c rune) (start int, ok bool) {
	for {
		r, n := t.peek()
		if r == end {
			return 0, false
		}
		start = t.at
		t.at += n
		if r == c && t.accept(c) {
			return start, true
		}
	}
}

// path reads a path up to and with its "}}". The fault is empty when it could.
func (t *text) path() (p Path, fault string) {
	t.skipSpace()
	root, ok := t.name()
	if !ok {
		return nil, "must begin with inputs, metadata or the key of a step"
	}
	p = Path{Key(root)}
	for {
		switch {
		case t.accept('.'):
			name, ok := t.name()
			if !ok {
				return nil, `needs a name after the "."; write ["..."] around any other key and [0] for a place in an array`
			}
			p = append(p, Key(name))
		case t.accept('['):
			s, fault := t.bracket()
			if fault != "" {
				return nil, fault
			}
			p = append(p, s)
		default:
			t.skipSpace()
			if t.acceptTwice('}') {
				return p, ""
			}
			return nil, `may hold a path and nothing else; write it like {{inputs.name}} or {{stepKey.output.list[0]}}`
		}
	}
}

func (t *text) name() (string, bool) {
	var b []byte
	for {
		r, n := t.peek()
		if !(nameStart(r) || len(b) > 0 && namePart(r)) {
			return string(b), len(b) > 0
		}
		b = append(b, byte(r))
		t.at += n
	}
}

// bracket reads what follows a "[", up to and with the "]".
func (t *text) bracket() (s Segment, fault string) {
	const remedy = `has a malformed [...]; write a place in an array as [0] and a key as ["any key"]`
	if t.accept('"') {
		key, ok := t.quoted()
		if !ok || !t.accept(']') {
			return s, remedy
		}
		return Key(key), ""
	}
	n, digits := 0, 0
	for ; digits < 10; digits++ {
		r, size := t.peek()
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int(r-'0')
		t.at += size
	}
	if digits == 0 || digits == 10 || !t.accept(']') {
		return s, remedy
	}
	return Index(n), ""
}

func (t *text) quoted() (string, bool) {
	var b []byte
	for {
		r, n := t.peek()
		if r == end {
			return "", false
		}
		t.at += n
		if r == '"' {
			return string(b), true
		}
		if r == '\\' {
			if r, n = t.peek(); r != '"' && r != '\\' {
				return "", false
			}
			t.at += n
		}
		b = utf8.AppendRune(b, r)
	}
}
