//go:build unix

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
)

// triggered is what a request to a trigger is answered with.
type triggered struct {
	DeliveryID, Status, ExecutionID string
	Repeated                        bool
	Execution                       *struct {
		Status  string
		Outputs json.RawMessage
	}
}

// hook sends a request to a trigger's URL.
func (c *client) hook(t *testing.T, trigger orchestrator.IssuedTrigger, query, body string, headers ...string) answer {
	t.Helper()
	a, err := guest(t).send(t.Context(), "POST", trigger.Path+query, raw(body), headers...)
	if err != nil {
		t.Fatal(err)
	}
	if err := undocumented(c.url, "POST", trigger.Path, a); err != nil {
		t.Errorf("not as openapi.json says: %v\n%s", err, a)
	}
	return a
}

func (c *client) trigger(t *testing.T, workflow string, body object) orchestrator.IssuedTrigger {
	t.Helper()
	body["name"] = "t"
	return data[orchestrator.IssuedTrigger](t, c.do(t, "POST", "/workflows/"+workflow+"/triggers", body), 201)
}

func expect(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("not %d: %s", status, a)
	}
}

// signed gives the headers of a request that is signed as Standard Webhooks says.
func signed(t *testing.T, secret, id, body string) []string {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := w.Sign(id, now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", id, "webhook-timestamp", fmt.Sprint(now.Unix()), "webhook-signature", signature}
}

func TestHooksStartExecutions(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.workflow(t, []object{step("a", c.code(t, `function handler({n}) { return {n: n + 1} }`), object{"inputs": object{"n": "{{inputs.n}}"}})})
	hook := c.trigger(t, workflow, object{"type": "WEBHOOK", "filter": `body.n != 7`, "inputs": object{"n": "{{body.n}}", "by": `{{headers["x-by"]}}`}})
	body := `{"n": 41}`
	first := data[triggered](t, c.hook(t, hook, "?wait=30s", body, append(signed(t, hook.Secret, "d-1", body), "X-By", "me")...), 200)
	if first.Execution == nil || first.Execution.Status != "COMPLETED" || !strings.Contains(string(first.Execution.Outputs), `"n":42`) {
		t.Fatalf("%+v", first)
	}
	x := data[orchestrator.Execution](t, c.do(t, "GET", "/executions/"+first.ExecutionID, nil), 200)
	if x.TriggerType != "WEBHOOK" || x.TriggerID == nil || *x.TriggerID != hook.ID || string(x.Inputs) != `{"by":"me","n":41}` {
		t.Errorf("%+v", x)
	}
	again := data[triggered](t, c.hook(t, hook, "", body, signed(t, hook.Secret, "d-1", body)...), 200)
	if !again.Repeated || again.ExecutionID != first.ExecutionID {
		t.Errorf("sent again: %+v", again)
	}
	filtered := data[triggered](t, c.hook(t, hook, "", `{"n":7}`, signed(t, hook.Secret, "d-2", `{"n":7}`)...), 200)
	if filtered.Status != "FILTERED" || filtered.ExecutionID != "" {
		t.Errorf("%+v", filtered)
	}
	expect(t, c.hook(t, hook, "", body, signed(t, hook.Secret, "d-3", body+" ")...), 401)
	expect(t, c.hook(t, hook, "", body), 401)
	if got := data[orchestrator.Trigger](t, c.do(t, "GET", "/workflows/"+workflow+"/triggers/"+hook.ID, nil), 200); got.LastRejectedAt == nil || got.LastFiredAt == nil {
		t.Errorf("%+v", got)
	}
	rotated := data[orchestrator.IssuedTrigger](t, c.do(t, "POST", "/workflows/"+workflow+"/triggers/"+hook.ID+"/rotate", object{"overlapMs": 60_000}), 200)
	for i, secret := range []string{hook.Secret, rotated.Secret} {
		data[triggered](t, c.hook(t, hook, "", body, signed(t, secret, fmt.Sprint("r-", i), body)...), 202)
	}
	expect(t, c.do(t, "PATCH", "/workflows/"+workflow+"/triggers/"+hook.ID, object{"enabled": false}), 200)
	expect(t, c.hook(t, hook, "", body, signed(t, rotated.Secret, "d-4", body)...), 409)
	list := data[[]orchestrator.TriggerDelivery](t, c.do(t, "GET", "/workflows/"+workflow+"/triggers/"+hook.ID+"/deliveries", nil), 200)
	var told []string
	for _, d := range list {
		told = append(told, d.DeliveryID+" "+d.Status)
	}
	if got := strings.Join(told, ", "); got != "r-1 ACCEPTED, r-0 ACCEPTED, d-2 FILTERED, d-1 ACCEPTED" {
		t.Errorf("the deliveries are %s", got)
	}

	github := c.trigger(t, workflow, object{"type": "WEBHOOK", "preset": "GITHUB", "secret": "It's a Secret to Everybody", "inputs": object{"n": 1}})
	mac := hmac.New(sha256.New, []byte(github.Secret))
	mac.Write([]byte(body))
	headers := []string{"X-Hub-Signature-256", "sha256=" + hex.EncodeToString(mac.Sum(nil)), "X-GitHub-Delivery", "72d3162e"}
	if got := data[triggered](t, c.hook(t, github, "", body, append(headers, "X-GitHub-Event", "ping")...), 200); got.Status != "FILTERED" {
		t.Errorf("%+v", got)
	}
	if got := data[triggered](t, c.hook(t, github, "", body, append(headers, "X-GitHub-Event", "push")...), 202); got.DeliveryID != "72d3162e" {
		t.Errorf("%+v", got)
	}
}

// TestEventsStartExecutions sends an event twice, and wants it once in the feed and one execution of it.
func TestEventsStartExecutions(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.workflow(t, []object{step("a", c.code(t, `function handler({total}) { return total * 2 }`), object{"inputs": object{"total": "{{inputs.total}}"}})})
	listener := c.trigger(t, workflow, object{"type": "EVENT", "eventTypes": []string{"com.example.order.*"}, "filter": "data.total > 10"})
	event := func(id string, total int) object {
		return object{"specversion": "1.0", "id": id, "source": "/shop", "type": "com.example.order.placed", "subject": "o", "data": object{"total": total}}
	}
	for _, want := range []telemetry.Ingested{{Accepted: 2}, {Repeated: 2}} {
		got := data[telemetry.Ingested](t, c.do(t, "POST", "/events", []object{event("1", 12), event("2", 3)}), 202)
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	var started []orchestrator.Execution
	eventually(t, readyWithin, func() error {
		started = data[[]orchestrator.Execution](t, c.do(t, "GET", "/executions?triggerId="+listener.ID, nil), 200)
		if len(started) != 1 {
			return fmt.Errorf("%d executions", len(started))
		}
		return nil
	})
	if x := c.awaitEnd(t, started[0].ID); x.Status != "COMPLETED" || x.TriggerType != "EVENT" || string(x.Inputs) != `{"total":12}` || !strings.Contains(string(x.Outputs), "24") {
		t.Errorf("%+v", x)
	}
	if got := c.poll(t, 100); len(got) < 2 || !strings.Contains(got[0], `"com.example.order.placed"`) || !strings.Contains(got[1], `"com.example.order.placed"`) {
		t.Errorf("the feed has %v", got)
	}
	expect(t, c.do(t, "POST", "/events", object{"specversion": "1.0", "id": "1", "source": "/x", "type": "io.turbocat.execution.completed.v1"}), 400)
	if list := data[[]orchestrator.TriggerDelivery](t, c.do(t, "GET", "/workflows/"+workflow+"/triggers/"+listener.ID+"/deliveries", nil), 200); len(list) != 1 || list[0].DeliveryID != "/shop 1" {
		t.Errorf("%+v", list)
	}
}

// TestACircleOfTriggersEnds has a workflow start itself by its own end.
func TestACircleOfTriggersEnds(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.workflow(t, []object{{"stepKey": "a", "stepType": "WAIT", "config": object{"durationMs": 1}}})
	listener := c.trigger(t, workflow, object{
		"type": "EVENT", "eventTypes": []string{"io.turbocat.execution.completed.v1"}, "filter": `data.workflowId == "` + workflow + `"`, "inputs": object{"after": "{{data.executionId}}"},
	})
	c.awaitEnd(t, c.begin(t, workflow).ID)
	path := "/workflows/" + workflow + "/triggers/" + listener.ID + "/deliveries?pageSize=100"
	eventually(t, readyWithin, func() error {
		list := data[[]orchestrator.TriggerDelivery](t, c.do(t, "GET", path+"&status="+orchestrator.ReceivedRefused, nil), 200)
		if len(list) != 1 || !strings.Contains(list[0].Reason, "circle") {
			return fmt.Errorf("refused are %+v", list)
		}
		return nil
	})
	if got := data[[]orchestrator.Execution](t, c.do(t, "GET", "/executions?pageSize=100&triggerId="+listener.ID, nil), 200); len(got) != 10 {
		t.Errorf("%d executions began by it", len(got))
	}
}
