package run

import (
	"bytes"
	"encoding/json"
	"slices"
)

// prettyColumns is how wide a value may be that stands on one line.
const prettyColumns = 100

// Pretty gives JSON for people: indented, but what fits on one line stands on one.
func Pretty(raw json.RawMessage) string {
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return string(raw)
	}
	var b bytes.Buffer
	pretty(&b, compact.Bytes(), 0, 0)
	return b.String()
}

// pretty writes a compact value that begins in the given column.
func pretty(b *bytes.Buffer, raw []byte, indent, column int) {
	if open := raw[0]; open != '{' && open != '[' || len(raw) == 2 {
		b.Write(raw)
		return
	}
	parts := split(raw[1 : len(raw)-1])
	if line := onOneLine(raw); column+len(line) <= prettyColumns && indent > 0 {
		b.Write(line)
		return
	}
	b.WriteByte(raw[0])
	plain := raw[0] == '[' && !slices.ContainsFunc(parts, func(p []byte) bool { return p[0] == '{' || p[0] == '[' })
	column = prettyColumns
	for i, part := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		// Numbers and texts of a list fill lines; everything else has one of its own.
		if plain && column+2+len(part) < prettyColumns {
			b.WriteByte(' ')
			b.Write(part)
			column += 2 + len(part)
			continue
		}
		b.WriteByte('\n')
		b.Write(bytes.Repeat([]byte("  "), indent+1))
		column = 2 * (indent + 1)
		if raw[0] == '{' {
			key := keyLength(part)
			b.Write(part[:key])
			b.WriteString(": ")
			part, column = part[key+1:], column+key+2
		}
		pretty(b, part, indent+1, column)
		column += len(part)
	}
	b.WriteByte('\n')
	b.Write(bytes.Repeat([]byte("  "), indent))
	b.WriteByte(raw[len(raw)-1])
}

// split divides the inside of an object or array at its own commas.
func split(raw []byte) [][]byte {
	var parts [][]byte
	begin := 0
	outside(raw, func(i, depth int) {
		if raw[i] == ',' && depth == 0 {
			parts = append(parts, raw[begin:i])
			begin = i + 1
		}
	})
	return append(parts, raw[begin:])
}

// keyLength gives the length of the key with its quotes that an entry of an object begins with.
func keyLength(entry []byte) int {
	length := -1
	outside(entry, func(i, _ int) {
		if entry[i] == ':' && length < 0 {
			length = i
		}
	})
	return length
}

// onOneLine puts a blank behind each comma and colon.
func onOneLine(raw []byte) []byte {
	line := make([]byte, 0, len(raw)+16)
	last := 0
	outside(raw, func(i, _ int) {
		if raw[i] == ',' || raw[i] == ':' {
			line = append(append(line, raw[last:i+1]...), ' ')
			last = i + 1
		}
	})
	return slices.Concat(line, raw[last:])
}

// outside visits the places of compact JSON that are in no string, with how deep they are.
func outside(raw []byte, visit func(i, depth int)) {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		default:
			visit(i, depth)
		}
	}
}
