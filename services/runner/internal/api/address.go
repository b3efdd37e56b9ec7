package api

import (
	"encoding/json"
	"net/url"
	"strings"

	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/form"
	"turbocat.io/services/runner/internal/inputs"
)

// address is a URL with templates. It is cut before its values are known, so that no value
// can move the borders between host, path and query.
type address struct {
	base  *template.Template // scheme and host; a base that is one template may be any URL
	whole bool
	path  *template.Template
	query *template.Template
}

// parseAddress cuts and compiles a URL.
func parseAddress(text string, faults *form.Faults) address {
	base, path, query := cutURL(text)
	a := address{
		base:  compileText(base, faults),
		whole: strings.HasPrefix(base, "{{") && templateEnd(base) == len(base),
		path:  compileText(path, faults),
		query: compileText(strings.ReplaceAll(query, " ", "%20"), faults),
	}
	if a.base != nil && len(a.base.Paths()) == 0 {
		if _, problem := parseURL(base); problem != "" {
			faults.Add("url", "%s", problem)
		}
	}
	return a
}

func compileText(text string, faults *form.Faults) *template.Template {
	raw, _ := json.Marshal(text) // a string always encodes
	return compileRaw(raw, "url", faults)
}

// cutURL cuts a URL before its path and before its query, at no place inside a template.
// The query begins with "?" or is empty; a fragment is dropped.
func cutURL(text string) (base, path, query string) {
	start := 0
	if i := indexOutside(text, 0, ":"); i >= 0 && strings.HasPrefix(text[i:], "://") {
		start = i + len("://")
	}
	if i := indexOutside(text, start, "#"); i >= 0 {
		text = text[:i]
	}
	if i := indexOutside(text, start, "?"); i >= 0 {
		text, query = text[:i], text[i:]
	}
	if i := indexOutside(text, start, `/`); i >= 0 {
		text, path = text[:i], text[i:]
	}
	return text, path, query
}

// indexOutside gives the first place from start on of one of chars outside of templates, or -1.
func indexOutside(text string, start int, chars string) int {
	for i := start; i < len(text); i++ {
		if end := templateEnd(text[i:]); end > 0 {
			i += end - 1
		} else if strings.IndexByte(chars, text[i]) >= 0 {
			return i
		}
	}
	return -1
}

// templateEnd gives the place behind the template that text begins with, 0 when it begins with none.
func templateEnd(text string) int {
	if !strings.HasPrefix(text, "{{") {
		return 0
	}
	end := strings.Index(text, "}}")
	if end < 0 {
		return 0
	}
	return end + len("}}")
}

// resolve puts the values in.
func (a address) resolve(in *inputs.Inputs) (*url.URL, error) {
	base, err := textOf(in, a.base, "url", func(s string) (string, string) {
		if !a.whole && strings.ContainsFunc(s, notInHost) {
			return "", "has characters that can not stand in the name of a host"
		}
		return s, ""
	})
	if err != nil {
		return nil, err
	}
	path, err := textOf(in, a.path, "url", func(s string) (string, string) {
		if s == "." || s == ".." {
			return "", "would climb out of its place in the path"
		}
		return url.PathEscape(s), ""
	})
	if err != nil {
		return nil, err
	}
	query, err := textOf(in, a.query, "url", func(s string) (string, string) { return url.QueryEscape(s), "" })
	if err != nil {
		return nil, err
	}
	if a.whole && path != "" {
		base = strings.TrimSuffix(base, "/")
	}
	u, problem := parseURL(base + path + query)
	if problem != "" {
		return nil, invalid("url", problem)
	}
	return u, nil
}

func notInHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:", r))
}
