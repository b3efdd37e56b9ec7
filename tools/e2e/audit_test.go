//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
)

// unaudited are the operations that are no GET and of which the audit trail has nothing, each with the reason.
var unaudited = map[string]string{
	"refresh":          "it goes on with a session, whose begin and end are entries; one that is refused is an entry",
	"validateWorkflow": "it changes nothing",
	"receiveHook":      "as executeWorkflow; the deliveries of the trigger have it, too",
	"ingestEvents":     "the events themselves are the record: the feed has them",
	"previewSchedule":  "it changes nothing",
	"executeWorkflow":  "the execution itself is the record: who, when, of what, by which request",
	"testAgent":        "as executeWorkflow",
	"replayDeadLetter": "it has an entry, which TestDeadLetters finds in an installation that has a dead letter",
}

// unseen are the actions that no request brings about.
var unseen = map[audit.Action]string{
	audit.UserCreated:  "made by Turbocat at its first start",
	audit.AuditTrimmed: "done by Turbocat when entries are over",

	audit.DeadLetterReplayed: "TestDeadLetters brings it about",
	audit.WebhookDisabled:    "a target brings it about",
}

// ledger makes requests and then looks for the entries that they should have left.
type ledger struct {
	t     *testing.T
	doc   document
	run   string
	made  int // requests
	wants []wanted
	seen  map[string]bool // operations that were called
}

// wanted is an entry that a request should have left.
type wanted struct {
	request string
	userID  string // "" for nobody that is known
	key     bool   // who used an API key
	audit.TrailEntry
	path string // one of the places that changed; "" for none
	n    int
}

// do makes a request. What it should leave is "<action>", "<action> <place that changes>", or "!<action> <place>" for what is refused.
func (l *ledger) do(c *client, method, path string, body any, status int, entries ...string) answer {
	l.t.Helper()
	l.made++
	id := fmt.Sprintf("%s-%d", l.run, l.made)
	a := c.do(l.t, method, path, body, "X-Request-ID", id, "User-Agent", "audit-"+id)
	if a.status != status {
		l.t.Fatalf("want status %d; %s", status, a)
	}
	u, err := url.Parse("/api/v1" + path)
	if err != nil {
		l.t.Fatal(err)
	}
	route, _, err := l.doc.router.FindRoute(&http.Request{Method: method, URL: u})
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, path, err)
	}
	operation := route.Operation.OperationID
	for _, e := range entries {
		w := wanted{request: id, userID: c.session.User.ID, key: c.key != "" && c.session.User.ID != "", n: 1}
		e, refused := strings.CutPrefix(e, "!")
		w.Outcome = audit.Success
		if refused {
			w.Outcome = audit.Failure
		} else {
			l.seen[operation] = true
		}
		if e, two := strings.CutSuffix(e, " x2"); two {
			w.n = 2
			w.Action = audit.Action(e)
		} else {
			action, place, _ := strings.Cut(e, " ")
			w.Action, w.path = audit.Action(action), place
		}
		l.wants = append(l.wants, w)
	}
	if len(entries) == 0 {
		l.wants = append(l.wants, wanted{request: id})
	}
	return a
}

// check waits for the entries and looks at each.
func (l *ledger) check(admin *client) {
	l.t.Helper()
	var all []audit.TrailEntry
	eventually(l.t, 30*time.Second, func() error {
		all = nil
		for query := "?pageSize=100&search=" + l.run; ; {
			entries, p := page[audit.TrailEntry](l.t, admin.do(l.t, "GET", "/audit-logs"+query, nil))
			all = append(all, entries...)
			if p.NextCursor == nil {
				break
			}
			query = "?pageSize=100&search=" + l.run + "&cursor=" + url.QueryEscape(*p.NextCursor)
		}
		for _, w := range l.wants {
			if n := len(w.among(all)); n < w.n {
				return fmt.Errorf("%d entries of %s by request %s, and not %d", n, w.Action, w.request, w.n)
			}
		}
		return nil
	})
	found := map[audit.Action]bool{}
	for _, w := range l.wants {
		entries := w.among(all)
		if len(entries) != w.n {
			l.t.Errorf("%d entries of %s by request %s, and not %d", len(entries), w.Action, w.request, w.n)
		}
		for _, e := range entries {
			found[e.Action] = true
			if problem := w.differs(e); problem != "" {
				l.t.Errorf("%s: %s", problem, encoded(l.t, e))
			}
		}
	}
	for _, a := range audit.Actions() {
		if reason := unseen[a.Action]; found[a.Action] == (reason != "") {
			l.t.Errorf("%s: found is %v, and the reason why there is none %q", a.Action, found[a.Action], reason)
		}
	}
	for _, op := range operationsOf(l.doc) {
		if reason := unaudited[op.OperationID]; op.method != http.MethodGet && l.seen[op.OperationID] == (reason != "") {
			l.t.Errorf("%s %s (%s): audited is %v, and the reason why it is not %q", op.method, op.path, op.OperationID, l.seen[op.OperationID], reason)
		}
	}
	if raw := string(encoded(l.t, all)); strings.Contains(raw, canary) {
		l.t.Errorf("a secret is told: %s", raw)
	}
	l.t.Logf("%d requests left %d entries", l.made, len(all))
}

// among gives the entries of the request and the action, all of the request when none is wanted.
func (w wanted) among(all []audit.TrailEntry) []audit.TrailEntry {
	return slices.DeleteFunc(slices.Clone(all), func(e audit.TrailEntry) bool { return e.RequestID != w.request || w.n > 0 && e.Action != w.Action })
}

// differs tells what is wrong with an entry.
func (w wanted) differs(e audit.TrailEntry) string {
	switch {
	case w.n == 0:
		return "a request that changes nothing has an entry"
	case e.IP != "127.0.0.1" || e.UserAgent != "audit-"+w.request:
		return "it does not tell from where it came"
	case e.Outcome != w.Outcome:
		return "the outcome is another"
	case w.key && (e.Actor.Via != audit.ViaAPIKey || e.Actor.APIKeyID == "" || e.Actor.UserID != w.userID):
		return "it is not by the key"
	case !w.key && w.userID != "" && (e.Actor.Via != audit.ViaSession || e.Actor.SessionID == "" || e.Actor.UserID != w.userID):
		return "it is not by the user's session"
	case w.path != "" && !slices.ContainsFunc(e.Changes, func(c audit.TrailChange) bool { return c.Path == w.path }):
		return w.path + " is not among the changes"
	case e.ResourceType != e.Action.Resource() || e.Time.IsZero() || e.Hash == "" || e.Seq == 0:
		return "something is missing"
	}
	return ""
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const canary = "canary-value-of-a-secret"

// TestEveryChangeIsAudited makes every change that there is to make, and every security event, and finds the entry of each. An
// operation of the OpenAPI document that is no GET fails it when it does neither, as does an action that nothing here brings about.
func TestEveryChangeIsAudited(t *testing.T) {
	t.Parallel()
	admin, nobody := admin(t), guest(t)
	doc, err := documentOf(nobody.url)
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{t: t, doc: doc, run: fmt.Sprintf("audit-%d", time.Now().UnixNano()), seen: map[string]bool{}}
	made := func(a answer) string { t.Helper(); return data[struct{ ID string }](t, a, a.status).ID }

	c := l.accounts(admin, nobody)
	key := l.keys(c)

	// Definitions.
	config := object{"runtime": "javascript", "source": "function handler() { return 1 }"}
	agent := made(l.do(key, "POST", "/agents", object{"name": "a", "type": "CODE", "status": "ACTIVE", "config": config}, 201, "agent.created name"))
	l.do(c, "PATCH", "/agents/"+agent, object{"name": "b"}, 200, "agent.updated name")
	l.do(c, "PATCH", "/agents/"+agent, object{"name": "b"}, 200) // as it was
	api := made(l.do(c, "POST", "/agents", object{
		"name": "api", "type": "API", "config": object{"method": "GET", "url": "https://example.com/?token=" + canary, "auth": object{"type": "bearer", "token": canary}},
	}, 201, "agent.created config.auth.token"))
	l.do(c, "POST", "/agents/"+api+"/duplicate", object{"name": "copy"}, 201, "agent.created name")
	l.do(c, "POST", "/agents/"+agent+"/test", object{"input": object{}}, 200)
	l.do(c, "DELETE", "/agents/"+api, nil, 204, "agent.deleted name")

	waits := object{"stepKey": "a", "stepType": "WAIT", "config": object{"signal": "go"}}
	workflow := made(l.do(c, "POST", "/workflows", object{"name": "w", "status": "ACTIVE", "steps": []object{waits}}, 201, "workflow.created name"))
	l.do(c, "PATCH", "/workflows/"+workflow, object{"steps": []object{{"stepKey": "a", "timeoutMs": 600000}}}, 200, "workflow.updated steps[0].timeoutMs")
	l.do(c, "POST", "/workflows/"+workflow+"/validate", object{"steps": []object{waits}}, 200)
	l.do(c, "POST", "/workflows/"+workflow+"/duplicate", object{"name": "copy"}, 201, "workflow.created name")
	imported := made(l.do(c, "POST", "/workflows/import", object{
		"name": "imported", "agents": object{"One": object{"type": "CODE", "config": config}}, "steps": []object{{"stepKey": "one", "stepType": "AGENT", "agent": "One"}},
	}, 201, "workflow.created name", "agent.created name"))
	l.do(c, "DELETE", "/workflows/"+imported, nil, 204, "workflow.deleted name")

	schedule := object{"name": "s", "type": "SCHEDULE", "cron": "0 9 * * MON"}
	l.do(c, "POST", "/workflows/"+workflow+"/triggers/preview", object{"cron": "0 9 * * MON"}, 200)
	trigger := "/workflows/" + workflow + "/triggers/" + made(l.do(c, "POST", "/workflows/"+workflow+"/triggers", schedule, 201, "trigger.created cron"))
	l.do(c, "PATCH", trigger, object{"enabled": false}, 200, "trigger.updated enabled")
	l.do(c, "DELETE", trigger, nil, 204, "trigger.deleted cron")
	hook := "/workflows/" + workflow + "/triggers/" + made(l.do(c, "POST", "/workflows/"+workflow+"/triggers", object{"name": "h", "type": "WEBHOOK"}, 201, "trigger.created preset"))
	l.do(c, "POST", hook+"/rotate", nil, 200, "trigger.updated secretVersion")

	template := "/templates/" + made(l.do(c, "POST", "/templates", object{
		"name": "t", "type": "WORKFLOW", "category": "audit",
		"content": object{"agents": object{"One": object{"type": "CODE", "config": config}}, "steps": []object{{"stepKey": "one", "stepType": "AGENT", "agent": "One"}}},
	}, 201, "template.created name"))
	l.do(c, "PATCH", template, object{"isPublic": true}, 200, "template.updated isPublic")
	l.do(c, "POST", template+"/rate", object{"rating": 4}, 200, "template.rated rating")
	l.do(c, "POST", template+"/instantiate", object{"name": "of t"}, 201, "workflow.created name", "agent.created name")
	l.do(c, "DELETE", template, nil, 204, "template.deleted name")

	// Executions.
	begin := func() string {
		t.Helper()
		return made(l.do(c, "POST", "/workflows/"+workflow+"/execute", object{}, 201))
	}
	first := "/executions/" + begin()
	l.do(key, "POST", first+"/pause", nil, 202, "execution.paused")
	l.do(c, "POST", first+"/resume", nil, 202, "execution.resumed")
	l.do(c, "POST", first+"/cancel", nil, 202, "execution.cancelled")
	eventually(t, readyWithin, func() error {
		if x := data[orchestrator.Execution](t, c.do(t, "GET", first, nil), 200); x.Status != "CANCELLED" {
			return fmt.Errorf("it is %s", x.Status)
		}
		return nil
	})
	l.do(c, "POST", first+"/retry", nil, 201, "execution.retried executionId")
	l.do(c, "POST", first+"/rerun", object{"from": "a"}, 201, "execution.retried executionId")
	l.do(c, "POST", "/executions/bulk", object{"action": "CANCEL", "filter": object{"workflowId": workflow}}, 200, "execution.cancelled x2")
	l.do(c, "POST", first+"/replay", nil, 201, "execution.replayed executionId")
	l.do(c, "POST", "/executions/"+begin()+"/signals/go", object{"payload": object{"token": canary}}, 202, "execution.signalled name")
	costly := c.overBudget(t)
	c.awaitBudget(t, costly.ID)
	l.do(c, "POST", "/executions/"+costly.ID+"/steps/ask/budget", object{"approved": false, "comment": "too dear"}, 200, "execution.budget_decided comment")
	l.do(c, "DELETE", "/workflows/"+workflow, nil, 204, "workflow.deleted name")
	l.do(c, "DELETE", "/agents/"+agent, nil, 204, "agent.deleted name")

	l.webhooks(c)
	l.sessions(c)
	l.check(admin)
}

// webhooks makes a webhook and does all that can be done to it.
func (l *ledger) webhooks(c *client) {
	t := l.t
	t.Helper()
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	one := "/webhooks/" + data[telemetry.IssuedWebhook](t, l.do(c, "POST", "/webhooks", object{"url": target.URL}, 201, "webhook.created url"), 201).ID
	l.do(c, "PATCH", one, object{"filter": "data.seq > 1"}, 200, "webhook.updated filter")
	l.do(c, "POST", one+"/rotate", nil, 200, "webhook.rotated secretVersion")
	test := data[telemetry.Delivery](t, l.do(c, "POST", one+"/test", nil, 200, "webhook.tested"), 200)
	l.do(c, "POST", one+"/replay", object{"after": 0}, 200, "webhook.replayed deliveries")
	l.do(c, "POST", one+"/deliveries/"+test.ID+"/replay", nil, 201, "webhook.replayed deliveryId")
	l.do(c, "DELETE", one, nil, 204, "webhook.deleted url")
}

// accounts makes an account and changes it, and tries what is refused.
func (l *ledger) accounts(admin, nobody *client) *client {
	t := l.t
	t.Helper()
	email := l.run + "@example.com"
	registration := object{"email": email, "password": password, "fullName": "A User"}
	l.do(nobody, "POST", "/auth/register", registration, 201, "user.registered email")
	l.do(nobody, "POST", "/auth/register", registration, 409, "!user.registered reason")
	l.do(nobody, "POST", "/auth/login", object{"email": email, "password": "Wrong-horse-9"}, 401, "!auth.login_failed reason")
	l.do(nobody, "POST", "/auth/login", object{"email": "nobody-" + email, "password": password}, 401, "!auth.login_failed reason")
	for i := range 12 { // 10 failures, and one more is throttled
		if a := nobody.do(t, "POST", "/auth/login", object{"email": "somebody-" + email, "password": password}); a.status == 429 {
			break
		} else if i == 11 {
			t.Fatalf("it is not throttled: %s", a)
		}
	}
	l.do(nobody, "POST", "/auth/login", object{"email": "somebody-" + email, "password": password}, 429, "!auth.login_failed reason")

	l.do(nobody, "POST", "/auth/forgot-password", object{"email": email}, 200, "auth.reset_requested", "auth.reset_issued expiresAt")
	l.do(nobody, "POST", "/auth/forgot-password", object{"email": "nobody-" + email}, 200, "auth.reset_requested")
	token := tokenFor(t, admin, email, "")
	l.do(nobody, "POST", "/auth/reset-password", object{"token": token, "password": password}, 200, "auth.password_reset", "session.revoked reason")
	l.do(nobody, "POST", "/auth/reset-password", object{"token": token, "password": password}, 400, "!auth.password_reset reason")

	c := *nobody
	c.session = data[identity.Session](t, l.do(nobody, "POST", "/auth/login", object{"email": email, "password": password}, 200, "auth.login"), 200)
	l.do(&c, "PATCH", "/users/me", object{"fullName": "Another"}, 200, "user.updated fullName")
	l.do(&c, "PUT", "/secrets/CANARY", object{"value": canary}, 201, "secret.created version")
	l.do(&c, "PUT", "/secrets/CANARY", object{"value": canary + "2"}, 200, "secret.updated version")
	l.do(&c, "DELETE", "/secrets/CANARY", nil, 204, "secret.deleted name")
	l.do(&c, "GET", "/users", nil, 403, "!access.denied reason")
	l.do(&c, "GET", "/users", nil, 403) // within the minute

	robot := user(t)
	l.do(admin, "PATCH", "/users/"+robot.session.User.ID, object{"active": false}, 200, "user.standing_changed active", "session.revoked reason")
	l.do(admin, "PATCH", "/users/"+robot.session.User.ID, object{"active": true, "role": "AGENT"}, 200, "user.standing_changed role")
	return &c
}

// keys makes API keys, changes them, and tries those that are not good. It gives one that is.
func (l *ledger) keys(c *client) *client {
	t := l.t
	t.Helper()
	issue := func(scopes []string) identity.IssuedAPIKey {
		return data[identity.IssuedAPIKey](t, l.do(c, "POST", "/api-keys", object{"name": "k", "scopes": scopes}, 201, "api_key.created name"), 201)
	}
	narrow := issue([]string{"agents:read"})
	l.do(c.byKey(narrow.Key), "GET", "/workflows", nil, 403, "!access.denied path")
	l.do(c.byKey(narrow.Key), "DELETE", "/api-keys/"+narrow.ID, nil, 403, "!access.denied reason")
	l.do(c, "PATCH", "/api-keys/"+narrow.ID, object{"scopes": []string{"workflows:read"}}, 200, "api_key.updated scopes[0]")
	rotated := data[identity.IssuedAPIKey](t, l.do(c, "POST", "/api-keys/"+narrow.ID+"/rotate", nil, 200, "api_key.rotated"), 200)
	try := func(key string, entries ...string) {
		t.Helper()
		l.do(guest(t).byKey(key), "GET", "/agents", nil, 401, entries...)
	}
	wrong := rotated.Key[:len(rotated.Key)-3] + "aaa"
	try(wrong, "!api_key.refused reason")
	try(wrong) // within the hour
	l.do(c, "DELETE", "/api-keys/"+narrow.ID, nil, 204, "api_key.revoked revokedAt")
	try(rotated.Key, "!api_key.refused reason")
	return c.byKey(issue(identity.ScopeNames()).Key)
}

// sessions ends sessions in every way.
func (l *ledger) sessions(c *client) {
	t := l.t
	t.Helper()
	login := func() *client {
		other := *c
		other.session = data[identity.Session](t, l.do(c.as(""), "POST", "/auth/login", object{"email": c.session.User.Email, "password": password}, 200, "auth.login"), 200)
		return &other
	}
	login()
	sessions, _ := page[identity.OpenSession](t, c.do(t, "GET", "/users/me/sessions", nil))
	l.do(c, "DELETE", "/users/me/sessions/"+sessions[0].ID, nil, 204, "session.revoked reason")
	l.do(c, "DELETE", "/users/me/sessions/"+sessions[0].ID, nil, 404)
	login()
	l.do(c, "DELETE", "/users/me/sessions", nil, 204, "session.revoked reason")
	leaving := login()
	l.do(c.as(""), "POST", "/auth/logout", object{"refreshToken": leaving.session.RefreshToken}, 204, "auth.logout")
	l.do(guest(t), "POST", "/auth/refresh", object{"refreshToken": c.session.RefreshToken}, 200)
	l.do(guest(t), "POST", "/auth/refresh", object{"refreshToken": c.session.RefreshToken}, 401, "!auth.refresh_refused reason") // used before
}
