package template

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Walk follows segments into raw and gives the value there as a part of raw; a JSON null is
// a value. False for a missing key, an index out of range, a value of another type, or bytes
// that are no JSON. Of a key that stands twice in an object the first counts.
func Walk(raw json.RawMessage, segments []Segment) (json.RawMessage, bool) {
	i := skipSpace(raw, 0)
	for _, s := range segments {
		if i = s.enter(raw, i); i < 0 {
			return nil, false
		}
	}
	next := skipValue(raw, i)
	if next < 0 {
		return nil, false
	}
	return raw[i:next:next], true
}

// enter gives the place of the segment's value in the object or array at i, -1 when it is not there.
func (s Segment) enter(raw []byte, i int) int {
	opening := byte('{')
	if s.IsIndex {
		opening = '['
	}
	if i >= len(raw) || raw[i] != opening {
		return -1
	}
	i = skipSpace(raw, i+1)
	for n := 0; i < len(raw) && raw[i] != '}' && raw[i] != ']'; n++ {
		found := n == s.Index
		if !s.IsIndex {
			next := skipString(raw, i)
			if next < 0 {
				return -1
			}
			found = sameKey(raw[i:next], s.Key)
			if i = skipSpace(raw, next); i >= len(raw) || raw[i] != ':' {
				return -1
			}
			i = skipSpace(raw, i+1)
		}
		if found {
			return i
		}
		if i = skipValue(raw, i); i < 0 {
			return -1
		}
		if i = skipSpace(raw, i); i >= len(raw) || raw[i] != ',' {
			return -1
		}
		i = skipSpace(raw, i+1)
	}
	return -1
}

// sameKey tells whether a quoted JSON string stands for key.
func sameKey(quoted []byte, key string) bool {
	body := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(body, '\\') < 0 && utf8.Valid(body) {
		return string(body) == key
	}
	s, ok := unquote(quoted)
	return ok && s == key
}

func unquote(quoted []byte) (string, bool) {
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err == nil
}

func trim(raw []byte) []byte { return bytes.Trim(raw, " \t\r\n") }

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// skipString gives the place behind the string at i, -1 when none is there.
func skipString(raw []byte, i int) int {
	if i >= len(raw) || raw[i] != '"' {
		return -1
	}
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// skipScalar gives the place behind the number or word at i.
func skipScalar(raw []byte, i int) int {
	for i < len(raw) {
		switch raw[i] {
		case ',', ']', '}', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

// skipValue gives the place behind the value at i, -1 when none is there.
func skipValue(raw []byte, i int) int {
	if i >= len(raw) {
		return -1
	}
	switch raw[i] {
	case '"':
		return skipString(raw, i)
	case '{', '[':
	case ',', ':', ']', '}':
		return -1
	default:
		return skipScalar(raw, i)
	}
	for depth := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			next := skipString(raw, i)
			if next < 0 {
				return -1
			}
			i = next - 1
		}
	}
	return -1
}
