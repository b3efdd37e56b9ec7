//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/identity"
)

// audience says to whom an operation does what it says.
type audience int

const (
	anybody   audience = iota // also who has not logged in
	themself                  // who is logged in, for what is theirs: a list, something new, their account
	theOwner                  // of the thing in the path; to others it is not there
	adminOnly                 // ADMIN; USER is told so
)

// matrix says for every operation of the OpenAPI document to whom it does what it says. An operation that is not here fails the test.
var matrix = map[string]audience{
	"getDocs": anybody, "getOpenAPI": anybody, "getHealth": anybody, "getReady": anybody, "getLive": anybody, "getMetrics": anybody,
	"register": anybody, "login": anybody, "refresh": anybody, "logout": anybody, "forgotPassword": anybody, "resetPassword": anybody,
	"getAgentSchema": anybody, "listAuditLogs": themself,
	"duplicateAgent": theOwner, "listAgentVersions": theOwner, "getAgentVersion": theOwner, "testAgent": theOwner,
	"diffWorkflow": theOwner, "duplicateWorkflow": theOwner, "validateWorkflow": theOwner, "listWorkflowVersions": theOwner, "getWorkflowVersion": theOwner,
	"listTemplates": anybody, "listTemplateCategories": anybody, "getTemplate": anybody, // what is public; TestTemplates has the others
	"createTemplate": themself, "updateTemplate": theOwner, "deleteTemplate": theOwner, "rateTemplate": theOwner, "instantiateTemplate": theOwner,
	"exportWorkflow": theOwner, "importWorkflow": themself, "getWorkflowSchema": anybody,
	"getMe": themself, "updateMe": themself,
	"listSessions": themself, "endOtherSessions": themself, "endSession": theOwner,
	"listDeadLetters": adminOnly, "countDeadLetters": adminOnly, "getDeadLetter": adminOnly, "replayDeadLetter": adminOnly,
	"listWebhooks": themself, "createWebhook": themself, "getWebhook": theOwner, "updateWebhook": theOwner, "deleteWebhook": theOwner, "rotateWebhook": theOwner,
	"testWebhook": theOwner, "replayWebhook": theOwner, "listDeliveries": theOwner, "getDelivery": theOwner, "replayDelivery": theOwner,
	"getAnalyticsOverview": themself, "getSystemHealth": adminOnly, "getWorkflowMetrics": theOwner, "getAgentMetrics": theOwner,
	"listUsers": adminOnly, "getUser": adminOnly, "updateUser": adminOnly, "listDevMail": adminOnly,
	"listAgents": themself, "createAgent": themself, "getAgent": theOwner, "updateAgent": theOwner, "deleteAgent": theOwner,
	"listWorkflows": themself, "createWorkflow": themself, "getWorkflow": theOwner, "updateWorkflow": theOwner, "deleteWorkflow": theOwner,
	"executeWorkflow": theOwner, "listWorkflowExecutions": theOwner,
	"listTriggers": theOwner, "createTrigger": theOwner, "previewSchedule": theOwner, "getTrigger": theOwner, "updateTrigger": theOwner, "deleteTrigger": theOwner,
	"listSkips": theOwner, "rotateTrigger": theOwner, "listTriggerDeliveries": theOwner, "receiveHook": anybody, "ingestEvents": themself,
	"listExecutions": themself, "bulkExecutions": themself, "getExecution": theOwner, "explainExecution": theOwner, "listExecutionLogs": theOwner,
	"streamExecutionEvents": theOwner, "cancelExecution": theOwner, "pauseExecution": theOwner, "resumeExecution": theOwner, "signalExecution": theOwner,
	"listEvents": themself, "streamEvents": themself, "listEventTypes": themself,
	"retryExecution": theOwner, "replayExecution": theOwner, "rerunExecution": theOwner, "listCalls": theOwner, "decideBudget": theOwner,
	"listSecrets": themself, "putSecret": themself, "deleteSecret": themself, // by a name, which is each user's own
	"listApiKeys": themself, "createApiKey": themself, "updateApiKey": theOwner, "revokeApiKey": theOwner, "rotateApiKey": theOwner,
}

// caller is somebody who tries what is not theirs to do.
type caller struct {
	name    string
	client  *client
	headers []string
}

// TestAccessMatrix calls every operation as those who may not do it, and looks that nothing has changed by it.
func TestAccessMatrix(t *testing.T) {
	t.Parallel()
	doc, err := documentOf(home(t).url)
	if err != nil {
		t.Fatal(err)
	}
	operations := operationsOf(doc)
	owner, other := user(t), user(t)
	things := furnish(t, owner, operations)
	otherKey := newKey(t, other, identity.ScopeNames()...)
	before := snapshot(t, owner, operations, things)
	cases := 0
	for _, op := range operations {
		to, ok := matrix[op.OperationID]
		if !ok {
			t.Errorf("%s %s (%s) has no case; say in matrix to whom it does what it says", op.method, op.path, op.OperationID)
			continue
		}
		path := things.address(t, op)
		try := func(who caller, statuses ...int) {
			t.Helper()
			cases++
			var body any
			if content := op.content(); content != nil {
				body = content.Example
			}
			got, err := who.client.send(t.Context(), op.method, path, body, who.headers...)
			if err != nil {
				t.Errorf("%s %s as %s: %v", op.method, path, who.name, err)
				return
			}
			if !slices.Contains(statuses, got.status) {
				t.Errorf("as %s the status should be one of %v: %s", who.name, statuses, got)
			}
			if problem := got.malformed(); problem != "" {
				t.Errorf("as %s %s: %s", who.name, problem, got)
			}
			for kind, id := range things {
				if len(id) == 36 && got.status < 400 && strings.Contains(string(got.body), id) {
					t.Errorf("%s is told of somebody else's %s: %s", who.name, kind, got)
				}
			}
		}
		if to == anybody {
			continue
		}
		nobody := guest(t)
		try(caller{"nobody", nobody, nil}, 401)
		try(caller{"who has a made-up token", nobody.as("eyJhbGciOiJub25lIn0.e30."), nil}, 401)
		try(caller{"who has a made-up key", nobody, []string{"X-API-Key", "tc_live_aaaaaaaaaaaa_" + strings.Repeat("a", 43)}}, 401)

		scope, keyed := op.scope()
		if keyed {
			try(caller{"the owner's key without " + scope, nobody, []string{"X-API-Key", newKey(t, owner, slices.DeleteFunc(identity.ScopeNames(), func(s string) bool { return s == scope })...)}}, 403)
		} else {
			try(caller{"the owner's key with all scopes", nobody, []string{"X-API-Key", newKey(t, owner, identity.ScopeNames()...)}}, 403)
		}
		switch to {
		case theOwner:
			try(caller{"another user", other, nil}, 404)
			if keyed {
				try(caller{"another user's key", nobody, []string{"X-API-Key", otherKey}}, 404)
			}
			for _, unknown := range op.parameters("uuid") {
				elsewhere := things.with(unknown, uuid.NewString())
				path = elsewhere.address(t, op)
				try(caller{"the owner, of nothing that is there", owner, nil}, 404)
				path = things.with(unknown, "not-an-id").address(t, op)
				try(caller{"the owner, by what is no id", owner, nil}, 404)
			}
		case adminOnly:
			try(caller{"a USER", other, nil}, 403)
			if keyed {
				try(caller{"a USER's key", nobody, []string{"X-API-Key", otherKey}}, 403)
			}
		case themself:
			if op.method == http.MethodGet && !op.streams() {
				try(caller{"another user", other, nil}, 200)
			}
		}
	}
	for _, gone := range goneKeys(t, owner) {
		for _, op := range operations {
			if _, keyed := op.scope(); !keyed || matrix[op.OperationID] == anybody {
				continue
			}
			cases++
			got, err := guest(t).send(t.Context(), op.method, things.address(t, op), nil, "X-API-Key", gone)
			if err != nil || got.status != 401 {
				t.Errorf("a key that is no longer good is not refused: %v %s", err, got)
			}
		}
	}
	for id := range matrix {
		if !slices.ContainsFunc(operations, func(o operation) bool { return o.OperationID == id }) {
			t.Errorf("matrix has %s, which the document does not have", id)
		}
	}
	if after := snapshot(t, owner, operations, things); after != before {
		t.Errorf("somebody else has changed what is the owner's:\n%s\nwas before\n%s", after, before)
	}
	t.Logf("%d operations, %d cases", len(operations), cases)
}

// scope gives the scope that an API key needs; false when none may call the operation.
func (o operation) scope() (string, bool) {
	if o.Security != nil {
		for _, way := range *o.Security {
			if scopes, ok := way["apiKey"]; ok && len(scopes) == 1 {
				return scopes[0], true
			}
		}
	}
	return "", false
}

// parameters gives the collections that the path parameters of a format are ids of.
func (o operation) parameters(format string) []string {
	var collections []string
	for _, p := range o.Parameters {
		if p.Value.In == "path" && p.Value.Schema.Value.Format == format {
			collections = append(collections, collectionOf(o.path, p.Value.Name))
		}
	}
	return collections
}

// collectionOf gives the part of a path before a parameter.
func collectionOf(path, parameter string) string {
	before, _, _ := strings.Cut(path, "/{"+parameter+"}")
	return before[strings.LastIndex(before, "/")+1:]
}

// things are the ids, or names, of one thing of each kind, by the part of the path before them.
type things map[string]string

func (x things) with(collection, id string) things {
	other := things{}
	for k, v := range x {
		other[k] = v
	}
	other[collection] = id
	return other
}

func (x things) address(t *testing.T, op operation) string {
	t.Helper()
	path := op.path
	query := url.Values{}
	for _, p := range op.Parameters {
		if p.Value.In == "query" && p.Value.Required {
			query.Set(p.Value.Name, x[p.Value.Name])
		}
		if p.Value.In != "path" {
			continue
		}
		collection := collectionOf(op.path, p.Value.Name)
		id, ok := x[collection]
		if !ok {
			t.Fatalf("%s %s needs one of %s; furnish one", op.method, op.path, collection)
		}
		path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", id)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// furnish makes one of each thing, as the examples of the document show it.
func furnish(t *testing.T, c *client, operations []operation) things {
	t.Helper()
	x := things{"signals": "approval", "steps": "decide", "secrets": "MATRIX", "versions": "1", "from": "1", "to": "1", "sessions": uuid.NewString(), "dead-letters": uuid.NewString(), "users": c.session.User.ID}
	example := func(id string) any {
		for _, op := range operations {
			if op.OperationID == id {
				return op.content().Example
			}
		}
		t.Fatalf("the document has no %s", id)
		return nil
	}
	make1 := func(collection, path, id string) {
		x[collection] = data[struct{ ID string }](t, c.do(t, "POST", path, example(id)), 201).ID
	}
	make1("agents", "/agents", "createAgent")
	make1("workflows", "/workflows", "createWorkflow")
	make1("triggers", "/workflows/"+x["workflows"]+"/triggers", "createTrigger")
	x["hooks"] = x["triggers"]
	make1("templates", "/templates", "createTemplate")
	make1("executions", "/workflows/"+x["workflows"]+"/execute", "executeWorkflow")
	make1("api-keys", "/api-keys", "createApiKey")
	make1("webhooks", "/webhooks", "createWebhook")
	x["deliveries"] = data[struct{ ID string }](t, c.do(t, "POST", "/webhooks/"+x["webhooks"]+"/test", nil), 200).ID
	if err := poll(t.Context(), readyWithin, func() error {
		got := c.do(t, "GET", "/executions/"+x["executions"], nil)
		if !strings.Contains(string(got.body), `"SIGNAL"`) {
			return fmt.Errorf("it does not wait yet: %s", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return x
}

// newKey makes an API key with scopes and gives its text.
func newKey(t *testing.T, c *client, scopes ...string) string {
	t.Helper()
	return data[identity.IssuedAPIKey](t, c.do(t, "POST", "/api-keys", object{"name": "matrix", "scopes": scopes}), 201).Key
}

// goneKeys gives a key that has been revoked and one that has expired, as soon as both are refused.
func goneKeys(t *testing.T, c *client) []string {
	t.Helper()
	revoked := data[identity.IssuedAPIKey](t, c.do(t, "POST", "/api-keys", object{"name": "revoked", "scopes": identity.ScopeNames()}), 201)
	expires := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
	expired := data[identity.IssuedAPIKey](t, c.do(t, "POST", "/api-keys", object{"name": "expired", "scopes": identity.ScopeNames(), "expiresAt": expires}), 201)
	if got := c.do(t, "DELETE", "/api-keys/"+revoked.ID, nil); got.status != 204 {
		t.Fatal(got)
	}
	for _, key := range []string{revoked.Key, expired.Key} {
		if err := poll(t.Context(), readyWithin, func() error {
			if got := guest(t).do(t, "GET", "/agents", nil, "X-API-Key", key); got.status != 401 {
				return fmt.Errorf("it is not refused: %s", got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return []string{revoked.Key, expired.Key}
}

// snapshot gives everything that the owner can read of what is theirs. Keys, what the test itself makes, and figures, which go on with the time, are left out.
func snapshot(t *testing.T, c *client, operations []operation, x things) string {
	t.Helper()
	var all strings.Builder
	for _, op := range operations {
		if op.method != http.MethodGet || matrix[op.OperationID] != theOwner || op.streams() || strings.HasSuffix(op.OperationID, "Metrics") {
			continue
		}
		got, err := c.send(t.Context(), op.method, x.address(t, op), nil)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Data json.RawMessage }
		if err := json.Unmarshal(got.body, &e); err != nil || got.status != 200 {
			t.Fatalf("%v %s", err, got)
		}
		fmt.Fprintf(&all, "%s %s\n", op.OperationID, e.Data)
	}
	return all.String()
}

// TestExtraFields adds to every body what nobody may set. It is refused by name, or changes nothing; no answer tells a hash or a secret.
func TestExtraFields(t *testing.T) {
	t.Parallel()
	doc, err := documentOf(home(t).url)
	if err != nil {
		t.Fatal(err)
	}
	operations := operationsOf(doc)
	c := user(t)
	x := furnish(t, c, operations)
	extra := object{"role": "ADMIN", "active": false, "passwordHash": "x", "isAdmin": true, "id": uuid.NewString(), "userId": uuid.NewString(), "version": 99, "usageCount": 99, "isOfficial": true, "__proto__": object{"role": "ADMIN"}}
	bodies := 0
	for _, op := range operations {
		content := op.content()
		if content == nil {
			continue
		}
		example, ok := content.Example.(map[string]any)
		if !ok {
			t.Errorf("%s has no example", op.OperationID)
			continue
		}
		body := maps.Clone(example)
		for name, value := range extra {
			if _, there := body[name]; !there {
				body[name] = value
			}
		}
		bodies++
		got, err := c.send(t.Context(), op.method, x.address(t, op), body)
		if err != nil {
			t.Fatal(err)
		}
		if got.status >= 500 || got.status < 400 && got.status != 204 && strings.Contains(string(got.body), extra["userId"].(string)) {
			t.Errorf("%s takes what nobody may set: %s", op.OperationID, got)
		}
		if problem := got.malformed(); problem != "" {
			t.Errorf("%s: %s", problem, got)
		}
		for _, word := range []string{`"passwordHash":`, "password_hash", "$2a$", "$2b$"} {
			if got.status < 400 && strings.Contains(string(got.body), word) {
				t.Errorf("%s answers with %s: %s", op.OperationID, word, got)
			}
		}
	}
	if u := data[identity.User](t, c.do(t, "GET", "/users/me", nil), 200); u.Role != "USER" || !u.Active || u.ID != c.session.User.ID {
		t.Errorf("the user is now %+v", u)
	}
	t.Logf("%d bodies", bodies)
}
