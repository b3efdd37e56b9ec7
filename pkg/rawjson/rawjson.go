// Package rawjson measures JSON as it is written, without decoding it: how deep it nests, how
// many values it has, and which numbers. What it is given is valid JSON; of anything else it
// tells nothing, and does not panic.
package rawjson

import (
	"encoding/json"
	"iter"
	"strings"
)

// Depth gives how deep raw nests; 0 when it is neither an array nor an object.
func Depth(raw json.RawMessage) int {
	deepest, level := 0, 0
	outsideStrings(raw, func(i int) int {
		switch raw[i] {
		case '{', '[':
			level++
			deepest = max(deepest, level)
		case '}', ']':
			level--
		}
		return i
	})
	return deepest
}

// Values counts the values of raw, an empty array or object for two.
func Values(raw json.RawMessage) int {
	n := 1
	outsideStrings(raw, func(i int) int {
		if c := raw[i]; c == ',' || c == '{' || c == '[' {
			n++
		}
		return i
	})
	return n
}

// Numbers gives the numbers of raw as they are written.
func Numbers(raw json.RawMessage) iter.Seq[string] {
	return func(yield func(string) bool) {
		outsideStrings(raw, func(i int) int {
			if raw[i] != '-' && (raw[i] < '0' || raw[i] > '9') {
				return i
			}
			end := i + 1
			for end < len(raw) && strings.IndexByte("0123456789.eE+-", raw[end]) >= 0 {
				end++
			}
			if !yield(string(raw[i:end])) {
				return len(raw)
			}
			return end - 1
		})
	}
}

// outsideStrings visits the bytes that are in no string; visit gives the last byte that it has seen.
func outsideStrings(raw []byte, visit func(i int) int) {
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString:
			i = visit(i)
		}
	}
}
