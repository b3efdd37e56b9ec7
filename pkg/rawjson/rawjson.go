// Package rawjson measures JSON as it is written, without decoding it: how deep it nests, how
// many values it has, and which numbers. What it is given is valid JSON; of anything else it
// tells nothing, and does not panic. Fault says what is wrong with it.
package rawjson

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep a payload may nest: it becomes part of others, and parsers of JSON end at 10,000.
const MaxDepth = 1000

// Fault tells what is wrong with a payload and what to do, after the name of what it is; "" when it is JSON in UTF-8 and not too deep.
func Fault(raw []byte) string { return FaultBy(json.Valid, raw) }

// FaultBy is Fault with another check of the syntax.
func FaultBy(valid func([]byte) bool, raw []byte) string {
	switch {
	case !utf8.Valid(raw):
		return "is not valid UTF-8; encode it as UTF-8"
	case !valid(raw):
		return "is not valid JSON; correct its syntax"
	case len(raw) > 2*MaxDepth && Depth(raw) > MaxDepth: // each level is two bytes at least
		return "nests deeper than " + strconv.Itoa(MaxDepth) + " levels; make it flatter"
	}
	return ""
}

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
	for i := 0; i < len(raw); i++ {
		if raw[i] == '"' {
			i = endOfString(raw, i)
		} else {
			i = visit(i)
		}
	}
}

// endOfString gives where the string ends that begins at begin.
func endOfString(raw []byte, begin int) int {
	for i := begin + 1; ; i++ {
		next := bytes.IndexByte(raw[i:], '"')
		if next < 0 {
			return len(raw)
		}
		i += next
		slash := i
		for raw[slash-1] == '\\' { // the string's own quote ends this at the latest
			slash--
		}
		if (i-slash)%2 == 0 {
			return i
		}
	}
}
