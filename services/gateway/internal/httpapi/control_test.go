package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestControlReachesTheOrchestrator wants the routes to say to the orchestrator what the client said.
func TestControlReachesTheOrchestrator(t *testing.T) {
	w := start(t, setup{})
	path := func(rest string) string { return "/api/v1/executions/" + thingID + rest }
	key := map[string]string{"Idempotency-Key": "k1"}
	for _, c := range []struct {
		name   string
		ask    request
		status int
		want   []string // in data, in which JSON strings may be quoted once more
	}{
		{"pause", request{method: "POST", path: path("/pause")}, 202, []string{`"commandId":"pause"`}},
		{"resume", request{method: "POST", path: path("/resume")}, 202, []string{`"commandId":"resume"`}},
		{
			"signal",
			request{method: "POST", path: path("/signals/paid"), body: `{"payload":{"a":1e400},"comment":"é"}`, header: key},
			202,
			[]string{`"name":"paid"`, `"payload":{"a":1e400}`, `"approve":null`, `"comment":"é"`, `"idempotencyKey":"k1"`},
		},
		{"signal without a body", request{method: "POST", path: path("/signals/paid")}, 202, []string{`"payload":null`}},
		{"refusal", request{method: "POST", path: path("/signals/ok"), body: `{"approve":false}`}, 202, []string{`"approve":false`}},
		{"retry", request{method: "POST", path: path("/retry"), header: key}, 201, []string{`"retryOf":"` + thingID + `"`, `"parentExecutionId":"k1"`}},
		{"replay", request{method: "POST", path: path("/replay"), header: key}, 201, []string{`"replayOf":"` + thingID + `"`, `"parentExecutionId":"k1"`}},
		{
			"rerun",
			request{method: "POST", path: path("/rerun"), body: `{"from":"b","inputs":{"n":1},"outputs":{"a":null,"c":[1e400]}}`, header: key},
			201,
			[]string{`"from":"b"`, `"inputs":{"n":1}`, `"outputs":{"a":null,"c":[1e400]}`, `"idempotencyKey":"k1"`},
		},
		{"calls", request{method: "GET", path: path("/steps/think/calls?pageSize=5")}, 200, []string{`"executionId":"` + thingID + `"`, `"stepKey":"think"`, `"pageSize":5`, `"reservedTokens":7`}},
		{"budget", request{method: "POST", path: path("/steps/think/budget"), body: `{"approved":true,"comment":"so","maxCostUsd":2.5}`}, 200, []string{`"decided":3`}},
		{"dead letters", request{method: "GET", path: "/api/v1/dead-letters?reason=NO_INPUT&replayed=false&pageSize=5"}, 200, []string{`"reason":"NO_INPUT"`, `"replayed":"false"`, `"pageSize":5`}},
		{"counts of dead letters", request{method: "GET", path: "/api/v1/dead-letters/counts"}, 200, []string{`{"reason":"NO_EXECUTION","count":3,"replayed":0,"oldest":null,"newest":null}`}},
		{"dead letter", request{method: "GET", path: "/api/v1/dead-letters/" + thingID}, 200, []string{`"id":"` + thingID + `"`, `"replays":0`}},
		{"replay of a dead letter", request{method: "POST", path: "/api/v1/dead-letters/" + thingID + "/replay"}, 200, []string{`"id":"` + thingID + `"`, `"replays":1`}},
		{"explain", request{method: "GET", path: path("/explain")}, 200, []string{`"summary":"It is running."`, `"until":null`}},
		{
			"bulk",
			request{method: "POST", path: "/api/v1/executions/bulk", body: `{"action":"RETRY","filter":{"status":"FAILED","from":"2026-01-02T00:00:00Z","search":"0193"}}`},
			200,
			[]string{`"matched":2`, `"action":"RETRY"`, `"status":"FAILED"`, `"from":"2026-01-02T00:00:00Z"`, `"search":"0193"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.ask.token = aliceToken
			got := w.do(c.ask)
			data := strings.ReplaceAll(string(got.body.Data), `\"`, `"`)
			if got.status != c.status {
				t.Errorf("status %d: %s", got.status, got.text)
			}
			for _, want := range c.want {
				if !strings.Contains(data, want) {
					t.Errorf("no %s in %s", want, data)
				}
			}
		})
	}
}

func TestControlRefuses(t *testing.T) {
	w := start(t, setup{})
	path := func(rest string) string { return "/api/v1/executions/" + thingID + rest }
	for _, c := range []struct {
		name   string
		ask    request
		status int
		fields string
	}{
		{"no token", request{method: "POST", path: path("/pause"), header: map[string]string{"anonymous": "yes"}}, 401, ""},
		{"no id", request{method: "POST", path: "/api/v1/executions/1/resume"}, 404, ""},
		{"wrong types", request{method: "POST", path: path("/signals/ok"), body: `{"approve":"yes","comment":1,"more":true}`}, 400, "approve,comment,more"},
		{"array", request{method: "POST", path: path("/signals/ok"), body: `[]`}, 400, ""},
		{"rerun without a body", request{method: "POST", path: path("/rerun")}, 400, ""},
		{"rerun from nowhere", request{method: "POST", path: path("/rerun"), body: `{"inputs":[],"outputs":1,"x":0}`}, 400, "from,inputs,outputs,x"},
		{"key", request{method: "POST", path: path("/retry"), header: map[string]string{"Idempotency-Key": strings.Repeat("k", 256)}}, 400, "Idempotency-Key"},
		{"budget without a decision", request{method: "POST", path: path("/steps/think/budget"), body: `{"maxCostUsd":0,"maxTokens":0,"more":1}`}, 400, "approved,maxCostUsd,maxTokens,more"},
		{"bulk action", request{method: "POST", path: "/api/v1/executions/bulk", body: `{"action":"DELETE","filter":{"status":"DONE"}}`}, 400, "action,filter.status"},
		{"bulk without a filter", request{method: "POST", path: "/api/v1/executions/bulk", body: `{"action":"CANCEL"}`}, 400, "filter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.ask.token = aliceToken
			if c.ask.header["anonymous"] != "" {
				c.ask.token = ""
			}
			got := w.do(c.ask)
			fields := map[string]bool{}
			for _, d := range got.body.Error.Details {
				fields[d.Field] = true
			}
			wanted := 0
			for field := range strings.SplitSeq(c.fields, ",") {
				if field != "" {
					wanted++
					if !fields[field] {
						t.Errorf("no fault at %s", field)
					}
				}
			}
			if got.status != c.status || len(fields) != wanted {
				raw, _ := json.Marshal(got.body.Error)
				t.Errorf("status %d: %s", got.status, raw)
			}
		})
	}
}
