package orchestrator_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
)

// thinker saves a workflow whose steps run an LLM agent, and an agent that can be run alone. The harness plays runners of DATA agents alone, so the
// agent that is run is one, and the definition has an LLM agent beside it.
func (in *installation) thinker(steps ...catalog.Step) (workflow, agent string) {
	in.t.Helper()
	workflow = in.workflow(steps...)
	agent = in.workflow(catalog.Step{StepKey: catalog.TestStep, Inputs: json.RawMessage(`"{{inputs}}"`)})
	in.mu.Lock()
	defer in.mu.Unlock()
	def := in.workflows[workflow]
	def.Agents = append(def.Agents, catalog.DefinitionAgent{ID: uuid.NewString(), Type: catalog.AgentLLM, Version: 1, Config: json.RawMessage(`{}`)})
	in.workflows[workflow] = def
	alone := in.workflows[agent]
	alone.WorkflowVersion = 0
	in.workflows[agent] = alone
	return workflow, agent
}

func (a attempt) request() contract.AttemptRequest {
	iteration, _ := strconv.Atoi(a.iteration) // "" for the step itself
	number, _ := strconv.Atoi(a.number)
	return contract.AttemptRequest{ExecutionID: a.execution, StepKey: a.step, Iteration: iteration, Token: a.token, Attempt: number}
}

// asks a method as a runner does; a fault ends the attempt.
func asks[Req, Resp any](in *installation, m rpc.Method[Req, Resp], req Req) Resp {
	resp, err := bus.Call(in.t.Context(), in.conn, m, rpc.System("test"), req)
	if err != nil {
		in.t.Errorf("%s: %v", m.Name, err)
	}
	return resp
}

func beginOf(a attempt, n int, kind string) contract.BeginCallRequest {
	return contract.BeginCallRequest{
		Attempt: a.request(), Run: "run", N: n, Kind: kind, Name: "large", Provider: "openai", Input: json.RawMessage(`{"said":"hi"}`),
		ReserveTokens: 100, ReserveMicros: 1000, DeadlineMs: 60_000, Budgets: []catalog.Budget{{Scope: catalog.BudgetExecution, MaxTokens: 250, Action: catalog.BudgetApprove}},
	}
}

// call runs an agent as a tool and gives its end.
func (in *installation) call(a attempt, n int, agent, input string) (id string, end contract.AwaitAgentResponse) {
	begin := beginOf(a, n, contract.CallOfAgent)
	begin.ReserveTokens, begin.ReserveMicros = 0, 0
	begun := asks(in, contract.BeginCall, begin)
	req := contract.CallAgentRequest{Attempt: a.request(), CallID: begun.CallID, AgentID: agent, Input: json.RawMessage(input)}
	first, again := asks(in, contract.CallAgent, req), asks(in, contract.CallAgent, req)
	if first.ExecutionID != again.ExecutionID || first.Obsolete {
		in.t.Errorf("%+v, and again %+v", first, again)
	}
	if first.Failure != nil {
		return "", contract.AwaitAgentResponse{Done: true, Failure: first.Failure}
	}
	for !end.Done && !end.Obsolete && in.t.Context().Err() == nil {
		end = asks(in, contract.AwaitAgent, contract.AwaitAgentRequest{Attempt: a.request(), CallID: begun.CallID, WaitMs: 200})
	}
	status := contract.CallCompleted
	if end.Failure != nil || end.Obsolete {
		status = contract.CallFailed
	}
	asks(in, contract.EndCall, contract.EndCallRequest{Attempt: a.request(), CallID: begun.CallID, Status: status, Output: end.Output})
	return first.ExecutionID, end
}

func TestCalls(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	workflow, agent := in.thinker(catalog.Step{StepKey: "think"}, catalog.Step{StepKey: "plain"})
	asked := make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		switch {
		case strings.Contains(string(a.input), "bad"):
			return "", &runner.StepError{Code: runner.CodeError, Message: "boom"}
		case a.step != "think":
			return string(a.input), nil
		}
		forged := beginOf(a, 1, contract.CallOfModel)
		forged.Attempt.Token = "forged"
		if got := asks(in, contract.BeginCall, forged); !got.Obsolete || got.CallID != "" {
			t.Errorf("a forged attempt begins %+v", got)
		}
		begun := asks(in, contract.BeginCall, beginOf(a, 1, contract.CallOfModel))
		if again := asks(in, contract.BeginCall, beginOf(a, 1, contract.CallOfModel)); again.CallID != begun.CallID || begun.CallID == "" {
			t.Errorf("%+v, and again %+v", begun, again)
		}
		end := contract.EndCallRequest{Attempt: a.request(), CallID: begun.CallID, Status: contract.CallCompleted, Output: json.RawMessage(`{"text":"hm"}`), InputTokens: 80, OutputTokens: 70, CostMicros: 900}
		asks(in, contract.EndCall, end)
		asks(in, contract.EndCall, end)

		if _, end := in.call(a, 2, agent, `{"q":1}`); string(end.Output) != `{"agent":{"q":1}}` {
			t.Errorf("the agent gives %s, %+v", end.Output, end.Failure)
		}
		if _, end := in.call(a, 3, agent, `{"bad":true}`); end.Failure == nil || end.Failure.Code != runner.CodeChildFailed {
			t.Errorf("the agent that fails gives %s, %+v", end.Output, end.Failure)
		}
		if _, end := in.call(a, 4, uuid.NewString(), `{}`); end.Failure == nil || !strings.Contains(end.Failure.Message, "the agent can not be run") {
			t.Errorf("an agent that is not there gives %s, %+v", end.Output, end.Failure)
		}

		remember := contract.RememberRequest{Attempt: a.request(), Key: "k", Messages: []json.RawMessage{json.RawMessage(`{"role":"user"}`), json.RawMessage(`1`)}}
		asks(in, contract.Remember, remember)
		asks(in, contract.Remember, remember)
		if got := asks(in, contract.Recall, contract.RecallRequest{Attempt: a.request(), Key: "k", Max: 20}); len(got.Messages) != 2 || string(got.Messages[0]) != `{"role":"user"}` {
			t.Errorf("it recalls %s", got.Messages)
		}

		// 150 of 250 tokens are spent: 100 more are let through, then somebody has to say so.
		asks(in, contract.BeginCall, beginOf(a, 5, contract.CallOfModel))
		denied := asks(in, contract.BeginCall, beginOf(a, 6, contract.CallOfModel)).Denied
		if denied == nil || !denied.Pending || denied.UsedTokens != 250 || denied.MaxTokens != 250 {
			t.Errorf("beyond the budget %+v", denied)
		}
		close(asked)
		for denied != nil && denied.Pending && t.Context().Err() == nil {
			denied = asks(in, contract.BeginCall, beginOf(a, 6, contract.CallOfModel)).Denied
		}
		if denied != nil {
			t.Errorf("approved it is %+v", denied)
		}
		return `{}`, nil
	})
	x := in.submit(workflow, `{}`)
	<-asked
	decide := func(caller rpc.Caller, req contract.DecideBudgetRequest) (contract.DecideBudgetResponse, errs.Code) {
		req.ID = x.ID
		got, err := bus.Call(t.Context(), in.conn, contract.DecideBudget, caller, req)
		return got, errs.CodeOf(err)
	}
	yes, most := true, int64(600)
	other := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	for name, c := range map[string]struct {
		caller rpc.Caller
		req    contract.DecideBudgetRequest
		want   errs.Code
	}{
		"somebody else":      {other, contract.DecideBudgetRequest{StepKey: "think", Approved: &yes}, errs.NotFound},
		"no step":            {in.owner, contract.DecideBudgetRequest{StepKey: "nope", Approved: &yes}, errs.NotFound},
		"a step that is not": {in.owner, contract.DecideBudgetRequest{StepKey: "plain", Approved: &yes}, errs.Conflict},
		"nothing said":       {in.owner, contract.DecideBudgetRequest{StepKey: "think"}, errs.Validation},
		"too long a comment": {in.owner, contract.DecideBudgetRequest{StepKey: "think", Approved: &yes, Comment: strings.Repeat("x", 1001)}, errs.Validation},
	} {
		if _, code := decide(c.caller, c.req); code != c.want {
			t.Errorf("%s: %q, want %q", name, code, c.want)
		}
	}
	if got, code := decide(in.owner, contract.DecideBudgetRequest{StepKey: "think", Approved: &yes, MaxTokens: &most}); code != "" || got.Decided != 1 {
		t.Errorf("%+v, %q", got, code)
	}
	x = in.await(x.ID, "ended", terminal)
	if x.Status != contract.ExecutionCompleted {
		t.Fatalf("%s, %+v", x.Status, x.Error)
	}
	want := contract.Usage{Calls: 3, InputTokens: 80, OutputTokens: 70, CostUSD: 0.0009, ReservedTokens: 200, ReservedCostUSD: 0.002}
	if x.Usage == nil || *x.Usage != want || x.Steps[0].Usage == nil || *x.Steps[0].Usage != want || x.Steps[1].Usage != nil {
		t.Errorf("usage %+v, %+v, %+v", x.Usage, x.Steps[0].Usage, x.Steps[1].Usage)
	}
	list, err := bus.Call(t.Context(), in.conn, contract.ListCalls, in.owner, contract.ListCallsRequest{ExecutionID: x.ID, StepKey: "think"})
	if err != nil || len(list.Items) != 6 || list.Items[0].N != 1 || list.Items[0].Status != contract.CallCompleted || string(list.Items[0].Output) != `{"text":"hm"}` || list.Items[1].ChildExecutionID == nil {
		t.Errorf("%d calls, %v: %+v", len(list.Items), err, list.Items)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.ListCalls, other, contract.ListCallsRequest{ExecutionID: x.ID, StepKey: "think"}); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("somebody else is told of calls: %v", err)
	}
	if child := in.get(*list.Items[1].ChildExecutionID); child.ParentExecutionID == nil || *child.ParentExecutionID != x.ID || child.UserID != x.UserID {
		t.Errorf("the child is %+v", child)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.BeginCall, in.owner, contract.BeginCallRequest{Attempt: contract.AttemptRequest{ExecutionID: x.ID}, Run: "r", N: 1, Kind: contract.CallOfMCP, DeadlineMs: 1}); errs.CodeOf(err) != errs.Forbidden {
		t.Errorf("a user begins a call: %v", err)
	}
	in.checkLedger(db)
}

// The agents that an attempt waits for end with it: when its execution is cancelled, and when its runner is gone and another has begun it anew.
func TestCalledAgentsAreStopped(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	workflow, agent := in.thinker(catalog.Step{StepKey: "think"})
	over := errors.New("over")
	waiting := make(chan contract.AwaitAgentResponse, 1)
	in.play(func(a attempt) (string, *runner.StepError) {
		if a.step != "think" {
			return "", nil // its runner has died
		}
		_, end := in.call(a, 1, agent, `{}`)
		waiting <- end
		return "", &runner.StepError{Code: runner.CodeError, Message: over.Error()}
	})
	x := in.submit(workflow, `{}`)
	var children []string
	for begin := time.Now(); len(children) == 0 && time.Since(begin) < 30*time.Second; children = in.childrenOf(db, x.ID) {
		wait(t.Context(), 10*time.Millisecond)
	}
	if len(children) != 1 {
		t.Fatalf("children %v", children)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.Cancel, in.owner, contract.IDRequest{ID: x.ID}); err != nil {
		t.Fatal(err)
	}
	in.await(x.ID, "cancelled", terminal)
	if end := <-waiting; !end.Obsolete && end.Failure == nil {
		t.Errorf("who waits is told %+v", end)
	}
	if child := in.await(children[0], "ended", terminal); child.Status != contract.ExecutionCancelled {
		t.Errorf("the child is %s", child.Status)
	}
	in.checkLedger(db)
}

// Agents that call each other end at the depth that is allowed.
func TestCalledAgentsHaveADepth(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.beat(catalog.AgentData, 16) // of each that waits its runner tells that it has a place more
	agent := in.workflow(catalog.Step{StepKey: catalog.TestStep})
	in.play(func(a attempt) (string, *runner.StepError) {
		if _, end := in.call(a, 1, agent, `{}`); end.Failure != nil {
			return "", end.Failure
		}
		return `{}`, nil
	})
	x := in.await(in.submit(agent, `{}`).ID, "ended", terminal)
	if n := scan[int](in, db, `SELECT count(*) FROM executions`)[0]; x.Status != contract.ExecutionFailed || n != 1+catalog.MaxDepth || !strings.Contains(x.Error.Message, runner.CodeDepth) {
		t.Errorf("%s after %d executions with %+v", x.Status, n, x.Error)
	}
	in.checkLedger(db)
}
