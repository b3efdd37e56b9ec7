package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/form"
)

// call is a config that can be run.
type call struct {
	method       string
	url          address
	headers      *template.Template // of a JSON object; nil when there are none
	query        *template.Template
	body         *template.Template
	auth         *template.Template
	retry        retry
	pages        *pagination // nil for one page
	responseType string
	success      []status
	timeout      time.Duration
}

// retry says how often a call is made again within one attempt of the step.
type retry struct {
	count int
	delay time.Duration
	on    []int // statuses; none means those that are worth it by themselves
}

// status is one status, or with class a hundred of them.
type status struct {
	code  int
	class bool
}

func (s status) matches(code int) bool {
	return s.code == code || s.class && s.code == code/100
}

var (
	methods = []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
	}
	// reserved headers belong to the connection, not to the agent.
	reserved = []string{
		"Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade",
	}
)

const (
	defaultTimeoutMs = 30_000
	maxTimeoutMs     = 24 * 60 * 60 * 1000
	maxRetries       = 10
	maxDelayMs       = 60_000
)

// parse reads a config that can be run, and every fault of one that can not.
func parse(config json.RawMessage) (call, *form.Faults) {
	var faults form.Faults
	o, ok := form.Read(config, &faults)
	if !ok {
		return call{}, &faults
	}
	c := call{
		method:       strings.ToUpper(o.String("method", http.MethodGet)),
		responseType: o.OneOf("responseType", "auto", "auto", "json", "text", "binary"),
		timeout:      time.Duration(o.Int("timeoutMs", 1, maxTimeoutMs, defaultTimeoutMs)) * time.Millisecond,
	}
	if !slices.Contains(methods, c.method) {
		faults.Add("method", "is %q; it must be one of %s", c.method, strings.Join(methods, ", "))
	}
	if text := o.Required("url", `write it like "https://example.com/items/{{id}}"`); text != "" {
		c.url = parseAddress(text, &faults)
	}
	if h, ok := o.Sub("headers"); ok {
		h.Each(func(name string, v form.Value) { checkHeader(name, v, &faults) })
		c.headers = compile(o, "headers", &faults)
	}
	if _, ok := o.Sub("query"); ok {
		c.query = compile(o, "query", &faults)
	}
	if o.Has("body") {
		c.body = compile(o, "body", &faults)
	}
	if a, ok := o.Sub("auth"); ok {
		checkAuth(a, &faults)
		c.auth = compile(o, "auth", &faults)
	}
	c.retry = parseRetry(o, &faults)
	c.pages = parsePagination(o, c.method, &faults)
	if c.pages != nil && c.responseType != "auto" && c.responseType != "json" {
		faults.Add("responseType", "is %q; pages are JSON", c.responseType)
	}
	c.success = parseSuccess(o, &faults)
	o.Done()
	return c, &faults
}

// compile compiles the templates of a field.
func compile(o *form.Object, name string, faults *form.Faults) *template.Template {
	v, _ := o.Raw(name)
	return compileRaw(json.RawMessage(v.Result.Raw), name, faults)
}

func compileRaw(raw json.RawMessage, field string, faults *form.Faults) *template.Template {
	t, problems := template.Parse(raw)
	for _, p := range problems {
		at := field
		if p.Field != "" && p.Field[0] != '[' {
			at += "."
		}
		faults.Add(at+p.Field, "%s", p.Message)
	}
	return t
}

func checkHeader(name string, v form.Value, faults *form.Faults) {
	switch {
	case !token(name):
		faults.Add(v.Path, "is no name of a header; use letters, digits and -")
	case slices.Contains(reserved, http.CanonicalHeaderKey(name)):
		faults.Add(v.Path, "is set by the connection; remove it")
	case v.Type == gjson.String && strings.ContainsAny(v.Str, "\r\n\x00"):
		faults.Add(v.Path, "has a line break; remove it")
	case v.Type == gjson.JSON:
		faults.Add(v.Path, "must be a string, not %s", form.Kind(v.Result))
	}
}

// token tells whether s is a token of RFC 9110.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func checkAuth(o *form.Object, faults *form.Faults) {
	const remedy = "give the value, or a template of an input"
	switch kind := o.Required("type", "it must be one of bearer, basic, apiKey, oauth2"); kind {
	case "bearer":
		o.Required("token", remedy)
	case "basic":
		o.Required("username", remedy)
		o.String("password", "")
	case "apiKey":
		o.Required("value", remedy)
		in := o.OneOf("in", "header", "header", "query")
		name := o.String("name", "")
		if name == "" && in == "query" {
			faults.Add(o.At("name"), "is missing; name the query parameter")
		}
		if in == "header" && name != "" && (!token(name) || slices.Contains(reserved, http.CanonicalHeaderKey(name))) {
			faults.Add(o.At("name"), "is %q, which is no header that can be set", name)
		}
	case "oauth2":
		o.Required("tokenUrl", "give the URL of the token endpoint")
		o.Required("clientId", remedy)
		o.Required("clientSecret", remedy)
		o.String("audience", "")
		scopes, _ := o.List("scopes")
		for _, scope := range scopes {
			scope.Text(faults)
		}
	case "":
		return
	default:
		faults.Add(o.At("type"), "is %q; it must be one of bearer, basic, apiKey, oauth2", kind)
		return
	}
	o.Done()
}

func parseRetry(o *form.Object, faults *form.Faults) retry {
	r, ok := o.Sub("retry")
	if !ok {
		return retry{}
	}
	parsed := retry{
		count: int(r.Int("count", 0, maxRetries, 0)),
		delay: time.Duration(r.Int("delayMs", 0, maxDelayMs, 1000)) * time.Millisecond,
	}
	list, _ := r.List("statusCodes")
	for _, v := range list {
		if v.Type != gjson.Number || v.Num < 100 || v.Num > 599 || v.Num != float64(int(v.Num)) {
			faults.Add(v.Path, "must be a status from 100 to 599")
			continue
		}
		parsed.on = append(parsed.on, int(v.Num))
	}
	r.Done()
	return parsed
}

func parseSuccess(o *form.Object, faults *form.Faults) []status {
	list, ok := o.List("successStatus")
	if !ok {
		return []status{{code: 2, class: true}}
	}
	if len(list) == 0 {
		faults.Add(o.At("successStatus"), `must name at least one status, like "2xx" or "404"`)
	}
	var statuses []status
	for _, v := range list {
		text := v.String()
		digits, class := strings.CutSuffix(strings.ToLower(text), "xx")
		n, err := strconv.Atoi(digits)
		if err != nil || class && (n < 1 || n > 5) || !class && (n < 100 || n > 599) || v.Type == gjson.JSON {
			faults.Add(v.Path, `is %.20q; it must be a status like "404" or a class like "2xx"`, text)
			continue
		}
		statuses = append(statuses, status{code: n, class: class})
	}
	return statuses
}

// parseURL reads a whole URL. Its error never holds the URL, which may hold a secret.
func parseURL(text string) (*url.URL, string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, "is no URL: " + guard.Reason(err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "must begin with http:// or https://"
	case u.Hostname() == "":
		return nil, "names no host"
	}
	u.Fragment, u.RawFragment = "", ""
	return u, ""
}
