//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/llmtest"
)

// TestReplay repeats executions that have asked models, a server, a person and another workflow: each of those once.
func TestReplay(t *testing.T) {
	t.Parallel()
	c := user(t)
	model := llmtest.New(t, func(r llmtest.Request) llmtest.Reply {
		return llmtest.Reply{Text: fmt.Sprintf("answer %d", r.N), Input: 10, Output: 5}
	})
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		n := served.Add(1)
		if strings.HasSuffix(r.URL.Path, "/2") {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = fmt.Fprintf(w, `{"n":%d,"large":%q}`, n, strings.Repeat("x", 200<<10))
	}))
	t.Cleanup(server.Close)
	counts := c.code(t, `async function handler(input, context) { context.logger.info("counts"); return { ...input, more: input.n + 1 } }`)
	child := c.workflow(t, []object{step("ask", c.llm(t, model, object{"prompt": "child"}))})
	workflow := c.workflow(t, []object{
		step("ask", c.llm(t, model, object{"prompt": "n is {{inputs.n}}"})),
		{
			"stepKey": "fetch", "stepType": "LOOP", "agentId": c.agent(t, "API", object{"url": server.URL + "/{{i}}"}), "inputs": object{"i": "{{item}}"},
			"config": object{"forEach": "inputs.items", "maxFailures": 1}, "dependsOn": []string{"ask"},
		},
		{"stepKey": "approve", "stepType": "WAIT", "config": object{"approval": true}, "dependsOn": []string{"fetch"}},
		step("child", c.agent(t, "WORKFLOW", object{"workflowId": child}), after("approve")),
		step("count", counts, after("child"), inputs(object{"n": "{{inputs.n}}", "said": "{{ask.output.text}}", "by": "{{approve.output.comment}}", "child": "{{child.output.ask.text}}", "first": "{{fetch.output[0].body.n}}"})),
	})
	first := c.beginWith(t, workflow, object{"n": 1, "items": []int{1, 2, 3}})
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+first.ID+"/signals/approve", object{"approve": true, "comment": "fine"}), 202)
	if first = c.awaitEnd(t, first.ID); first.Status != "COMPLETED" {
		t.Fatal(statuses(first), first.Error)
	}
	asked, answered := len(model.Requests()), served.Load()

	replay := data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+first.ID+"/replay", nil), 201)
	again := c.awaitEnd(t, replay.ID)
	if statuses(again) != statuses(first) || again.ReplayOf == nil || *again.ReplayOf != first.ID || again.Usage != nil || again.RetryOf != nil {
		t.Errorf("the replay is %s with %+v, of %v", statuses(again), again.Error, again.ReplayOf)
	}
	same(t, "what comes out", again.Outputs, string(first.Outputs))
	for _, s := range again.Steps {
		taken := s.StepKey == "ask" || s.StepKey == "approve" || s.StepKey == "child" // the loop itself runs, and its items are taken
		if (s.ReusedFrom != nil) != taken || taken && *s.ReusedFrom != first.ID || s.ChildExecutionID != nil || s.Attempts != 1 {
			t.Errorf("of the step %s it says %v, %v", s.StepKey, s.ReusedFrom, s.ChildExecutionID)
		}
	}
	if lines := c.logs(t, again.ID, "", 2); lines[1].Message != "counts" {
		t.Errorf("the code says %+v", lines)
	}
	if n, m := len(model.Requests()), served.Load(); n != asked || m != answered {
		t.Errorf("the model was asked %d times more, the server %d times", n-asked, m-answered)
	}
	fault(t, user(t).do(t, "POST", "/executions/"+first.ID+"/replay", nil), "NOT_FOUND")
}

// TestReplayOfAFailure repeats executions that have failed, or were cancelled before a model was asked.
func TestReplayOfAFailure(t *testing.T) {
	t.Parallel()
	c := user(t)
	model := llmtest.New(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Status: 401, Text: "no such key"} })
	undoes := object{"compensate": object{"agentId": c.code(t, `function handler() { return 1 }`)}}
	first := c.run(t, c.workflow(t, []object{
		step("before", c.code(t, `function handler() { return 1 }`), undoes),
		step("ask", c.llm(t, model, object{"prompt": "x"}), after("before")),
	}), nil)
	asked := len(model.Requests())
	again := c.awaitEnd(t, data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+first.ID+"/replay", nil), 201).ID)
	was, is := state(t, first, "ask"), state(t, again, "ask")
	if first.Status != "FAILED" || again.Status != "FAILED" || is.Error.Code != was.Error.Code || is.Error.Message != was.Error.Message || len(model.Requests()) != asked {
		t.Errorf("%s with %+v was %s with %+v", statuses(again), is.Error, statuses(first), was.Error)
	}
	if first.CompensatedBy == nil || again.CompensatedBy != nil {
		t.Errorf("what was undone is undone by %v, and in the replay by %v", first.CompensatedBy, again.CompensatedBy)
	}

	waits := c.begin(t, c.workflow(t, []object{{"stepKey": "wait", "stepType": "WAIT", "config": object{"signal": "go"}}}))
	fault(t, c.do(t, "POST", "/executions/"+waits.ID+"/replay", nil), "CONFLICT")
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+waits.ID+"/cancel", nil), 202)
	c.awaitEnd(t, waits.ID)
	again = c.awaitEnd(t, data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+waits.ID+"/replay", nil), 201).ID)
	if again.Status != "FAILED" || state(t, again, "wait").Error.Code != runner.CodeNotRecorded {
		t.Errorf("%s with %+v", statuses(again), again.Error)
	}
}
