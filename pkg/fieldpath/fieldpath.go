// Package fieldpath reads the names by which a config points at a field of a row of data: a
// key, or the way through objects by key and through arrays by index, as in user.tags[0].name.
package fieldpath

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxParts bounds how deep a path goes, since every part reads what the one before it found.
const MaxParts = 32

// Self is the path of the row itself.
const Self = "."

// maxIndex is the length of the largest index.
const maxIndex = 9

// Path names a field of a row.
type Path struct {
	Text    string
	Parts   []string // keys and indexes; nil when Text is Self or a plain key
	Indexed bool     // has an index in brackets
}

// Parse reads a path. The error says what is wrong with it and what would be right.
func Parse(text string) (Path, error) {
	p := Path{Text: text}
	switch {
	case text == "":
		return p, errors.New(`must not be empty; name a field of the rows, like "user.name", or "." for the row itself`)
	case text == Self || !strings.ContainsAny(text, ".[{"):
		return p, nil
	case strings.Contains(text, "{{"):
		return p, errors.New(`names a field of the row and is no template; write it without braces, like "user.name"`)
	}
	for part := range strings.SplitSeq(text, ".") {
		key, rest, indexed := strings.Cut(part, "[")
		if key != "" {
			p.Parts = append(p.Parts, key)
		} else if !indexed || len(p.Parts) > 0 {
			return p, malformed(text)
		}
		for indexed {
			p.Indexed = true
			index, after, closed := strings.Cut(rest, "]")
			if !closed || !isIndex(index) {
				return p, malformed(text)
			}
			p.Parts = append(p.Parts, index)
			if rest, indexed = strings.CutPrefix(after, "["); !indexed && after != "" {
				return p, malformed(text)
			}
		}
	}
	if len(p.Parts) > MaxParts {
		return p, fmt.Errorf("has %d parts; at most %d are allowed", len(p.Parts), MaxParts)
	}
	return p, nil
}

// ParseKeys reads a path that goes through objects alone: neither an index in brackets nor Self.
func ParseKeys(text string) (Path, error) {
	p, err := Parse(text)
	if err == nil && (p.Indexed || text == Self) {
		err = errors.New(`must lead through objects by their keys, like "user.name"; it can name neither the whole row nor a part of an array`)
	}
	return p, err
}

func isIndex(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && len(s) <= maxIndex && strconv.Itoa(n) == s && n >= 0
}

func malformed(text string) error {
	const most = 80
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return fmt.Errorf("is %q, which is no path; write it like \"user.name\" or \"items[0].id\"", text)
}
