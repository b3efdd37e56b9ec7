//go:build unix

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/examples"
	"turbocat.io/tools/internal/workflowfile"
)

// articles are some to review; the last one is bad.
func articles(n int) []object {
	list := make([]object, n)
	for i := range list {
		list[i] = object{"title": fmt.Sprintf("A%d", i), "words": 300 + 100*i}
	}
	list[n-1]["words"] = 10
	return list
}

// example makes the workflow of an example's file.
func (c *client) example(t *testing.T, raw []byte) string {
	t.Helper()
	file, err := workflowfile.Parse("example", raw)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, a := range file.Agents {
		var config object
		if err := json.Unmarshal(a.Config, &config); err != nil {
			t.Fatal(err)
		}
		ids[a.Name] = c.agent(t, a.Type, config)
	}
	var steps []object
	for _, s := range file.Steps(ids) {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, o)
	}
	return c.workflow(t, steps)
}

// beginWith executes a workflow with inputs and does not wait.
func (c *client) beginWith(t *testing.T, workflow string, in object) orchestrator.Execution {
	t.Helper()
	return data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute", object{"inputs": in}), 201)
}

// until polls an execution.
func (c *client) until(t *testing.T, id, what string, ok func(orchestrator.Execution) bool) (e orchestrator.Execution) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		if e = c.execution(t, id); !ok(e) {
			return errors.New("not " + what + ": " + statuses(e))
		}
		return nil
	})
	return e
}

func TestEveryStepType(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.example(t, examples.Review())

	good := c.run(t, workflow, object{"articles": articles(6)[:5]})
	if got := statuses(good); got != "COMPLETED: rate COMPLETED bad COMPLETED look SKIPPED arrange COMPLETED publish COMPLETED" {
		t.Fatal(got)
	}
	same(t, "what is published", state(t, good, "publish").Output, `{"published":["A4","A3","A2","A1","A0"],"sums":{"articles":5,"score":25},"comment":null}`)
	if items := state(t, good, "rate").Items; items == nil || *items != (orchestrator.ItemCounts{Begun: 5, Completed: 5}) {
		t.Errorf("items of rate: %+v", items)
	}

	bad := c.beginWith(t, workflow, object{"articles": articles(6)})
	bad = c.until(t, bad.ID, "waiting", func(e orchestrator.Execution) bool {
		return state(t, e, "look").WaitingFor != nil && state(t, e, "arrange").Status == "COMPLETED"
	})
	if w := state(t, bad, "look").WaitingFor; w.Reason != "SIGNAL" || w.Until == nil {
		t.Errorf("it waits for %+v", w)
	}
	fault(t, c.do(t, "POST", "/executions/"+bad.ID+"/signals/other", object{"approve": true}), errs.NotFound)
	fault(t, c.do(t, "POST", "/executions/"+bad.ID+"/signals/look", object{"comment": "well"}), errs.Validation)
	explanation := data[orchestrator.Explanation](t, c.do(t, "GET", "/executions/"+bad.ID+"/explain", nil), 200)
	if len(explanation.Steps) != 2 || explanation.Steps[0].StepKey != "look" || explanation.Steps[0].Reason != "SIGNAL" || explanation.Steps[1].Reason != "DEPENDENCIES" {
		t.Errorf("explained by %+v", explanation)
	}
	if a := data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+bad.ID+"/signals/look", object{"approve": true, "comment": "fine"}), 202); a.CommandID == "" {
		t.Error("there is no command id")
	}
	bad = c.until(t, bad.ID, "ended", ended)
	same(t, "what is published", state(t, bad, "publish").Output, `{"published":["A4","A3","A2","A1","A0","A5"],"sums":{"articles":6,"score":25},"comment":"fine"}`)
	fault(t, c.do(t, "POST", "/executions/"+bad.ID+"/signals/look", object{"approve": true}), errs.Conflict)

	refused := c.beginWith(t, workflow, object{"articles": articles(2)})
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+refused.ID+"/signals/look", object{"approve": false, "comment": "no"}), 202) // perhaps before it is waited for
	refused = c.until(t, refused.ID, "ended", ended)
	if refused.Status != "FAILED" || refused.Error == nil || refused.Error.Code != "REJECTED" || refused.Error.StepKey != "look" {
		t.Errorf("%s with %+v", statuses(refused), refused.Error)
	}

	// Again, with what had completed; the person is asked once more.
	again := data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+refused.ID+"/retry", nil), 201)
	if again.RetryOf == nil || *again.RetryOf != refused.ID {
		t.Errorf("it is a retry of %v", again.RetryOf)
	}
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+again.ID+"/signals/look", object{"approve": true}), 202)
	again = c.until(t, again.ID, "ended", ended)
	if got := statuses(again); got != "COMPLETED: rate COMPLETED bad COMPLETED look COMPLETED arrange COMPLETED publish COMPLETED" {
		t.Error(got)
	}
	if from := state(t, again, "rate").ReusedFrom; from == nil || *from != refused.ID {
		t.Errorf("rate is reused from %v", from)
	}
	fault(t, c.do(t, "POST", "/executions/"+again.ID+"/retry", nil), errs.Conflict)
	edited := data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+again.ID+"/rerun", object{"from": "publish", "outputs": object{"look": object{"comment": "edited"}}}), 201)
	edited = c.until(t, edited.ID, "ended", ended)
	same(t, "what is published", state(t, edited, "publish").Output, `{"published":["A0","A1"],"sums":{"articles":2,"score":3},"comment":"edited"}`)
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	c := user(t)
	answer := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	first := c.agent(t, "API", object{"url": server.URL, "timeoutMs": 60000})
	workflow := c.workflow(t, []object{step("first", first), step("second", c.code(t, identityCode), after("first"))})
	e := c.begin(t, workflow)
	c.until(t, e.ID, "running", func(e orchestrator.Execution) bool { return state(t, e, "first").Status == "RUNNING" })
	for range 2 {
		data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+e.ID+"/pause", nil), 202)
	}
	c.until(t, e.ID, "paused", func(e orchestrator.Execution) bool { return e.Status == "PAUSED" })
	close(answer)
	paused := c.until(t, e.ID, "paused with its step ended", func(e orchestrator.Execution) bool {
		return e.Status == "PAUSED" && state(t, e, "first").Status == "COMPLETED"
	})
	if got := state(t, paused, "second").Status; got != "PENDING" {
		t.Errorf("second is %s", got)
	}
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+e.ID+"/resume", nil), 202)
	if e = c.until(t, e.ID, "ended", ended); e.Status != "COMPLETED" {
		t.Error(statuses(e))
	}
	fault(t, c.do(t, "POST", "/executions/"+e.ID+"/pause", nil), errs.Conflict)

	// All that wait at once are cancelled by one request.
	var ids []string
	wait := c.workflow(t, []object{{"stepKey": "w", "stepType": "WAIT", "config": object{"signal": "never"}}})
	for range 3 {
		ids = append(ids, c.begin(t, wait).ID)
	}
	done := data[orchestrator.BulkResponse](t, c.do(t, "POST", "/executions/bulk", object{"action": "CANCEL", "filter": object{"workflowId": wait}}), 200)
	if done.Matched != 3 || done.Done != 3 || len(done.Failed) > 0 {
		t.Errorf("bulk: %+v", done)
	}
	for _, id := range ids {
		if e := c.until(t, id, "ended", ended); e.Status != "CANCELLED" {
			t.Error(statuses(e))
		}
	}
}

func TestChildExecution(t *testing.T) {
	t.Parallel()
	c := user(t)
	inner := c.workflow(t, []object{step("say", c.code(t, identityCode), inputs(object{"to": "{{inputs.who}}"}))}, object{"outputs": object{"said": "{{say.output.to}}"}})
	agent := c.agent(t, "WORKFLOW", object{"workflowId": inner, "inputs": object{"who": "nobody"}})
	outer := c.workflow(t, []object{
		step("one", agent),
		{"stepKey": "all", "stepType": "LOOP", "agentId": agent, "inputs": object{"who": "{{item}}"}, "config": object{"forEach": "inputs.names", "concurrency": 2}},
	})
	e := c.run(t, outer, object{"names": []string{"a", "b", "c"}})
	if e.Status != "COMPLETED" {
		t.Fatalf("%s, %+v", statuses(e), e.Error)
	}
	same(t, "the output of one", state(t, e, "one").Output, `{"said":"nobody"}`)
	same(t, "the output of all", state(t, e, "all").Output, `[{"said":"a"},{"said":"b"},{"said":"c"}]`)
	one := c.execution(t, *state(t, e, "one").ChildExecutionID)
	if one.ParentExecutionID == nil || *one.ParentExecutionID != e.ID || one.WorkflowID != inner {
		t.Errorf("the child is %+v", one)
	}
}
