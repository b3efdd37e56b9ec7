//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/llmtest"
)

// llm makes an ACTIVE agent whose one provider is a server of the test.
func (c *client) llm(t testing.TB, s *llmtest.Server, config object) string {
	t.Helper()
	config["providers"] = []object{{"type": "openai", "model": "gpt-5-mini", "baseUrl": s.URL + "/v1", "apiKey": "{{secrets.MODEL_KEY}}"}}
	if a := c.do(t, "PUT", "/secrets/MODEL_KEY", object{"value": canary}); a.status >= 300 {
		t.Fatal(a)
	}
	return c.agent(t, "LLM", config)
}

func (c *client) calls(t testing.TB, execution, step string) []orchestrator.Call {
	t.Helper()
	calls, _ := page[orchestrator.Call](t, c.do(t, "GET", "/executions/"+execution+"/steps/"+step+"/calls", nil))
	return calls
}

// TestLLM has a model call an agent and answer, and looks at all that is told of it.
func TestLLM(t *testing.T) {
	t.Parallel()
	c := user(t)
	written, goOn := make(chan struct{}), make(chan struct{})
	model := llmtest.New(t, func(r llmtest.Request) llmtest.Reply {
		if r.Key != canary {
			t.Errorf("it is asked with the key %q", r.Key)
		}
		if r.N == 1 {
			close(written)
			<-goOn
			return llmtest.Reply{Text: "I look it up.", Calls: []llmtest.Call{{ID: "x", Name: "population", Arguments: `{"city":"Paris"}`}}, Input: 100, Output: 10}
		}
		return llmtest.Reply{Text: "Paris has 2100000 people; my key is " + canary, Input: 200, Output: 20}
	})
	tool := c.code(t, `function handler(input) { return { people: input.city === "Paris" ? 2100000 : 0 } }`)
	agent := c.llm(t, model, object{"prompt": "How many people has {{city}}?", "tools": []object{{"agentId": tool, "name": "population", "description": "tells how many people a city has"}}})
	e := c.beginWith(t, c.workflow(t, []object{
		step("ask", agent, inputs(object{"city": "{{inputs.city}}"})),
		// The end of an execution closes its stream, and may overtake what a model has written last.
		{"stepKey": "read", "stepType": "WAIT", "config": object{"signal": "read"}, "dependsOn": []string{"ask"}},
	}), object{"city": "Paris"})
	<-written
	streamed := make(chan []sent, 1)
	go func() {
		events, err := c.stream(context.WithoutCancel(t.Context()), e.ID, "", -1)
		if err != nil {
			t.Error(err)
		}
		streamed <- events
	}()
	close(goOn)
	c.until(t, e.ID, "answered", func(e orchestrator.Execution) bool { return state(t, e, "read").Status == "RUNNING" || ended(e) })
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+e.ID+"/signals/read", nil), 202)
	e = c.awaitEnd(t, e.ID)

	var out struct {
		Text  string
		Turns int
	}
	if err := json.Unmarshal(state(t, e, "ask").Output, &out); err != nil || e.Status != "COMPLETED" || out.Turns != 2 || out.Text != "Paris has 2100000 people; my key is ***" {
		t.Fatalf("%s gives %s, %+v", statuses(e), state(t, e, "ask").Output, e.Error)
	}
	want := orchestrator.Usage{Calls: 2, InputTokens: 300, OutputTokens: 30, CostUSD: 0.000135}
	if e.Usage == nil || *e.Usage != want || *state(t, e, "ask").Usage != want {
		t.Errorf("it has used %+v, the step %+v", e.Usage, state(t, e, "ask").Usage)
	}
	calls := c.calls(t, e.ID, "ask")
	if len(calls) != 3 || calls[0].Kind != "MODEL" || calls[0].Name != "gpt-5-mini" || calls[1].Kind != "AGENT" || calls[1].ChildExecutionID == nil || calls[2].Status != "COMPLETED" {
		t.Fatalf("the calls are %+v", calls)
	}
	if string(calls[1].Input) != `{"city":"Paris"}` || string(calls[1].Output) != `{"people":2100000}` || calls[1].DurationMs == nil {
		t.Errorf("the tool's call is %+v", calls[1])
	}
	if child := c.execution(t, *calls[1].ChildExecutionID); child.Status != "COMPLETED" || child.ParentExecutionID == nil || *child.ParentExecutionID != e.ID {
		t.Errorf("the tool's execution is %+v", child)
	}
	text := map[int]string{}
	for _, one := range <-streamed {
		var piece struct {
			Call int
			Text string
		}
		if one.kind == "token" && json.Unmarshal([]byte(one.data), &piece) == nil {
			text[piece.Call] += piece.Text
		}
	}
	if text[1] != "I look it up." || text[3] != out.Text {
		t.Errorf("the stream has the text %v", text)
	}
	if strings.Contains(fmt.Sprint(calls), canary) {
		t.Error("the key is in the calls")
	}
}

// TestLLMBudgets is S12 for money: a hundred items at once have one budget, of an execution, and the room of it is for five.
func TestLLMBudgets(t *testing.T) {
	t.Parallel()
	c := user(t)
	model := llmtest.New(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "done", Input: 100, Output: 100} })
	agent := c.llm(t, model, object{"prompt": "{{n}}", "maxTokens": 100, "budgets": []object{{"scope": "execution", "maxTokens": 1000}}})
	items := make([]int, 100)
	e := c.run(t, c.workflow(t, []object{{
		"stepKey": "all", "stepType": "LOOP", "agentId": agent, "inputs": object{"n": "{{item}}"},
		"config": object{"forEach": "inputs.items", "concurrency": 100, "maxFailures": 100},
	}}), object{"items": items})
	used := e.Usage
	if used == nil || used.InputTokens+used.OutputTokens > 1000 || used.Calls < 4 || used.Calls > 5 {
		t.Errorf("%s has used %+v", statuses(e), used)
	}
	if n := len(model.Requests()); n != used.Calls {
		t.Errorf("the model was asked %d times, and %d calls are told", n, used.Calls)
	}
}

// TestLLMApproval has a step wait for more than its budget: somebody approves of a little more, and then refuses, or approves of all.
func TestLLMApproval(t *testing.T) {
	t.Parallel()
	c := user(t)
	e := c.overBudget(t)
	c.awaitBudget(t, e.ID)
	if w := state(t, c.execution(t, e.ID), "ask").WaitingFor; w == nil || w.Reason != "BUDGET" {
		t.Errorf("it waits for %+v", w)
	}
	explained := data[orchestrator.Explanation](t, c.do(t, "GET", "/executions/"+e.ID+"/explain", nil), 200)
	if s := explained.Steps[0]; s.Reason != "BUDGET" || !strings.Contains(s.Remedy, "/executions/"+e.ID+"/steps/ask/budget") || explained.Summary != "It is running: 1 step waits for somebody to decide about a budget." {
		t.Errorf("explained by %+v", explained)
	}
	c.decide(t, e.ID, object{"approved": true, "maxTokens": 11})
	c.decide(t, e.ID, object{"approved": false, "comment": "too dear"})
	if e = c.awaitEnd(t, e.ID); e.Status != "FAILED" || state(t, e, "ask").Error.Code != runner.CodeBudget || !strings.HasSuffix(state(t, e, "ask").Error.Message, "more was refused: too dear") {
		t.Errorf("refused, %s with %+v", statuses(e), state(t, e, "ask").Error)
	}
	e = c.overBudget(t)
	c.decide(t, e.ID, object{"approved": true})
	if e = c.awaitEnd(t, e.ID); e.Status != "COMPLETED" {
		t.Errorf("approved, %s with %+v", statuses(e), e.Error)
	}
}

// overBudget begins an execution whose step ask waits until somebody approves of more than its budget.
func (c *client) overBudget(t *testing.T) orchestrator.Execution {
	t.Helper()
	model := llmtest.New(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "done"} })
	agent := c.llm(t, model, object{"prompt": "x", "budgets": []object{{"scope": "step", "maxTokens": 10, "action": "approve"}}})
	return c.begin(t, c.workflow(t, []object{step("ask", agent)}))
}

// awaitBudget waits until the step ask says that it waits.
func (c *client) awaitBudget(t *testing.T, execution string) {
	t.Helper()
	for _, line := range c.logs(t, execution, "", 1) {
		if !strings.Contains(line.Message, "the step waits until somebody approves of more, or refuses") {
			t.Errorf("the log is %+v", line)
		}
	}
}

// decide answers the step ask once it waits.
func (c *client) decide(t *testing.T, execution string, body object) {
	t.Helper()
	eventually(t, readyWithin, func() error {
		if a := c.do(t, "POST", "/executions/"+execution+"/steps/ask/budget", body); a.status != 200 {
			return errors.New(a.String())
		}
		return nil
	})
}

// TestLLMCancel cancels an execution while a model writes.
func TestLLMCancel(t *testing.T) {
	t.Parallel()
	c := user(t)
	asked := make(chan struct{})
	model := llmtest.New(t, func(llmtest.Request) llmtest.Reply {
		close(asked)
		return llmtest.Reply{Text: "for ever", Hang: true}
	})
	e := c.begin(t, c.workflow(t, []object{step("ask", c.llm(t, model, object{"prompt": "x", "maxTokens": 50}))}))
	<-asked
	data[orchestrator.CommandResponse](t, c.do(t, "POST", "/executions/"+e.ID+"/cancel", nil), 202)
	eventually(t, stopWithin, func() error {
		if e = c.execution(t, e.ID); e.Status != "CANCELLED" {
			return errors.New(statuses(e))
		}
		return nil
	})
	eventually(t, 10*time.Second, func() error { // what was reserved counts
		if call := c.calls(t, e.ID, "ask")[0]; call.Status != "FAILED" || call.OutputTokens != 50 {
			return fmt.Errorf("the call is %+v", call)
		}
		return nil
	})
	fault(t, c.do(t, "POST", "/executions/"+e.ID+"/steps/ask/budget", object{"approved": true}), errs.Conflict)
}
