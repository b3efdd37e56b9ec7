// Package redact takes secrets out of whatever leaves the runner: outputs, errors and log lines. It finds a secret as it is,
// and as JSON, URLs, base64, hexadecimal digits and HTML have it; what code does to it beyond that, such as printing it letter by
// letter, can not be known.
package redact

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"turbocat.io/contracts/runner"
)

// Mask stands where a secret stood.
const Mask = "***"

const (
	// least is how many bytes a secret has that is looked for: what is shorter stands in everything.
	least = 4
	// leastCoded is how many an encoding of it has.
	leastCoded = 5
	// leastPart is how many a half of it has that is looked for in texts.
	leastPart = 8
)

// Redactor knows the secrets of one attempt. The nil Redactor knows none. It is safe for concurrent use.
type Redactor struct {
	forms   []string // the longest first
	numbers []string // those that are part of a JSON number
}

// New makes a redactor of secrets; nil when there is nothing to be taken out.
func New(secrets map[string]string) *Redactor {
	forms := map[string]bool{}
	r := &Redactor{}
	for _, value := range secrets {
		if len(value) < least {
			continue
		}
		for _, form := range formsOf(value) {
			if form == value || len(form) >= leastCoded {
				forms[form] = true
			}
		}
		if strings.Trim(value, "0123456789+-.eE") == "" {
			r.numbers = append(r.numbers, value)
		}
	}
	if len(forms) == 0 {
		return nil
	}
	r.forms = slices.SortedFunc(maps.Keys(forms), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	return r
}

// formsOf gives the ways in which a text is written.
func formsOf(value string) []string {
	quoted := func(s string) string {
		text, _ := json.Marshal(s) // a string always encodes
		return string(text[1 : len(text)-1])
	}
	plain := func(s string) string {
		return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(quoted(s))
	}
	ascii := strconv.QuoteToASCII(value)
	forms := []string{
		value, quoted(value), plain(value), quoted(quoted(value)), plain(plain(value)), ascii[1 : len(ascii)-1], html.EscapeString(value),
		hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value))),
	}
	query := url.QueryEscape(value)
	component := strings.NewReplacer("+", "%20", "%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(query) // as JavaScript has it
	var all strings.Builder
	for _, b := range []byte(value) {
		fmt.Fprintf(&all, "%%%02X", b)
	}
	for _, escaped := range []string{
		query, url.PathEscape(value), component, strings.ReplaceAll(query, "+", "%20"), all.String(),
		strings.NewReplacer("%3B", ";", "%2F", "/", "%3F", "?", "%3A", ":", "%40", "@", "%26", "&", "%3D", "=", "%2B", "+", "%24", "$", "%2C", ",", "%23", "#").Replace(component),
	} {
		forms = append(forms, escaped, lowerEscapes(escaped))
	}
	// In base64 the digits depend on where in a group of three bytes the text begins; those at its borders also on what is beside it.
	for before := range 3 {
		whole := base64.StdEncoding.EncodeToString(append(make([]byte, before), value...))
		inner := whole[(before*8+5)/6 : (before+len(value))*8/6]
		forms = append(forms, inner, strings.NewReplacer("+", "-", "/", "_").Replace(inner))
	}
	return forms
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// Text takes secrets out of a text for people. It may have been cut, so the larger part of a secret goes too.
func (r *Redactor) Text(s string) string {
	if r == nil {
		return s
	}
	return r.mask(s, true)
}

// Error takes secrets out of all that an error says. It stays the same error to errors.Is, and to errors.As a *runner.StepError.
func (r *Redactor) Error(err error) error {
	if r == nil || err == nil {
		return err
	}
	var fault *runner.StepError
	if errors.As(err, &fault) {
		masked := *fault
		masked.Message, masked.Type, masked.Stack = r.Text(fault.Message), r.Text(fault.Type), r.Text(fault.Stack)
		return &masked
	}
	return &redacted{r.Text(err.Error()), err}
}

// redacted is an error that says something else than it did.
type redacted struct {
	text string
	err  error
}

func (e *redacted) Error() string        { return e.text }
func (e *redacted) Is(target error) bool { return errors.Is(e.err, target) }

// JSON takes secrets out of the strings, the names and the numbers of valid JSON, and gives valid JSON.
func (r *Redactor) JSON(raw []byte) []byte {
	if r == nil || !r.suspects(raw) {
		return raw
	}
	var out []byte
	at := 0 // what is before it is in out
	replace := func(from, to int, by string) {
		text, _ := json.Marshal(by) // a string always encodes
		out = append(append(out, raw[at:from]...), text...)
		at = to
	}
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			end := stringEnd(raw, i)
			if masked, found := r.inString(raw[i:end]); found {
				replace(i, end, masked)
			}
			i = end
		case c == '-' || c >= '0' && c <= '9':
			end := i
			for end < len(raw) && strings.IndexByte("+-.eE0123456789", raw[end]) >= 0 {
				end++
			}
			if slices.ContainsFunc(r.numbers, func(n string) bool { return bytes.Contains(raw[i:end], []byte(n)) }) {
				replace(i, end, Mask)
			}
			i = end
		default:
			i++
		}
	}
	if at == 0 {
		return raw
	}
	return append(out, raw[at:]...)
}

// suspects tells whether a closer look is worth it.
func (r *Redactor) suspects(raw []byte) bool {
	return bytes.IndexByte(raw, '\\') >= 0 || slices.ContainsFunc(r.forms, func(form string) bool { return bytes.Contains(raw, []byte(form)) })
}

// stringEnd gives the place behind the JSON string at i.
func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw) && raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(raw))
}

// inString gives a quoted JSON string as text without secrets; false when it has none.
func (r *Redactor) inString(quoted []byte) (string, bool) {
	text := string(quoted[1 : len(quoted)-1])
	if strings.IndexByte(text, '\\') >= 0 && json.Unmarshal(quoted, &text) != nil {
		return Mask, true
	}
	masked := r.mask(text, false)
	return masked, masked != text
}

// span is a part of a text.
type span struct{ from, to int }

// mask puts Mask in the place of secrets; parts tells whether the larger part of one counts.
func (r *Redactor) mask(s string, parts bool) string {
	var found []span
	for _, form := range r.forms {
		found = append(found, spansOf(s, form, parts)...)
	}
	if len(found) == 0 {
		return s
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	at := 0
	for i := 0; i < len(found); {
		from, to := found[i].from, found[i].to
		for i++; i < len(found) && found[i].from <= to; i++ {
			to = max(to, found[i].to)
		}
		out.WriteString(s[at:from])
		out.WriteString(Mask)
		at = to
	}
	out.WriteString(s[at:])
	return strings.ToValidUTF8(out.String(), "\uFFFD")
}

// spansOf gives where a form stands in s; with parts also where the most of it does, its beginning or its end.
func spansOf(s, form string, parts bool) (found []span) {
	half := (len(form) + 1) / 2
	if !parts || half < leastPart {
		half = len(form)
	}
	head, tail := form[:half], form[len(form)-half:]
	for at := 0; ; {
		i := strings.Index(s[at:], head)
		if i < 0 {
			break
		}
		from, to := at+i, at+i+half
		for n := half; n < len(form) && to < len(s) && s[to] == form[n]; n++ {
			to++
		}
		found, at = append(found, span{from, to}), to
	}
	if half == len(form) {
		return found
	}
	for at := 0; ; {
		i := strings.Index(s[at:], tail)
		if i < 0 {
			return found
		}
		from, to := at+i, at+i+half
		for n := len(form) - half; n > 0 && from > 0 && s[from-1] == form[n-1]; n-- {
			from--
		}
		found, at = append(found, span{from, to}), to
	}
}
