//go:build unix

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"turbocat.io/contracts/errs"
)

const unknownID = "0193a5c0-7a2b-7c3d-8e4f-0123456789ab"

func TestFaults(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.code(t, identityCode)
	workflow := c.workflow(t, []object{step("a", agent, inputs(object{"x": "{{inputs.x}}"}))})
	const fiveMB = 5 << 20
	for name, f := range map[string]struct {
		method, path string
		body         any
		headers      []string
		code         errs.Code
	}{
		"unknown route":               {"GET", "/nothing", nil, nil, errs.NotFound},
		"unknown route with a body":   {"POST", "/nothing/at/all", raw(strings.Repeat("x", fiveMB)), nil, errs.NotFound},
		"wrong method":                {"DELETE", "/auth/login", nil, nil, errs.MethodNotAllowed},
		"another wrong method":        {"PUT", "/agents/" + agent, object{}, nil, errs.MethodNotAllowed},
		"no method":                   {"BREW", "/agents", nil, nil, errs.MethodNotAllowed},
		"malformed JSON":              {"POST", "/agents", raw(`{"name":`), nil, errs.Validation},
		"two values":                  {"POST", "/agents", raw(`{} {}`), nil, errs.Validation},
		"an array":                    {"POST", "/agents", raw(`[]`), nil, errs.Validation},
		"null":                        {"POST", "/auth/login", raw(`null`), nil, errs.Validation},
		"no body":                     {"POST", "/workflows", nil, nil, errs.Validation},
		"invalid UTF-8":               {"POST", "/agents", raw("{\"name\":\"\xff\xfe\",\"type\":\"CODE\",\"config\":{}}"), nil, errs.Validation},
		"NUL in a name":               {"POST", "/agents", raw(`{"name":"a\u0000b","type":"CODE","config":{"runtime":"javascript","source":"x"}}`), nil, errs.Validation},
		"NUL in an address":           {"POST", "/auth/login", raw(`{"email":"a\u0000@b.co","password":"x"}`), nil, ""},
		"huge number":                 {"POST", "/workflows", raw(`{"name":"x","steps":[],"priority":1e999}`), nil, errs.Validation},
		"number beyond integers":      {"POST", "/workflows", raw(`{"name":"x","steps":[],"timeoutMs":99999999999999999999}`), nil, errs.Validation},
		"deep JSON":                   {"POST", "/workflows", raw(`{"name":"x","steps":[],"outputs":` + nested(5000) + `}`), nil, errs.Validation},
		"deeper JSON":                 {"POST", "/agents", raw(`{"name":"x","config":` + nested(9998) + `}`), nil, errs.Validation},
		"deep preferences":            {"PATCH", "/users/me", raw(`{"preferences":{"x":` + nested(9990) + `}}`), nil, errs.Validation},
		"deep inputs":                 {"POST", "/workflows/" + workflow + "/execute", raw(`{"inputs":{"x":` + nested(3000) + `}}`), nil, errs.Validation},
		"deeper inputs":               {"POST", "/workflows/" + workflow + "/execute", raw(`{"inputs":{"x":` + nested(9997) + `}}`), nil, errs.Validation},
		"deepest inputs":              {"POST", "/workflows/" + workflow + "/execute", raw(`{"inputs":{"x":` + nested(200000) + `}}`), nil, errs.Validation},
		"NUL in the inputs":           {"POST", "/workflows/" + workflow + "/execute?wait=60s", raw(`{"inputs":{"x":"\u0000","\u0000":1}}`), nil, ""},
		"a lone surrogate":            {"POST", "/workflows/" + workflow + "/execute?wait=60s", raw(`{"inputs":{"x":"\ud800"}}`), nil, ""},
		"a huge number in the inputs": {"POST", "/workflows/" + workflow + "/execute?wait=60s", raw(`{"inputs":{"x":1e400}}`), nil, ""},
		"5 MB":                        {"POST", "/agents", raw(`{"name":"` + strings.Repeat("x", fiveMB) + `"}`), nil, errs.PayloadTooLarge},
		"5 MB without a token":        {"POST", "/auth/register", raw(strings.Repeat(" ", fiveMB)), nil, errs.PayloadTooLarge},
		"5 MB of inputs":              {"POST", "/workflows/" + unknownID + "/execute", raw(`{"inputs":{"x":"` + strings.Repeat("x", fiveMB) + `"}}`), nil, ""},
		"text":                        {"POST", "/agents", raw("name=x"), []string{"Content-Type", "application/x-www-form-urlencoded"}, errs.UnsupportedMediaType},
		"compressed":                  {"POST", "/agents", raw("x"), []string{"Content-Encoding", "gzip"}, errs.UnsupportedMediaType},
		"unknown id":                  {"GET", "/agents/" + unknownID, nil, nil, errs.NotFound},
		"unknown workflow":            {"GET", "/workflows/" + unknownID, nil, nil, errs.NotFound},
		"unknown execution":           {"GET", "/executions/" + unknownID, nil, nil, errs.NotFound},
		"cancel of an unknown one":    {"POST", "/executions/" + unknownID + "/cancel", nil, nil, errs.NotFound},
		"malformed id":                {"GET", "/agents/7", nil, nil, errs.NotFound},
		"id with NUL":                 {"GET", "/workflows/%00", nil, nil, errs.NotFound},
		"id of another kind":          {"GET", "/workflows/" + agent, nil, nil, errs.NotFound},
		"upper-case id":               {"GET", "/executions/" + strings.ToUpper(unknownID), nil, nil, errs.NotFound},
		"very long id":                {"GET", "/agents/" + strings.Repeat("a", 3000), nil, nil, errs.NotFound},
		"page with cursor":            {"GET", "/agents?page=1&cursor=eyJ9", nil, nil, errs.Validation},
		"search with invalid UTF-8":   {"GET", "/agents?search=%ff", nil, nil, ""},
		"search with NUL":             {"GET", "/workflows?search=%00", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := c.do(t, f.method, f.path, f.body, f.headers...)
			if f.code != "" {
				fault(t, a, f.code)
			} else if a.status >= 500 {
				t.Error(a)
			}
		})
	}

	a := c.do(t, "GET", "/agents/"+unknownID, nil, "X-Request-ID", "mine-1")
	if a.header.Get("X-Request-ID") != "mine-1" {
		t.Errorf("the request id is %s", a.header.Get("X-Request-ID"))
	}
	a = c.do(t, "GET", "/agents/"+unknownID, nil, "X-Request-ID", "with space and \"quotes\"")
	if id := a.header.Get("X-Request-ID"); id == "" || strings.ContainsAny(id, " \"") {
		t.Errorf("the request id is %s", id)
	}
	if a := c.do(t, "DELETE", "/auth/login", nil); !strings.Contains(a.header.Get("Allow"), "POST") {
		t.Errorf("the Allow header is %q", a.header.Get("Allow"))
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// bad are values that are wrong nearly everywhere.
var bad = map[string]string{
	"null": `null`, "true": `true`, "float": `1.5`, "negative": `-1`, "huge number": `1e400`, "huge integer": `99999999999999999999`, "empty string": `""`,
	"string": `"x"`, "NUL": `"a\u0000b"`, "lone surrogate": `"\ud800"`, "invalid UTF-8": "\"\xff\"", "long string": `"` + strings.Repeat("x", 20000) + `"`,
	"template": `"{{inputs.a}} {{"`, "array": `[]`, "array of null": `[null]`, "array of objects": `[{"a":[]}]`, "object": `{}`, "odd keys": `{"":{"__proto__":{"\u0000":1}}}`,
	"deep": nested(1000), "SQL": `"'; DROP TABLE users; --"`,
}

// bodies are wrong as a whole.
var bodies = map[string]string{
	"empty": ``, "blank": ` `, "cut": `{"a":`, "text": `hello`, "array": `[]`, "array of objects": `[{}]`, "null": `null`, "number": `1`, "string": `"x"`, "NUL": "\x00",
	"two": `{}{}`, "unknown field": `{"colour":"red"}`, "empty key": `{"":1}`, "deep": nested(100000), "deep object": strings.Repeat(`{"a":`, 10000) + `1` + strings.Repeat(`}`, 10000),
	"invalid UTF-8": "{\"\xff\":1}", "BOM": "\ufeff{}", "comment": `{/* */}`, "trailing comma": `{"a":1,}`,
}

// params are values of query parameters and headers that are wrong nearly everywhere, as they stand in a URL.
var params = []string{"", "0", "-1", "101", "1.5", "abc", "1e9", "99999999999999999999", "%00", "%ff%fe", "%27%20OR%201=1--", "%F0%9F%92%A5", "null", "2020-13-45", "a&b", "[]", strings.Repeat("x", 4000)}

// ids are path segments that name nothing.
var ids = []string{unknownID, "00000000-0000-0000-0000-000000000000", "x", "%00", "%ff", "..%2f..", "%27", "{id}", unknownID + "0", "urn:uuid:" + unknownID, strings.Repeat("f", 2000)}

// glance reads a stream for a second; false when it has not ended by then, as one need not that is asked for rightly.
func (c *client) glance(t *testing.T, path string, headers ...string) (answer, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	a, err := c.send(ctx, http.MethodGet, "/api/v1"+path, nil, headers...)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	return a, err == nil
}

// TestNothingAnswers500 sends what clients should not to every route of the document.
func TestNothingAnswers500(t *testing.T) {
	t.Parallel()
	c := user(t)
	doc, err := documentOf(c.url)
	if err != nil {
		t.Fatal(err)
	}
	agent := c.agent(t, "DATA", object{"operation": "pick", "fields": []string{"a"}})
	workflow := c.workflow(t, []object{step("a", agent, inputs(object{"data": "{{inputs.data}}"}))})
	execution := c.run(t, workflow, object{"data": []object{{"a": 1}}})
	known := map[string]string{"agents": agent, "workflows": workflow, "executions": execution.ID}

	sent := 0
	expect := func(what string, a answer, refused bool) {
		sent++
		found := strings.Contains(string(a.body), `"valid":false`) // a dry run tells what it would refuse
		if a.status >= 500 || refused && a.status < 400 && !found {
			t.Errorf("%s: %s", what, a)
		}
	}
	for _, path := range doc.Paths.InMatchingOrder() {
		item := doc.Paths.Value(path)
		short := strings.TrimPrefix(path, "/api/v1")
		existing := strings.Replace(short, "{id}", cmp.Or(known[strings.Split(short, "/")[1]], unknownID), 1)
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			op := item.GetOperation(method)
			if op == nil {
				expect("undocumented method", c.do(t, method, existing, nil), true)
				continue
			}
			if op.Security != nil && len((*op.Security)[0]) > 0 { // the first is empty where it is optional
				fault(t, c.as("").do(t, method, existing, nil), errs.Unauthorized)
				sent++
			}
			if strings.Contains(short, "{id}") {
				for _, id := range ids {
					expect("id "+id, c.do(t, method, strings.Replace(short, "{id}", id, 1), nil), true)
				}
			}
			for _, p := range op.Parameters {
				for _, value := range params {
					switch p.Value.In {
					case "query":
						if operation := (operation{method, path, op}); operation.streams() {
							if a, ended := c.glance(t, existing+"?"+p.Value.Name+"="+value); ended {
								expect(p.Value.Name, a, false)
							}
						} else if method == http.MethodGet {
							expect(p.Value.Name, c.do(t, method, existing+"?"+p.Value.Name+"="+value, nil), false)
						} else {
							expect(p.Value.Name, c.do(t, method, strings.Replace(short, "{id}", unknownID, 1)+"?"+p.Value.Name+"="+value, nil), true)
						}
					case "header":
						if operation := (operation{method, path, op}); operation.streams() {
							if a, ended := c.glance(t, existing, p.Value.Name, value); ended {
								expect(p.Value.Name, a, false)
							}
							continue
						}
						expect(p.Value.Name, c.do(t, method, existing, raw(`{}`), p.Value.Name, value), false)
					}
				}
			}
			if op.RequestBody == nil {
				if method != http.MethodDelete && !(operation{method, path, op}).streams() {
					expect("a body that is not asked for", c.do(t, method, existing, raw(`{`)), false)
				}
				continue
			}
			for name, body := range bodies {
				// Execute takes no body at all, too.
				expect(name, c.do(t, method, existing, raw(body)), name != "empty" || op.RequestBody.Value.Required)
			}
			for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x", ";;;", "application/json; charset=utf-16"} {
				expect(kind, c.do(t, method, existing, raw(`{`), "Content-Type", kind), true)
			}
			properties := propertiesOf(op.RequestBody.Value.Content["application/json"].Schema.Value)
			if op.OperationID == "receiveHook" { // its body is its sender's to say
				continue
			}
			if len(properties) == 0 {
				t.Errorf("%s %s documents no properties of its body", method, path)
			}
			for _, property := range properties {
				for name, value := range bad {
					expect(property+" "+name, c.do(t, method, existing, raw(bodyWith(method+" "+short, property, value, agent))), false)
				}
			}
		}
	}
	if sent < 1500 {
		t.Errorf("only %d requests were sent", sent)
	}
	if e := c.execution(t, execution.ID); e.Status != "COMPLETED" {
		t.Errorf("the execution is %s now", e.Status)
	}
	t.Logf("%d requests", sent)
}

// propertiesOf gives the names of a body's properties.
func propertiesOf(s *openapi3.Schema) []string {
	var list []string
	for name := range s.Properties {
		list = append(list, name)
	}
	for _, part := range s.AllOf {
		list = append(list, propertiesOf(part.Value)...)
	}
	slices.Sort(list)
	return list
}

// valid are the fields that let a request come as far as the one at fault.
var valid = map[string]map[string]string{
	"POST /agents":        {"name": `"x"`, "type": `"CODE"`, "config": `{"runtime":"javascript","source":"x"}`},
	"POST /workflows":     {"name": `"x"`, "steps": `[{"stepKey":"a","stepType":"AGENT","agentId":"AGENT"}]`},
	"POST /auth/register": {"email": `"a@example.com"`, "password": `"` + password + `"`, "fullName": `"X"`},
	"POST /auth/login":    {"email": `"a@example.com"`, "password": `"x"`},
}

// bodyWith is a valid body but for one field.
func bodyWith(route, field, value, agent string) string {
	fields := []string{quoted(field) + ":" + value}
	for name, v := range valid[route] {
		if name != field {
			fields = append(fields, quoted(name)+":"+strings.Replace(v, "AGENT\"}", agent+"\"}", 1))
		}
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// TestBadSteps sends steps that are wrong in one field each.
func TestBadSteps(t *testing.T) {
	t.Parallel()
	c := user(t)
	agent := c.code(t, identityCode)
	workflow := c.workflow(t, []object{step("a", agent), step("b", agent, after("a"))})
	for _, field := range strings.Fields(stepFields + " _delete") {
		for name, value := range bad {
			for _, route := range []string{"POST /workflows", "PATCH /workflows/" + workflow} {
				method, path, _ := strings.Cut(route, " ")
				fields := []string{quoted(field) + ":" + value}
				for other, v := range map[string]string{"stepKey": `"b"`, "stepType": `"AGENT"`, "agentId": quoted(agent)} {
					if other != field {
						fields = append(fields, quoted(other)+":"+v)
					}
				}
				a := c.do(t, method, path, raw(fmt.Sprintf(`{"name":"x","steps":[{%s}]}`, strings.Join(fields, ","))))
				if a.status >= 500 {
					t.Errorf("%s %s: %s", field, name, a)
				}
			}
		}
	}
}

// TestBadConfigs sends configs that are wrong in one field each.
func TestBadConfigs(t *testing.T) {
	t.Parallel()
	c := user(t)
	for kind, fields := range map[string]string{
		"CODE":     "runtime source files entry timeoutMs memoryMb allowHosts",
		"API":      "method url headers query body auth retry responseType successStatus timeoutMs",
		"DATA":     "operation pipeline conditions timeoutMs",
		"LLM":      "providers model prompt temperature",
		"WORKFLOW": "workflowId inputs",
	} {
		for _, field := range strings.Fields(fields) {
			for name, value := range bad {
				config := `{` + quoted(field) + `:` + value + `,"runtime":"javascript","source":"x"}`
				if kind != "CODE" {
					config = `{` + quoted(field) + `:` + value + `,"url":"https://example.com","operation":"filter"}`
				}
				a := c.do(t, "POST", "/agents", raw(`{"name":"x","type":"`+kind+`","status":"DRAFT","config":`+config+`}`))
				if a.status >= 500 {
					t.Errorf("%s %s %s: %s", kind, field, name, a)
				}
			}
		}
	}
}
