package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/inputs"
)

// request is a call with its values put in; it can be sent any number of times.
type request struct {
	method string
	url    *url.URL
	shown  string // the URL without anything that may be secret but its path
	header http.Header
	body   []byte
	client *credentials // that it needs a token of; nil for none
}

const userAgent = "Turbocat"

// resolve puts the values of the task's input into the call.
func (c call) resolve(task executor.Task) (*request, error) {
	in := inputs.Of(task)
	u, err := c.url.resolve(in)
	if err != nil {
		return nil, err
	}
	r := &request{method: c.method, url: u, shown: shown(u), header: http.Header{}}
	if err := c.setBody(r, in); err != nil {
		return nil, err
	}
	r.header.Set("User-Agent", userAgent)
	r.header.Set("Idempotency-Key", task.IdempotencyKey)
	r.header.Set("X-Turbocat-Attempt", strconv.Itoa(task.Attempt))
	if err := each(c.headers, in, func(name string, v gjson.Result) error {
		return r.setHeader("headers."+name, name, plain(v))
	}); err != nil {
		return nil, err
	}
	if err := each(c.query, in, func(name string, v gjson.Result) error {
		if v.IsArray() {
			v.ForEach(func(_, e gjson.Result) bool {
				r.addQuery(name, plain(e))
				return true
			})
			return nil
		}
		r.addQuery(name, plain(v))
		return nil
	}); err != nil {
		return nil, err
	}
	return r, c.setAuth(r, in)
}

// each visits the fields of a template of an object that are not null, with their values put in.
func each(t *template.Template, in *inputs.Inputs, visit func(name string, v gjson.Result) error) error {
	if t == nil {
		return nil
	}
	raw, err := in.Render(t, in.Lookup)
	if err != nil {
		return err
	}
	gjson.ParseBytes(raw).ForEach(func(key, v gjson.Result) bool {
		if v.Type != gjson.Null {
			err = visit(key.Str, v)
		}
		return err == nil
	})
	return err
}

// setBody sends a string as it is and anything else as JSON.
func (c call) setBody(r *request, in *inputs.Inputs) error {
	if c.body == nil {
		return nil
	}
	raw, err := in.Render(c.body, in.Lookup)
	if err != nil {
		return err
	}
	r.body = raw
	r.header.Set("Content-Type", "application/json")
	if v := gjson.ParseBytes(raw); v.Type == gjson.String {
		r.body = []byte(v.Str)
		r.header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	return nil
}

func (c call) setAuth(r *request, in *inputs.Inputs) error {
	if c.auth == nil {
		return nil
	}
	raw, err := in.Render(c.auth, in.Lookup)
	if err != nil {
		return err
	}
	a := gjson.ParseBytes(raw)
	value := func(name string) string {
		v := member(a, name)
		if v.Type == gjson.Null {
			return ""
		}
		return plain(v)
	}
	switch value("type") {
	case "bearer":
		return r.setHeader("auth.token", "Authorization", "Bearer "+value("token"))
	case "basic":
		both := base64.StdEncoding.EncodeToString([]byte(value("username") + ":" + value("password")))
		return r.setHeader("auth", "Authorization", "Basic "+both)
	case "oauth2":
		r.client = &credentials{TokenURL: value("tokenUrl"), ClientID: value("clientId"), ClientSecret: value("clientSecret"), Audience: value("audience")}
		for _, scope := range member(a, "scopes").Array() {
			r.client.Scopes = append(r.client.Scopes, plain(scope))
		}
		if _, problem := parseURL(r.client.TokenURL); problem != "" {
			return invalid("auth.tokenUrl", problem)
		}
		return nil
	}
	name := value("name")
	if value("in") == "query" {
		r.addQuery(name, value("value"))
		return nil
	}
	if name == "" {
		name = "X-API-Key"
	}
	return r.setHeader("auth.value", name, value("value"))
}

// member gives a field of an object, and never takes its name for a path.
func member(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(key, v gjson.Result) bool {
		if key.Str == name {
			found = v
		}
		return key.Str != name
	})
	return found
}

func (r *request) setHeader(field, name, value string) error {
	value = strings.TrimSpace(value)
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return invalid(field, "the value has a line break or another control character, which no header may have")
	}
	r.header.Set(name, value)
	return nil
}

func (r *request) addQuery(name, value string) {
	if r.url.RawQuery != "" {
		r.url.RawQuery += "&"
	}
	r.url.RawQuery += url.QueryEscape(name) + "=" + url.QueryEscape(value)
}

// send sends the request, with the Authorization given unless that is empty.
func (r *request) send(ctx context.Context, client *http.Client, authorization string, ours func() bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(guard.While(ctx, ours), r.method, r.url.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header = r.header.Clone()
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if traceparent := observe.Traceparent(ctx); traceparent != "" && req.Header.Get("Traceparent") == "" {
		req.Header.Set("Traceparent", traceparent)
	}
	return client.Do(req)
}

// shown gives a URL as errors and logs may show it.
func shown(u *url.URL) string {
	public := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return public.String()
}
