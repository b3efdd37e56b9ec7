package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/form"
)

// The ways in which servers tell of the next page.
const (
	pagesByLink   = "link"   // the Link header with rel="next" (RFC 8288)
	pagesByCursor = "cursor" // a value in the body, which is a parameter of the next request, or its URL
	pagesByNumber = "page"   // a parameter that counts
)

const (
	defaultPages = 10
	maxPages     = 100
)

// pagination has a call ask for several pages.
type pagination struct {
	kind   string
	items  template.Path // of the array in a body; nil for the body itself
	cursor template.Path
	param  string // of the query; "" of cursor: its value is a URL
	start  int64
	most   int
}

func parsePagination(o *form.Object, method string, faults *form.Faults) *pagination {
	sub, ok := o.Sub("pagination")
	if !ok {
		return nil
	}
	if method != http.MethodGet {
		faults.Add("method", "is %s; only GET is asked for page after page", method)
	}
	p := &pagination{kind: sub.Required("type", "it must be one of link, cursor, page"), most: int(sub.Int("maxPages", 1, maxPages, defaultPages))}
	p.items = parsePath(sub, "itemsPath", faults)
	switch p.kind {
	case pagesByLink, "":
	case pagesByCursor:
		if sub.Required("cursorPath", `say where the body has it, like "meta.nextCursor"`) != "" {
			p.cursor = parsePath(sub, "cursorPath", faults)
		}
		p.param = sub.String("param", "")
	case pagesByNumber:
		p.param = sub.String("param", "page")
		p.start = sub.Int("start", 0, 1, 1)
	default:
		faults.Add(sub.At("type"), "is %q; it must be one of link, cursor, page", p.kind)
	}
	sub.Done()
	return p
}

// parsePath reads a path as templates have them, without the braces.
func parsePath(o *form.Object, name string, faults *form.Faults) template.Path {
	text := o.String(name, "")
	if text == "" {
		return nil
	}
	quoted, _ := json.Marshal("{{" + text + "}}") // a string always encodes
	t, problems := template.Parse(quoted)
	if len(problems) > 0 || len(t.Paths()) != 1 {
		faults.Add(o.At(name), `is %.100q; write a path like "data.items"`, text)
		return nil
	}
	return t.Paths()[0]
}

// joined are the items of all pages until now.
type joined struct {
	items bytes.Buffer // without the brackets
	asked int
	more  bool // the server has
}

// add takes the items of a page. The error is a *runner.StepError.
func (j *joined) add(p *pagination, body json.RawMessage) (n int, err error) {
	found, ok := body, true
	if p.items != nil {
		found, ok = template.Walk(body, p.items)
	}
	list := gjson.ParseBytes(found)
	if !ok || !list.IsArray() {
		what := "the body"
		if p.items != nil {
			what = p.items.String() + " in the body"
		}
		if !ok {
			return 0, &runner.StepError{Code: runner.CodeInvalidOutput, Message: fmt.Sprintf("page %d: there is no %s; correct pagination.itemsPath", j.asked, what)}
		}
		return 0, &runner.StepError{Code: runner.CodeInvalidOutput, Message: fmt.Sprintf("page %d: %s is %s, not an array; correct pagination.itemsPath", j.asked, what, form.Kind(list))}
	}
	list.ForEach(func(_, item gjson.Result) bool {
		if j.items.Len() > 0 {
			j.items.WriteByte(',')
		}
		j.items.WriteString(item.Raw)
		n++
		return j.items.Len() <= runner.MaxOutput
	})
	if j.items.Len() > runner.MaxOutput {
		return n, tooLarge(fmt.Sprintf("what %d pages have together", j.asked))
	}
	return n, nil
}

// first gives the request for the first page.
func (p *pagination) first(r *request) *request {
	if p.kind != pagesByNumber {
		return r
	}
	counted := *r
	counted.setQuery(p.param, strconv.FormatInt(p.start, 10))
	return &counted
}

// next gives the request for the page after one; nil when there is none. The error is a *runner.StepError.
func (p *pagination) next(r *request, j *joined, header http.Header, body json.RawMessage, items int) (*request, error) {
	after := *r
	switch p.kind {
	case pagesByLink:
		target := nextLink(header)
		if target == "" {
			return nil, nil
		}
		return &after, p.follow(&after, j, target)
	case pagesByCursor:
		raw, ok := template.Walk(body, p.cursor)
		value := gjson.ParseBytes(raw)
		if !ok || value.Type == gjson.Null || value.Type == gjson.False || value.Type == gjson.JSON || plain(value) == "" {
			return nil, nil
		}
		if p.param == "" {
			return &after, p.follow(&after, j, plain(value))
		}
		after.setQuery(p.param, plain(value))
	case pagesByNumber:
		if items == 0 {
			return nil, nil
		}
		after.setQuery(p.param, strconv.FormatInt(p.start+int64(j.asked), 10))
	}
	if after.url.String() == r.url.String() {
		return nil, p.astray(j, "is this page again")
	}
	return &after, nil
}

// follow goes to a URL that a server gave. It may not lead to another host: that would be sent what this one may know.
func (p *pagination) follow(r *request, j *joined, target string) error {
	to, err := r.url.Parse(target)
	switch {
	case err != nil:
		return p.astray(j, "is no URL")
	case to.Scheme != r.url.Scheme || to.Host != r.url.Host || to.User != nil:
		return p.astray(j, fmt.Sprintf("is at another host, %.200q, which would be sent what this one may know", to.Host))
	case to.String() == r.url.String():
		return p.astray(j, "is this page again")
	}
	to.Fragment, to.RawFragment = "", ""
	r.url, r.shown = to, shown(to)
	return nil
}

func (p *pagination) astray(j *joined, why string) error {
	return &runner.StepError{Code: runner.CodeInvalidOutput, Message: fmt.Sprintf("page %d: the next one %s", j.asked, why)}
}

// setQuery sets a parameter in place of those of its name, and leaves the others as they are written.
func (r *request) setQuery(name, value string) {
	to := *r.url
	var kept []string
	for part := range strings.SplitSeq(to.RawQuery, "&") {
		key, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(key); part != "" && (err != nil || decoded != name) {
			kept = append(kept, part)
		}
	}
	to.RawQuery = strings.Join(kept, "&")
	r.url = &to
	r.addQuery(name, value)
}

// nextLink gives the target of the link to the next page; "" for none. The header's form is that of RFC 8288, section 3.
func nextLink(header http.Header) string {
	for _, line := range header.Values("Link") {
		for line != "" {
			var target string
			var relations []string
			if target, relations, line = cutLink(line); target == "" {
				break
			}
			for _, relation := range relations {
				if strings.EqualFold(relation, "next") {
					return target
				}
			}
		}
	}
	return ""
}

// cutLink reads the first link of a header: its target, its relations, and what comes after it. No target is the end, or no link.
func cutLink(text string) (target string, relations []string, rest string) {
	text = strings.TrimLeft(text, " \t,")
	if !strings.HasPrefix(text, "<") {
		return "", nil, ""
	}
	target, text, ok := strings.Cut(text[1:], ">")
	if !ok {
		return "", nil, ""
	}
	for {
		text = strings.TrimLeft(text, " \t")
		if !strings.HasPrefix(text, ";") {
			return target, relations, text
		}
		var name, value string
		name, value, text = cutParameter(text[1:])
		if strings.EqualFold(name, "rel") && relations == nil {
			relations = strings.Fields(value)
		}
	}
}

// cutParameter reads a name, and its value if it has one, which may be quoted.
func cutParameter(text string) (name, value, rest string) {
	end := strings.IndexAny(text, "=;,")
	if end < 0 {
		return strings.TrimSpace(text), "", ""
	}
	name, rest = strings.TrimSpace(text[:end]), text[end:]
	if rest[0] != '=' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	if !strings.HasPrefix(rest, `"`) {
		if end = strings.IndexAny(rest, ";,"); end < 0 {
			return name, strings.TrimSpace(rest), ""
		}
		return name, strings.TrimSpace(rest[:end]), rest[end:]
	}
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && i+1 < len(rest):
			i++
			b.WriteByte(rest[i])
		case rest[i] == '"':
			return name, b.String(), rest[i+1:]
		default:
			b.WriteByte(rest[i])
		}
	}
	return name, b.String(), ""
}
