//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

const (
	executionFields = "id workflowId workflowVersion userId status triggerType inputs outputs error priority parentExecutionId retryOf progress createdAt startedAt completedAt durationMs"
	stateFields     = "stepKey stepType agentId status attempts input output error waitingFor startedAt completedAt durationMs"
)

// run executes a workflow and waits for its end.
func (c *client) run(t testing.TB, workflow string, in object) orchestrator.Execution {
	t.Helper()
	return data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute?wait=60s", object{"inputs": in}), 200)
}

// begin executes a workflow and does not wait.
func (c *client) begin(t testing.TB, workflow string, headers ...string) orchestrator.Execution {
	t.Helper()
	return data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute", object{}, headers...), 201)
}

func (c *client) execution(t testing.TB, id string) orchestrator.Execution {
	t.Helper()
	return data[orchestrator.Execution](t, c.do(t, "GET", "/executions/"+id, nil), 200)
}

func state(t testing.TB, e orchestrator.Execution, key string) orchestrator.StepState {
	t.Helper()
	for _, s := range e.Steps {
		if s.StepKey == key {
			return s
		}
	}
	t.Fatalf("there is no step %s in %+v", key, e)
	return orchestrator.StepState{}
}

// statuses gives the steps' statuses in one line.
func statuses(e orchestrator.Execution) string {
	list := []string{e.Status + ":"}
	for _, s := range e.Steps {
		list = append(list, s.StepKey+" "+s.Status)
	}
	return strings.Join(list, " ")
}

// same checks that a JSON value is the one written in want.
func same(t testing.TB, what string, got json.RawMessage, want string) {
	t.Helper()
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%s is %s, want %s", what, got, want)
	}
}

func TestExecution(t *testing.T) {
	t.Parallel()
	c := user(t)
	type call struct {
		header http.Header
		body   string
	}
	calls := make(chan call, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, string(body)}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Answer", r.URL.RequestURI())
		_, _ = io.WriteString(w, `{"rate":1.5}`)
	}))
	t.Cleanup(server.Close)

	double := c.code(t, `function handler(input, context) {
		return {rows: input.rows.map(r => ({name: r.name, n: r.n * 2})), context: {...context, logger: typeof context.logger.info}}
	}`)
	pick := c.agent(t, "DATA", object{"pipeline": []object{
		{"operation": "filter", "conditions": []object{{"field": "n", "operator": "gt", "value": 2}}},
		{"operation": "sort", "sort": []object{{"field": "n", "direction": "desc"}}},
	}})
	rate := c.agent(t, "API", object{"method": "POST", "url": server.URL + "/rates/{{currency}}", "query": object{"q": "{{q}}"}, "headers": object{"X-Name": "n={{top.n}}"}, "body": "{{top}}"})
	join := c.code(t, identityCode)

	steps := []object{
		step("double", double, inputs(object{"rows": "{{inputs.rows}}"})),
		step("pick", pick, after("double"), inputs(object{"data": "{{double.output.rows}}"})),
		step("rate", rate, after("pick"), inputs(object{"currency": "a/b", "q": "x&y", "top": "{{pick.output.data[0]}}"})),
		step("join", join, after("rate"), inputs(object{
			"number": "{{rate.output.body.rate}}", "text": "rate {{rate.output.body.rate}} of {{pick.output.data[0]}}", "list": "{{pick.output.data}}",
			"yes": "{{inputs.yes}}", "none": "{{inputs.none}}", "missing": "{{inputs.missing}}", "data": "{{inputs.template}}", "id": "{{metadata.executionId}}", "kept": []any{1, nil, "x"},
		})),
	}
	workflow := c.workflow(t, steps)
	in := object{"rows": []object{{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}}, "yes": true, "none": nil, "template": "{{inputs.yes}}"}
	a := c.do(t, "POST", "/workflows/"+workflow+"/execute?wait=60s", object{"inputs": in, "priority": 7})
	answered := data[object](t, a, 200)
	shape(t, "an execution", answered, executionFields+" steps")
	shape(t, "a step's state", answered["steps"].([]any)[0], stateFields)
	shape(t, "the progress", answered["progress"], "total completed failed skipped percent")
	e := data[orchestrator.Execution](t, a, 200)
	if got := statuses(e); got != "COMPLETED: double COMPLETED pick COMPLETED rate COMPLETED join COMPLETED" {
		t.Fatalf("%s\n%s", got, a)
	}
	if e.WorkflowID != workflow || e.WorkflowVersion != 1 || e.UserID != c.session.User.ID || e.TriggerType != "API" || e.Priority != 7 || e.Error != nil ||
		e.Progress != (orchestrator.Progress{Total: 4, Completed: 4, Percent: 100}) {
		t.Errorf("the execution is %+v", e)
	}
	if e.StartedAt == nil || e.CompletedAt == nil || e.DurationMs == nil || e.StartedAt.Before(e.CreatedAt) || e.CompletedAt.Before(*e.StartedAt) {
		t.Errorf("the times are %v, %v, %v, %v", e.CreatedAt, e.StartedAt, e.CompletedAt, e.DurationMs)
	}
	for _, s := range e.Steps {
		if s.Attempts != 1 || s.Error != nil || s.WaitingFor != nil || s.StartedAt == nil || s.CompletedAt == nil || s.DurationMs == nil || s.CompletedAt.Before(*s.StartedAt) {
			t.Errorf("the step is %+v", s)
		}
	}

	var doubled struct {
		Context struct {
			ExecutionID, StepKey, IdempotencyKey, Logger string
			Attempt                                      int
		}
	}
	if err := json.Unmarshal(state(t, e, "double").Output, &doubled); err != nil {
		t.Fatal(err)
	}
	if got := doubled.Context; got.ExecutionID != e.ID || got.StepKey != "double" || got.Attempt != 1 || got.IdempotencyKey == "" || got.Logger != "function" {
		t.Errorf("the context is %+v", got)
	}
	same(t, "the output of pick", state(t, e, "pick").Output, `{"data":[{"name":"c","n":6},{"name":"b","n":4}],"count":2}`)

	got := <-calls
	if got.header.Get("Idempotency-Key") == "" || got.header.Get("Idempotency-Key") == doubled.Context.IdempotencyKey || got.header.Get("X-Turbocat-Attempt") != "1" || got.header.Get("X-Name") != "n=6" {
		t.Errorf("the API agent sent the headers %v", got.header)
	}
	same(t, "what the API agent sent", json.RawMessage(got.body), `{"name":"c","n":6}`)
	var rated object
	if err := json.Unmarshal(state(t, e, "rate").Output, &rated); err != nil {
		t.Fatal(err)
	}
	shape(t, "the output of an API agent", rated, "status headers body timing")
	if rated["status"] != 200.0 || rated["headers"].(object)["x-answer"] != "/rates/a%2Fb?q=x%26y" {
		t.Errorf("the output of an API agent is %v", rated)
	}

	same(t, "the output of join", state(t, e, "join").Output, `{"number":1.5,"text":"rate 1.5 of {\"name\":\"c\",\"n\":6}","list":[{"name":"c","n":6},{"name":"b","n":4}],
		"yes":true,"none":null,"missing":"{{inputs.missing}}","data":"{{inputs.yes}}","id":"`+e.ID+`","kept":[1,null,"x"]}`)
	same(t, "the input of join", state(t, e, "join").Input, string(state(t, e, "join").Output))
	var outputs map[string]json.RawMessage
	if err := json.Unmarshal(e.Outputs, &outputs); err != nil || keys(outputs) != "double join pick rate" {
		t.Errorf("the outputs are %s", e.Outputs)
	}

	chosen := c.workflow(t, steps, object{"outputs": object{"best": "{{pick.output.data[0].name}}", "all": "{{pick.output.count}}", "in": "{{inputs.yes}}"}})
	same(t, "the chosen outputs", c.run(t, chosen, in).Outputs, `{"best":"c","all":2,"in":true}`)

	strict := c.run(t, c.workflow(t, steps, object{"strictTemplates": true}), in)
	if got := statuses(strict); got != "FAILED: double COMPLETED pick COMPLETED rate COMPLETED join FAILED" || strict.Error == nil || strict.Error.Code != "TEMPLATE_ERROR" || strict.Error.StepKey != "join" {
		t.Errorf("%s with %+v", got, strict.Error)
	}
}

// TestParallelBranches has each of two branches answered only once the other one has called too.
func TestParallelBranches(t *testing.T) {
	t.Parallel()
	c := user(t)
	var called sync.WaitGroup
	called.Add(2)
	first := [2]func(){sync.OnceFunc(called.Done), sync.OnceFunc(called.Done)}
	both := make(chan struct{})
	go func() {
		called.Wait()
		close(both)
	}()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		which := 0
		if r.URL.Path == "/right" {
			which = 1
		}
		first[which]()
		select {
		case <-both:
			_, _ = io.WriteString(w, `{}`)
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	branch := func(key string) string {
		return c.agent(t, "API", object{"url": server.URL + "/" + key, "timeoutMs": 50_000})
	}
	e := c.run(t, c.workflow(t, []object{step("left", branch("left")), step("right", branch("right")), step("join", c.code(t, identityCode), after("left", "right"))}), nil)
	first[0]() // should they not have come
	first[1]()
	if e.Status != "COMPLETED" {
		t.Fatal(statuses(e))
	}
	left, right, join := state(t, e, "left"), state(t, e, "right"), state(t, e, "join")
	if !left.StartedAt.Before(*right.CompletedAt) || !right.StartedAt.Before(*left.CompletedAt) {
		t.Errorf("the branches are recorded one after the other: %+v %+v", left, right)
	}
	if join.StartedAt.Before(*left.CompletedAt) || join.StartedAt.Before(*right.CompletedAt) {
		t.Errorf("they are joined before both have ended: %+v", join)
	}
}

func TestOnError(t *testing.T) {
	t.Parallel()
	c := user(t)
	boom := c.code(t, "function handler() {\n\tthrow new RangeError('boom')\n}")
	wait := c.code(t, `function handler() { return new Promise(done => setTimeout(done, 20000)) }`)
	echo := c.code(t, identityCode)

	t.Run("FAIL", func(t *testing.T) {
		t.Parallel()
		started := time.Now()
		e := c.run(t, c.workflow(t, []object{step("bad", boom), step("beside", wait), step("behind", echo, after("bad")), step("later", echo, after("beside"))}), nil)
		if got := statuses(e); got != "FAILED: bad FAILED beside CANCELLED behind SKIPPED later SKIPPED" {
			t.Error(got)
		}
		if e.Error == nil || e.Error.Code != "CODE_ERROR" || e.Error.Message != "boom" || e.Error.Type != "RangeError" || e.Error.StepKey != "bad" || !strings.Contains(e.Error.Stack, ":2:") {
			t.Errorf("the error is %+v", e.Error)
		}
		if bad := state(t, e, "bad"); bad.Error == nil || bad.Error.Message != "boom" || bad.Attempts != 1 || string(bad.Output) != "null" {
			t.Errorf("the failed step is %+v", bad)
		}
		if string(e.Outputs) != "null" || e.Progress.Failed != 1 || e.Progress.Percent != 100 || time.Since(started) > 15*time.Second {
			t.Errorf("the execution is %+v", e)
		}
	})
	t.Run("CONTINUE", func(t *testing.T) {
		t.Parallel()
		e := c.run(t, c.workflow(t, []object{
			step("bad", boom, object{"onError": "CONTINUE"}),
			step("behind", echo, after("bad"), inputs(object{"output": "{{bad.output}}", "message": "{{bad.error.message}}"})),
			step("success", echo, after("bad"), object{"triggerRule": "all_success"}),
		}), nil)
		if got := statuses(e); got != "COMPLETED: bad FAILED behind COMPLETED success SKIPPED" {
			t.Error(got)
		}
		same(t, "the outputs", e.Outputs, `{"behind":{"output":null,"message":"boom"}}`)
		if e.Error != nil || e.Progress != (orchestrator.Progress{Total: 3, Completed: 1, Failed: 1, Skipped: 1, Percent: 100}) {
			t.Errorf("the execution is %+v", e)
		}
	})
	retry := object{"onError": "RETRY", "retryCount": 3, "retryDelayMs": 20}
	t.Run("RETRY", func(t *testing.T) {
		t.Parallel()
		third := c.code(t, `function handler(input, context) { if (context.attempt < 3) throw new Error("attempt " + context.attempt); return {attempt: context.attempt} }`)
		e := c.run(t, c.workflow(t, []object{step("third", third, retry)}), nil)
		if s := state(t, e, "third"); e.Status != "COMPLETED" || s.Attempts != 3 || s.Error != nil {
			t.Errorf("%s: %+v", e.Status, s)
		}
		same(t, "the outputs", e.Outputs, `{"third":{"attempt":3}}`)

		e = c.run(t, c.workflow(t, []object{step("bad", boom, retry)}), nil)
		if s := state(t, e, "bad"); e.Status != "FAILED" || s.Attempts != 4 || s.Error.Message != "boom" {
			t.Errorf("%s: %+v", e.Status, s)
		}
		final := c.code(t, `function handler() { const e = new Error("for good"); e.retryable = false; throw e }`)
		e = c.run(t, c.workflow(t, []object{step("bad", final, retry)}), nil)
		if s := state(t, e, "bad"); e.Status != "FAILED" || s.Attempts != 1 || s.Error.Retryable {
			t.Errorf("%s: %+v", e.Status, s)
		}
	})
	t.Run("RETRY of a call", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		var seen []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Header.Get("X-Turbocat-Attempt")+" "+r.Header.Get("Idempotency-Key"))
			if len(seen) < 3 {
				w.WriteHeader(503)
			}
		}))
		t.Cleanup(server.Close)
		call := c.agent(t, "API", object{"url": server.URL})
		e := c.run(t, c.workflow(t, []object{step("call", call, retry)}), nil)
		if got := statuses(e); got != "COMPLETED: call COMPLETED" {
			t.Error(got)
		}
		key := seen[0][2:]
		if want := []string{"1 " + key, "2 " + key, "3 " + key}; key == "" || !reflect.DeepEqual(seen, want) {
			t.Errorf("the server saw %q", seen)
		}

		missing := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(missing.Close)
		e = c.run(t, c.workflow(t, []object{step("call", c.agent(t, "API", object{"url": missing.URL}), retry)}), nil)
		if s := state(t, e, "call"); e.Status != "FAILED" || s.Attempts != 1 || s.Error.Code != "HTTP_STATUS" || s.Error.Retryable {
			t.Errorf("%s: %+v", e.Status, s)
		}
	})
	t.Run("timeouts", func(t *testing.T) {
		t.Parallel()
		loop := c.code(t, `function handler() { for (;;) {} }`)
		e := c.run(t, c.workflow(t, []object{step("loop", loop, object{"timeoutMs": 400})}), nil)
		if s := state(t, e, "loop"); e.Status != "FAILED" || s.Status != "FAILED" || s.Error.Code != "STEP_TIMEOUT" || *s.DurationMs < 400 {
			t.Errorf("%s: %+v", e.Status, s)
		}
		e = c.run(t, c.workflow(t, []object{step("loop", c.code(t, `function handler() { for (;;) {} }`, object{"timeoutMs": 300}))}), nil)
		if s := state(t, e, "loop"); e.Status != "FAILED" || s.Error.Code != "STEP_TIMEOUT" {
			t.Errorf("%s: %+v", e.Status, s)
		}
		e = c.run(t, c.workflow(t, []object{step("slow", wait), step("next", echo, after("slow"))}, object{"timeoutMs": 700}), nil)
		if got := statuses(e); got != "TIMEOUT: slow CANCELLED next CANCELLED" || e.Error == nil || string(e.Outputs) != "null" {
			t.Errorf("%s with %+v", got, e.Error)
		}
	})
	t.Run("source that does not parse", func(t *testing.T) {
		t.Parallel()
		e := c.run(t, c.workflow(t, []object{step("bad", c.code(t, "function handler() {\n  return 1 +\n}"), retry)}), nil)
		if s := state(t, e, "bad"); e.Status != "FAILED" || s.Error.Code != "SYNTAX_ERROR" || s.Error.Message == "" || s.Attempts != 1 {
			t.Errorf("%s: %+v %+v", e.Status, s, s.Error)
		}
	})
	t.Run("an output that nests deep", func(t *testing.T) {
		t.Parallel()
		nest := c.code(t, `function handler(input) { let v = 1; for (let i = 0; i < input.n; i++) v = [v]; return v }`)
		workflow := c.workflow(t, []object{
			step("nest", nest, inputs(object{"n": "{{inputs.n}}"})),
			step("behind", echo, after("nest"), inputs(object{"v": object{"v": "{{nest.output}}"}})),
		}, object{"outputs": object{"v": []any{"{{nest.output}}"}}})
		if e := c.run(t, workflow, object{"n": 990}); e.Status != "COMPLETED" {
			t.Errorf("%s: %+v", statuses(e), e.Error)
		}
		for _, n := range []int{1001, 9990, 9999, 20000} {
			if e := c.run(t, workflow, object{"n": n}); e.Status != "FAILED" || e.Error.Code != "INVALID_OUTPUT" {
				t.Errorf("%d levels: %s: %+v", n, statuses(e), e.Error)
			}
		}
		if _, p := page[object](t, c.do(t, "GET", "/workflows/"+workflow+"/executions", nil)); p.Total != 5 {
			t.Errorf("%d are listed", p.Total)
		}
	})
	t.Run("a refused address", func(t *testing.T) {
		t.Parallel()
		e := c.run(t, c.workflow(t, []object{step("call", c.agent(t, "API", object{"url": "http://169.254.169.254/latest/meta-data"}))}), nil)
		if s := state(t, e, "call"); e.Status != "FAILED" || s.Error.Code != "ADDRESS_REFUSED" || s.Error.Retryable {
			t.Errorf("%s: %+v", e.Status, s.Error)
		}
	})
}

func TestWaitAndIdempotencyKey(t *testing.T) {
	t.Parallel()
	c := user(t)
	slow := c.code(t, `function handler(input) { return new Promise(done => setTimeout(() => done(input), 2500)) }`)
	workflow := c.workflow(t, []object{step("slow", slow, inputs(object{"n": "{{inputs.n}}"}))})
	execute := "/workflows/" + workflow + "/execute"

	first := data[orchestrator.Execution](t, c.do(t, "POST", execute+"?wait=1s", object{"inputs": object{"n": 1}}, "Idempotency-Key", "k"), 202)
	if first.Status == "COMPLETED" {
		t.Errorf("the wait was over and the execution %s", first.Status)
	}
	again := data[orchestrator.Execution](t, c.do(t, "POST", execute, raw(`{ "inputs" : {"n":1} }`), "Idempotency-Key", "k"), 201)
	waited := data[orchestrator.Execution](t, c.do(t, "POST", execute+"?wait=30s", object{"inputs": object{"n": 1}}, "Idempotency-Key", "k"), 200)
	if again.ID != first.ID || waited.ID != first.ID || waited.Status != "COMPLETED" {
		t.Errorf("one key made the executions %s, %s, %s", first.ID, again.ID, waited.ID)
	}
	fault(t, c.do(t, "POST", execute, object{"inputs": object{"n": 2}}, "Idempotency-Key", "k"), errs.Conflict)
	fault(t, c.do(t, "POST", execute, object{"inputs": object{"n": 1}, "priority": 1}, "Idempotency-Key", "k"), errs.Conflict)
	if other := data[orchestrator.Execution](t, c.do(t, "POST", execute, object{"inputs": object{"n": 1}}, "Idempotency-Key", "l"), 201); other.ID == first.ID {
		t.Error("two keys made one execution")
	}

	stranger := user(t)
	theirs := stranger.workflow(t, []object{step("a", stranger.code(t, identityCode))})
	if got := data[orchestrator.Execution](t, stranger.do(t, "POST", "/workflows/"+theirs+"/execute", nil, "Idempotency-Key", "k"), 201); got.ID == first.ID {
		t.Error("a key is shared between users")
	}
	for _, wait := range []string{"0s", "121s", "x", "10", "-5s"} {
		fault(t, c.do(t, "POST", execute+"?wait="+wait, nil), errs.Validation)
	}
	for _, body := range []raw{`[]`, `{"inputs":[]}`, `{"inputs":7}`, `{"priority":10}`, `{"priority":"x"}`, `{"priority":1.5}`, `{"input":{}}`, `{`} {
		fault(t, c.do(t, "POST", execute, body), errs.Validation)
	}
	fault(t, c.do(t, "POST", execute, nil, "Idempotency-Key", strings.Repeat("k", 300)), errs.Validation)
	_, before := page[object](t, c.do(t, "GET", "/executions", nil))
	if before.Total != 2 {
		t.Errorf("there are %d executions, want 2", before.Total)
	}
}

func TestInputSchemaAndVersions(t *testing.T) {
	t.Parallel()
	c := user(t)
	slow := c.code(t, `function handler(input) { return new Promise(done => setTimeout(() => done(input), 1000)) }`)
	echo := c.code(t, identityCode)
	workflow := c.workflow(t, []object{step("slow", slow), step("last", echo, after("slow"), inputs(object{"v": "old"}))}, object{
		"inputSchema": object{"type": "object", "required": []string{"n"}, "properties": object{"n": object{"type": "integer"}}},
	})
	if e := fault(t, c.do(t, "POST", "/workflows/"+workflow+"/execute", object{"inputs": object{"n": "x"}}), errs.Validation); len(e.Details) != 1 || e.Details[0].Field != "inputs.n" {
		t.Errorf("the fault is %+v", e)
	}
	fault(t, c.do(t, "POST", "/workflows/"+workflow+"/execute", nil), errs.Validation)
	if _, p := page[object](t, c.do(t, "GET", "/workflows/"+workflow+"/executions", nil)); p.Total != 0 {
		t.Errorf("refused inputs made %d executions", p.Total)
	}

	begun := data[orchestrator.Execution](t, c.do(t, "POST", "/workflows/"+workflow+"/execute", object{"inputs": object{"n": 1}}), 201)
	changed := data[catalog.Workflow](t, c.do(t, "PATCH", "/workflows/"+workflow, object{"steps": []object{{"stepKey": "last", "inputs": object{"v": "new"}}}}), 200)
	c.do(t, "PATCH", "/agents/"+echo, object{"config": object{"runtime": "javascript", "source": `function handler() { return "new agent" }`}})
	if changed.Version != 2 {
		t.Errorf("version %d", changed.Version)
	}
	e := c.awaitEnd(t, begun.ID)
	if e.WorkflowVersion != 1 {
		t.Errorf("version %d", e.WorkflowVersion)
	}
	same(t, "the output of an execution begun before the change", state(t, e, "last").Output, `{"v":"old"}`)
	same(t, "the output of one begun after it", state(t, c.run(t, workflow, object{"n": 1}), "last").Output, `"new agent"`)
}

// awaitEnd waits until the execution is terminal.
func (c *client) awaitEnd(t testing.TB, id string) orchestrator.Execution {
	t.Helper()
	var e orchestrator.Execution
	if err := poll(t.Context(), 60*time.Second, func() error {
		if e = c.execution(t, id); !ended(e) {
			return fmt.Errorf("the execution %s: %s", id, statuses(e))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return e
}

func ended(e orchestrator.Execution) bool {
	return e.Status != "PENDING" && e.Status != "RUNNING" && e.Status != "PAUSED"
}

func TestExecutionList(t *testing.T) {
	t.Parallel()
	c := user(t)
	good := c.workflow(t, []object{step("a", c.code(t, identityCode))})
	bad := c.workflow(t, []object{step("a", c.code(t, `function handler() { throw new Error("x") }`))})
	var ids []string
	for range 5 {
		ids = append(ids, c.run(t, good, nil).ID)
	}
	failed := c.run(t, bad, nil)

	list := func(query string) ([]orchestrator.Execution, int, *string) {
		t.Helper()
		items, p := page[orchestrator.Execution](t, c.do(t, "GET", query, nil))
		return items, p.Total, p.NextCursor
	}
	if items, total, _ := list("/executions"); total != 6 || len(items) != 6 || items[0].ID != failed.ID || items[5].ID != ids[0] || items[0].Steps != nil || items[0].Error == nil {
		t.Errorf("listed %d of %d", len(items), total)
	}
	middle := c.execution(t, ids[2]).CreatedAt.Format(time.RFC3339Nano)
	for query, want := range map[string]int{
		"/executions?workflowId=" + good:                       5,
		"/executions?status=FAILED":                            1,
		"/executions?status=COMPLETED&workflowId=" + bad:       0,
		"/executions?status=CANCELLED":                         0,
		"/executions?triggerType=API":                          6,
		"/executions?triggerType=MANUAL":                       0,
		"/executions?from=" + middle:                           4,
		"/executions?to=" + middle:                             2,
		"/executions?from=" + middle + "&to=" + middle:         0,
		"/workflows/" + good + "/executions":                   5,
		"/workflows/" + bad + "/executions?status=FAILED":      1,
		"/workflows/" + bad + "/executions?status=COMPLETED":   0,
		"/workflows/" + good + "/executions?pageSize=3&page=2": 5,
	} {
		if _, total, _ := list(query); total != want {
			t.Errorf("%s gives %d, want %d", query, total, want)
		}
	}

	// By cursor, while another one is begun, every one of the six appears once.
	seen := map[string]bool{}
	cursor, pages := "", 0
	for {
		items, _, next := list("/executions?pageSize=2&cursor=" + cursor)
		for _, e := range items {
			if seen[e.ID] {
				t.Errorf("%s appears twice", e.ID)
			}
			seen[e.ID] = true
		}
		if pages++; next == nil || pages > 10 {
			break
		}
		if cursor = *next; pages == 1 {
			c.run(t, good, nil)
		}
	}
	if len(seen) != 6 || pages > 4 {
		t.Errorf("%d executions on %d pages", len(seen), pages)
	}
	items, _, next := list("/executions?pageSize=2&sortOrder=asc&status=COMPLETED&page=2")
	if len(items) != 2 || items[0].ID != ids[2] || items[1].ID != ids[3] || next == nil {
		t.Errorf("the second page is %+v", items)
	}
	for _, query := range []string{"page=1&cursor=" + *next, "pageSize=0", "pageSize=101", "status=DONE", "triggerType=x", "from=yesterday", "workflowId=x", "sortBy=inputs", "cursor=e30"} {
		fault(t, c.do(t, "GET", "/executions?"+query, nil), errs.Validation)
	}

	other := user(t)
	fault(t, other.do(t, "GET", "/executions/"+failed.ID, nil), errs.NotFound)
	fault(t, other.do(t, "GET", "/executions/"+failed.ID+"/logs", nil), errs.NotFound)
	fault(t, other.do(t, "GET", "/executions/"+failed.ID+"/events", nil), errs.NotFound)
	fault(t, other.do(t, "POST", "/executions/"+failed.ID+"/cancel", nil), errs.NotFound)
	if _, p := page[object](t, other.do(t, "GET", "/executions?workflowId="+good, nil)); p.Total != 0 {
		t.Errorf("another user sees %d", p.Total)
	}
}
