package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/observe"
)

// scenario is one call and what must come back.
type scenario struct {
	name string
	request
	status int
	code   errs.Code // of the error; "" for success
	faults []string  // field and code of the error's details, sorted
	holds  string    // text that the answer contains
	header map[string]string
}

func TestRoutes(t *testing.T) {
	w := start(t, setup{})
	session := `{"email":"a@x.io","password":"Secret-123!","fullName":"A B"}`
	login := `{"email":"a@x.io","password":"Secret-123!"}`
	thing := "/" + thingID
	for _, s := range []scenario{
		// accounts
		{name: "register", request: request{method: "POST", path: "/api/v1/auth/register", body: session}, status: 201, holds: `"accessToken":"alice.access.token"`},
		{name: "register a taken address", request: request{method: "POST", path: "/api/v1/auth/register", body: strings.Replace(session, "a@", "taken@", 1)}, status: 409, code: errs.Conflict},
		{name: "login", request: request{method: "POST", path: "/api/v1/auth/login", body: login}, status: 200},
		{name: "login without content type", request: request{method: "POST", path: "/api/v1/auth/login", body: login}, status: 200},
		{name: "login twice wrong", request: request{method: "POST", path: "/api/v1/auth/login", body: `{"email":7,"pasword":"x"}`}, status: 400, code: errs.Validation, faults: []string{"email bad_type", "password required", "pasword unknown_field"}},
		{name: "refresh", request: request{method: "POST", path: "/api/v1/auth/refresh", body: `{"refreshToken":"r"}`}, status: 200},
		{name: "logout", request: request{method: "POST", path: "/api/v1/auth/logout", body: `{"refreshToken":"r"}`}, status: 204},
		{name: "me", request: request{method: "GET", path: "/api/v1/users/me", token: aliceToken}, status: 200, holds: alice.UserID},
		{name: "change me", request: request{method: "PATCH", path: "/api/v1/users/me", token: aliceToken, body: `{"avatarUrl":null}`}, status: 200, holds: `"preferences":{"avatarUrl":null}`},

		// secrets
		{name: "list secrets", request: request{method: "GET", path: "/api/v1/secrets?pageSize=7&search=k", token: aliceToken}, status: 200, holds: `"data":[{"name":"KEY","createdAt":"1970-01-01T00:00:01Z","updatedAt":"1970-01-01T00:00:02Z"}]`},
		{name: "make a secret", request: request{method: "PUT", path: "/api/v1/secrets/NEW", token: aliceToken, body: `{"value":"hunter2"}`}, status: 201, holds: `"name":"KEY"`},
		{name: "change a secret", request: request{method: "PUT", path: "/api/v1/secrets/KEY", token: aliceToken, body: `{"value":"hunter2"}`}, status: 200},
		{name: "secret with a bad name", request: request{method: "PUT", path: "/api/v1/secrets/1", token: aliceToken, body: `{"value":"hunter2"}`}, status: 400, code: errs.Validation, faults: []string{"name bad_value"}},
		{name: "secret malformed", request: request{method: "PUT", path: "/api/v1/secrets/KEY", token: aliceToken, body: `{"value":"hunter2"`}, status: 400, code: errs.Validation},
		{name: "secret no object", request: request{method: "PUT", path: "/api/v1/secrets/KEY", token: aliceToken, body: `"hunter2"`}, status: 400, code: errs.Validation},
		{name: "delete a secret", request: request{method: "DELETE", path: "/api/v1/secrets/KEY", token: aliceToken}, status: 204},
		{name: "delete no secret", request: request{method: "DELETE", path: "/api/v1/secrets/nope", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "secrets without a token", request: request{method: "GET", path: "/api/v1/secrets"}, status: 401, code: errs.Unauthorized},

		// tokens
		{name: "no token", request: request{method: "GET", path: "/api/v1/users/me"}, status: 401, code: errs.Unauthorized, header: map[string]string{"WWW-Authenticate": "Bearer"}},
		{name: "bad token", request: request{method: "GET", path: "/api/v1/users/me", token: "nonsense"}, status: 401, code: errs.Unauthorized},
		{name: "expired token", request: request{method: "GET", path: "/api/v1/users/me", token: "expired.access.token"}, status: 401, code: errs.TokenExpired},
		{name: "basic", request: request{method: "GET", path: "/api/v1/users/me", header: map[string]string{"Authorization": "Basic YTpi"}}, status: 401, code: errs.Unauthorized},
		{name: "spoofed caller", request: request{method: "GET", path: "/api/v1/users/me", header: map[string]string{"Tc-User": bob.UserID, "Tc-Role": "ADMIN"}}, status: 401, code: errs.Unauthorized},

		// agents
		{
			name: "list agents", request: request{method: "GET", path: "/api/v1/agents?page=2&pageSize=5&type=CODE&status=ACTIVE&tags=a,b&tags=c&isPublic=true&search=x&sortBy=name&sortOrder=asc", token: aliceToken}, status: 200,
			holds: `{\"page\":2,\"pageSize\":5,\"search\":\"x\",\"sortBy\":\"name\",\"sortOrder\":\"asc\",\"type\":\"CODE\",\"status\":\"ACTIVE\",\"tags\":[\"a\",\"b\",\"c\"],\"isPublic\":true}`,
		},
		{name: "list agents by default", request: request{method: "GET", path: "/api/v1/agents", token: aliceToken}, status: 200, holds: `{\"pageSize\":20}`},
		{name: "page and cursor", request: request{method: "GET", path: "/api/v1/agents?page=1&cursor=abc", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"page bad_value"}},
		{name: "all parameters wrong", request: request{method: "GET", path: "/api/v1/agents?page=x&pageSize=101&type=NOPE&sortOrder=up&isPublic=1", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"isPublic bad_enum", "page bad_type", "pageSize out_of_range", "sortOrder bad_enum", "type bad_enum"}},
		{name: "page 0", request: request{method: "GET", path: "/api/v1/agents?page=0", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"page out_of_range"}},
		{name: "create agent", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `{"name":"n","type":"CODE","config":{"source":"<b>"}}`}, status: 201, header: map[string]string{"ETag": `"1"`}, holds: `"name":"n"`},
		{name: "create agent without content type", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `{"x":1}`, header: map[string]string{"Content-Type": "none"}}, status: 201},
		{name: "create agent with +json", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `{"x":1}`, header: map[string]string{"Content-Type": "application/merge-patch+json; charset=utf-8"}}, status: 201},
		{name: "get agent", request: request{method: "GET", path: "/api/v1/agents" + thing, token: aliceToken}, status: 200, header: map[string]string{"ETag": `"3"`}},
		{name: "get unknown agent", request: request{method: "GET", path: "/api/v1/agents/01930000-0000-7000-8000-000000000999", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "get agent without id", request: request{method: "GET", path: "/api/v1/agents/nonsense", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "id in braces", request: request{method: "GET", path: "/api/v1/agents/%7B" + thingID + "%7D", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "patch agent", request: request{method: "PATCH", path: "/api/v1/agents" + thing, token: aliceToken, body: `{}`, header: map[string]string{"If-Match": `"3"`}}, status: 200, header: map[string]string{"ETag": `"4"`}},
		{name: "patch any version", request: request{method: "PATCH", path: "/api/v1/agents" + thing, token: aliceToken, body: `{}`, header: map[string]string{"If-Match": `*`}}, status: 200},
		{name: "patch old version", request: request{method: "PATCH", path: "/api/v1/agents" + thing, token: aliceToken, body: `{}`, header: map[string]string{"If-Match": `"2"`}}, status: 412, code: errs.PreconditionFailed},
		{name: "patch weak version", request: request{method: "PATCH", path: "/api/v1/agents" + thing, token: aliceToken, body: `{}`, header: map[string]string{"If-Match": `W/"3"`}}, status: 412, code: errs.PreconditionFailed},
		{name: "delete agent", request: request{method: "DELETE", path: "/api/v1/agents" + thing, token: aliceToken}, status: 204},

		// workflows
		{name: "empty list", request: request{method: "GET", path: "/api/v1/workflows", token: aliceToken}, status: 200, holds: `"data":[]`},
		{name: "get workflow", request: request{method: "GET", path: "/api/v1/workflows" + thing, token: aliceToken}, status: 200, header: map[string]string{"ETag": `"7"`}},
		{name: "faulty workflow", request: request{method: "POST", path: "/api/v1/workflows", token: aliceToken, body: `{"name":"w","steps":[]}`}, status: 400, code: errs.Validation, faults: []string{"steps[1].dependsOn[0] unknown_step"}},
		{name: "internal", request: request{method: "PATCH", path: "/api/v1/workflows" + thing, token: aliceToken, body: `{}`}, status: 500, code: errs.Internal},
		{name: "forbidden", request: request{method: "DELETE", path: "/api/v1/workflows" + thing, token: aliceToken}, status: 403, code: errs.Forbidden},
		{name: "execute", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute", token: aliceToken, body: `{"inputs":{"n":20},"priority":7}`}, status: 201, holds: `"inputs":{"n":20}`},
		{name: "execute without body", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute", token: aliceToken}, status: 201},
		{name: "execute wrongly", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute", token: aliceToken, body: `{"inputs":[],"priority":"high","x":1}`}, status: 400, code: errs.Validation, faults: []string{"inputs bad_type", "priority bad_type", "x unknown_field"}},
		{name: "wait too long", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute?wait=121s", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"wait out_of_range"}},
		{name: "wait without unit", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute?wait=30", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"wait out_of_range"}},
		{name: "executions of a workflow", request: request{method: "GET", path: "/api/v1/workflows" + thing + "/executions", token: aliceToken}, status: 200, holds: `"workflowId":"` + thingID},
		{name: "executions of no workflow", request: request{method: "GET", path: "/api/v1/workflows/01930000-0000-7000-8000-000000000999/executions", token: aliceToken}, status: 404, code: errs.NotFound},

		// triggers
		{name: "make a trigger", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/triggers", token: aliceToken, body: `{"name":"n","cron":"@daily"}`}, status: 201, holds: `"workflowId":"` + thingID},
		{name: "change a trigger", request: request{method: "PATCH", path: "/api/v1/workflows" + thing + "/triggers" + thing, token: aliceToken, body: `{"enabled":false}`}, status: 200, holds: `enabled\":false`},
		{name: "delete a trigger", request: request{method: "DELETE", path: "/api/v1/workflows" + thing + "/triggers" + thing, token: aliceToken}, status: 204},
		{name: "get no trigger", request: request{method: "GET", path: "/api/v1/workflows" + thing + "/triggers/01930000-0000-7000-8000-000000000999", token: aliceToken}, status: 404, code: errs.NotFound},
		{name: "list triggers", request: request{method: "GET", path: "/api/v1/workflows" + thing + "/triggers?search=x&sortBy=name", token: aliceToken}, status: 200, holds: `\"sortBy\":\"name\"`},
		{name: "a trigger without a body", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/triggers", token: aliceToken}, status: 400, code: errs.Validation},
		{name: "a change without a body", request: request{method: "PATCH", path: "/api/v1/workflows" + thing + "/triggers" + thing, token: aliceToken, body: `[]`}, status: 400, code: errs.Validation},
		{name: "preview", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/triggers/preview", token: aliceToken, body: `{"cron":"@daily"}`}, status: 200, holds: `"nextFireTimes":["1970`},
		{name: "preview of nothing", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/triggers/preview", token: aliceToken, body: `7`}, status: 400, code: errs.Validation},
		{name: "skips", request: request{method: "GET", path: "/api/v1/workflows" + thing + "/triggers" + thing + "/skips?reason=OVERLAP&pageSize=7", token: aliceToken}, status: 200, holds: `\"pageSize\":7,\"workflowId`},
		{name: "skips wrongly", request: request{method: "GET", path: "/api/v1/workflows" + thing + "/triggers" + thing + "/skips?reason=BORED", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"reason bad_enum"}},

		// executions
		{name: "list executions", request: request{method: "GET", path: "/api/v1/executions?status=RUNNING&from=2026-01-01T00:00:00Z", token: aliceToken}, status: 200},
		{name: "list executions wrongly", request: request{method: "GET", path: "/api/v1/executions?from=yesterday&status=DONE&workflowId=7", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"from bad_value", "status bad_enum", "workflowId bad_value"}},
		{name: "get execution", request: request{method: "GET", path: "/api/v1/executions" + thing, token: aliceToken}, status: 200, holds: `"status":"RUNNING"`},
		{name: "get another's execution", request: request{method: "GET", path: "/api/v1/executions" + thing, token: bobToken}, status: 404, code: errs.NotFound},
		{name: "logs", request: request{method: "GET", path: "/api/v1/executions" + thing + "/logs?level=WARN", token: aliceToken}, status: 200, holds: `"level":"WARN"`},
		{name: "another's logs", request: request{method: "GET", path: "/api/v1/executions" + thing + "/logs", token: bobToken}, status: 404, code: errs.NotFound},
		{name: "logs page and cursor", request: request{method: "GET", path: "/api/v1/executions" + thing + "/logs?page=1&cursor=c", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"page bad_value"}},
		{name: "cancel", request: request{method: "POST", path: "/api/v1/executions" + thing + "/cancel", token: aliceToken}, status: 202, holds: `"commandId":"c1"`},
		{name: "another's events", request: request{method: "GET", path: "/api/v1/executions" + thing + "/events", token: bobToken}, status: 404, code: errs.NotFound},
		{name: "events after nonsense", request: request{method: "GET", path: "/api/v1/executions" + thing + "/events?lastEventId=x", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"lastEventId bad_value"}},

		// audit
		{
			name: "audit trail", request: request{method: "GET", path: "/api/v1/audit-logs?actorId=u&action=agent.updated&resourceType=agent&resourceId=r&outcome=SUCCESS&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&search=x", token: aliceToken}, status: 200,
			holds: `"after":{"pageSize":20,"search":"x","actorId":"u","action":"agent.updated","resourceType":"agent","resourceId":"r","outcome":"SUCCESS","from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}`,
		},
		{name: "audit trail wrongly", request: request{method: "GET", path: "/api/v1/audit-logs?outcome=BAD&to=soon", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"outcome bad_enum", "to bad_value"}},
		{name: "audit trail of nobody", request: request{method: "GET", path: "/api/v1/audit-logs"}, status: 401, code: errs.Unauthorized},

		// HTTP
		{name: "unknown route", request: request{method: "GET", path: "/api/v1/nope"}, status: 404, code: errs.NotFound},
		{name: "root", request: request{method: "GET", path: "/"}, status: 404, code: errs.NotFound},
		{name: "wrong method", request: request{method: "PUT", path: "/api/v1/agents" + thing}, status: 405, code: errs.MethodNotAllowed},
		{name: "made-up method", request: request{method: "BREW", path: "/api/v1/agents"}, status: 405, code: errs.MethodNotAllowed},
		{name: "form", request: request{method: "POST", path: "/api/v1/auth/login", body: "email=a", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, status: 415, code: errs.UnsupportedMediaType},
		{name: "multipart", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: "--x--", header: map[string]string{"Content-Type": "multipart/form-data; boundary=x"}}, status: 415, code: errs.UnsupportedMediaType},
		{name: "gzip", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: "x", header: map[string]string{"Content-Encoding": "gzip"}}, status: 415, code: errs.UnsupportedMediaType},
		{name: "typed body malformed", request: request{method: "POST", path: "/api/v1/auth/login", body: `{"password":"hunter2"`}, status: 400, code: errs.Validation},
		{name: "typed body empty", request: request{method: "POST", path: "/api/v1/auth/login"}, status: 400, code: errs.Validation},
		{name: "typed body no object", request: request{method: "POST", path: "/api/v1/auth/login", body: `["hunter2"]`}, status: 400, code: errs.Validation},
		{name: "typed body null", request: request{method: "POST", path: "/api/v1/auth/login", body: `null`}, status: 400, code: errs.Validation},
		{name: "raw body malformed", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `{"password":"hunter2"`}, status: 400, code: errs.Validation},
		{name: "raw body empty", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken}, status: 400, code: errs.Validation},
		{name: "raw body no object", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `"hunter2"`}, status: 400, code: errs.Validation},
		{name: "raw body too deep", request: request{method: "POST", path: "/api/v1/agents", token: aliceToken, body: `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"}, status: 400, code: errs.Validation},
		{name: "execute malformed", request: request{method: "POST", path: "/api/v1/workflows" + thing + "/execute", token: aliceToken, body: `{`}, status: 400, code: errs.Validation},
		{name: "header too large", request: request{method: "GET", path: "/api/v1/agents", header: map[string]string{"X-Large": strings.Repeat("x", 64<<10)}}, status: 431, code: errs.Validation},
	} {
		t.Run(s.name, func(t *testing.T) { w.check(t, s) })
	}
	w.t = t
	if log := w.log.String(); strings.Contains(log, aliceToken) || strings.Contains(log, "Secret-123!") || strings.Contains(log, "sortBy") {
		t.Error("the log holds a token, a body or a query")
	}
}

func TestCallerReachesTheServices(t *testing.T) {
	w := start(t, setup{})
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	got := w.do(request{method: "GET", path: "/api/v1/users/me", token: aliceToken, header: map[string]string{
		"X-Request-ID": "my-id.1_2", "traceparent": trace, "User-Agent": "test/1", "Tc-User": bob.UserID, "Tc-Role": rpc.RoleAdmin, "X-Forwarded-For": "8.8.8.8",
	}})
	if got.body.RequestID != "my-id.1_2" {
		t.Errorf("requestId %q", got.body.RequestID)
	}
	_, caller := w.called("identity.get_me")
	want := rpc.Caller{UserID: alice.UserID, Role: rpc.RoleUser, SessionID: alice.SessionID, RequestID: "my-id.1_2", Traceparent: trace, IP: "127.0.0.1", UserAgent: "test/1"}
	if fmt.Sprint(caller) != fmt.Sprint(want) {
		t.Errorf("caller %+v, want %+v", caller, want)
	}
	for _, bad := range []string{strings.Repeat("x", 129), "a b", "ä"} {
		got := w.do(request{method: "GET", path: "/api/v1/users/me", token: aliceToken, header: map[string]string{"X-Request-ID": bad, "traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}})
		if got.body.RequestID == bad || len(got.body.RequestID) != 36 {
			t.Errorf("requestId %q for %q", got.body.RequestID, bad)
		}
		if _, caller := w.called("identity.get_me"); len(observe.TraceID(caller.Traceparent)) != 32 {
			t.Errorf("without a trace of the client's the service is told %q", caller.Traceparent)
		}
	}
	if n, _ := w.called("identity.verify"); n != 1 {
		t.Errorf("identity was asked %d times about one token", n)
	}
}

// check does what a scenario says and compares the answer.
func (w *world) check(t *testing.T, s scenario) {
	t.Helper()
	w.t = t
	got := w.do(s.request)
	if got.status != s.status {
		t.Fatalf("status %d, want %d: %s", got.status, s.status, got.text)
	}
	if got.body.Error.Code != s.code {
		t.Errorf("code %q, want %q: %s", got.body.Error.Code, s.code, got.text)
	}
	if s.status != 204 && (got.body.RequestID == "" || got.body.RequestID != got.header.Get("X-Request-ID")) {
		t.Errorf("requestId %q, X-Request-ID %q", got.body.RequestID, got.header.Get("X-Request-ID"))
	}
	if s.status != 204 && got.body.Success != (s.code == "") {
		t.Errorf("success is %v: %s", got.body.Success, got.text)
	}
	var faults []string
	for _, d := range got.body.Error.Details {
		faults = append(faults, d.Field+" "+string(d.Code))
		if d.Message == "" {
			t.Errorf("detail %+v says too little", d)
		}
	}
	slices.Sort(faults)
	if !slices.Equal(faults, s.faults) {
		t.Errorf("faults %q, want %q: %s", faults, s.faults, got.text)
	}
	if !strings.Contains(got.text, s.holds) {
		t.Errorf("%s not in %s", s.holds, got.text)
	}
	for k, v := range s.header {
		if got.header.Get(k) != v {
			t.Errorf("%s: %q, want %q", k, got.header.Get(k), v)
		}
	}
	if strings.Contains(got.text, "hunter2") {
		t.Errorf("the answer tells a secret: %s", got.text)
	}
	if s.status == 405 && s.method != "BREW" && got.header.Get("Allow") == "" {
		t.Error("no Allow header")
	}
}
