package orchestrator_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// parent saves a workflow whose steps all run another one.
func (in *installation) parent(child string, config map[string]any, steps ...catalog.Step) string {
	in.t.Helper()
	id := in.workflow(steps...)
	config["workflowId"] = child
	raw, err := json.Marshal(config)
	if err != nil {
		in.t.Fatal(err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	def := in.workflows[id]
	def.Agents = []catalog.DefinitionAgent{{ID: def.Agents[0].ID, Type: catalog.AgentWorkflow, Version: 1, Config: raw}}
	in.workflows[id] = def
	return id
}

// childrenOf gives the executions that stand in one.
func (in *installation) childrenOf(db *sqlx.DB, id string) []string {
	return scan[string](in, db, `SELECT id FROM executions WHERE parent_execution_id = $1 ORDER BY created_at`, id)
}

func TestChild(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(func(a attempt) (string, *runner.StepError) {
		if strings.Contains(string(a.input), "bad") {
			return "", &runner.StepError{Code: runner.CodeError, Message: "boom"}
		}
		return string(a.input), nil
	})
	child := in.define(catalog.Definition{TimeoutMs: 600_000, Outputs: json.RawMessage(`{"said":"{{say.output.x}}","all":"{{inputs}}"}`)},
		catalog.Step{StepKey: "say", Inputs: json.RawMessage(`{"x":"{{inputs.x}}"}`)})

	workflow := in.parent(child, map[string]any{"inputs": map[string]any{"y": 7, "x": "config"}},
		catalog.Step{StepKey: "one", Inputs: json.RawMessage(`{"x":"{{inputs.n}}"}`)},
		catalog.Step{StepKey: "each", StepType: catalog.StepLoop, DependsOn: []string{"one"}, Inputs: json.RawMessage(`{"x":"{{item}}"}`), Config: json.RawMessage(`{"forEach":[1,2,3],"concurrency":2}`)})
	x := in.await(in.submit(workflow, `{"n":"hello"}`).ID, "ended", terminal)
	if got := string(x.Steps[0].Output); x.Status != contract.ExecutionCompleted || got != `{"said":"hello","all":{"x":"hello","y":7}}` {
		t.Fatalf("%s, %+v, %s", x.Status, x.Error, got)
	}
	if got := string(x.Steps[1].Output); !strings.Contains(got, `{"said":1,`) || strings.Index(got, `{"said":3,`) < strings.Index(got, `{"said":2,`) {
		t.Errorf("each gives %s", got)
	}
	children := in.childrenOf(db, x.ID)
	if x.Steps[0].ChildExecutionID == nil || len(children) != 4 || *x.Steps[0].ChildExecutionID != children[0] {
		t.Errorf("children %v, %v", children, x.Steps[0].ChildExecutionID)
	}
	if one := in.get(children[0]); one.ParentExecutionID == nil || *one.ParentExecutionID != x.ID || one.UserID != x.UserID {
		t.Errorf("the child is %+v", one)
	}

	// A failure comes up, once for each attempt of a child of its own.
	failing := in.parent(child, map[string]any{}, catalog.Step{StepKey: "s", Inputs: json.RawMessage(`{"x":"bad"}`), OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 10})
	x = in.await(in.submit(failing, `{}`).ID, "ended", terminal)
	if e := x.Error; x.Status != contract.ExecutionFailed || e == nil || e.Code != runner.CodeChildFailed || !strings.Contains(e.Message, "boom") || x.Steps[0].Attempts != 2 {
		t.Errorf("%s with %+v", x.Status, x.Error)
	}
	if children := in.childrenOf(db, x.ID); len(children) != 2 {
		t.Errorf("%d children of two attempts", len(children))
	}

	// One that can not begin fails its step.
	x = in.await(in.submit(in.parent(uuid.NewString(), map[string]any{}, catalog.Step{StepKey: "s"}), `{}`).ID, "ended", terminal)
	if x.Status != contract.ExecutionFailed || x.Error.Code != runner.CodeChildFailed || x.Error.Retryable {
		t.Errorf("%s with %+v", x.Status, x.Error)
	}

	// A detached one is left alone.
	x = in.await(in.submit(in.parent(child, map[string]any{"detached": true}, catalog.Step{StepKey: "s", Inputs: json.RawMessage(`{"x":"bad"}`)}), `{}`).ID, "ended", terminal)
	if alone := in.childrenOf(db, x.ID); x.Status != contract.ExecutionCompleted || len(alone) != 1 || string(x.Steps[0].Output) != `{"executionId":"`+alone[0]+`"}` {
		t.Errorf("%s, %s", x.Status, x.Steps[0].Output)
	} else if one := in.await(alone[0], "ended", terminal); one.Status != contract.ExecutionFailed {
		t.Errorf("the detached one is %s", one.Status)
	}

	// One that runs itself ends at the depth that is allowed.
	self := in.parent("", map[string]any{}, catalog.Step{StepKey: "s"})
	in.mu.Lock()
	def := in.workflows[self]
	def.Agents[0].Config = json.RawMessage(`{"workflowId":"` + self + `"}`)
	in.mu.Unlock()
	x = in.await(in.submit(self, `{}`).ID, "ended", terminal)
	if n := scan[int](in, db, `SELECT count(*) FROM executions WHERE workflow_id = $1`, self)[0]; x.Status != contract.ExecutionFailed || n != 1+catalog.MaxDepth || !strings.Contains(x.Error.Message, runner.CodeDepth) {
		t.Errorf("%s after %d executions with %+v", x.Status, n, x.Error)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

// Cancel and timeout go down, a cancelled child comes up.
func TestChildrenAreStopped(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	child := in.workflow(catalog.Step{StepKey: "held"}) // no runner
	for name, tc := range map[string]struct {
		timeoutMs int64
		stop      func(parent, child string)
		status    string
		code      string
	}{
		"parent cancelled": {60_000, func(parent, _ string) { _ = in.cancelAs(in.owner, parent) }, contract.ExecutionCancelled, ""},
		"child cancelled":  {60_000, func(_, child string) { _ = in.cancelAs(in.owner, child) }, contract.ExecutionFailed, runner.CodeChildStopped},
		"out of time":      {10_000, func(string, string) {}, contract.ExecutionFailed, runner.CodeStepTimeout}, // long enough for a busy machine to begin the child
	} {
		x := in.submit(in.parent(child, map[string]any{}, catalog.Step{StepKey: "s", TimeoutMs: tc.timeoutMs}), `{}`)
		in.eventually(60*time.Second, "the child has begun", func() bool { // and may be over by the next look
			children := in.childrenOf(db, x.ID)
			return len(children) == 1 && in.get(children[0]).Status != contract.ExecutionPending
		})
		one := in.childrenOf(db, x.ID)[0]
		tc.stop(x.ID, one)
		x = in.await(x.ID, "ended", terminal)
		if x.Status != tc.status || tc.code != "" && x.Error.Code != tc.code {
			t.Errorf("%s: %s with %+v", name, x.Status, x.Error)
		}
		if one := in.await(one, "ended", terminal); one.Status != contract.ExecutionCancelled {
			t.Errorf("%s: the child is %s", name, one.Status)
		}
	}
	in.eventually(60*time.Second, "nothing is left to stop", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM steps WHERE status = 'CANCELLED' AND sent > 0`)[0] == 0
	})
	in.checkLedger(db)
}

// Orchestrators die while children begin, run and end: each attempt has one child, and every parent ends.
func TestChildrenOverKills(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.play(in.slow(30 * time.Millisecond))
	child := in.workflow(chain(3)...)
	workflow := in.parent(child, map[string]any{}, catalog.Step{StepKey: "a"}, catalog.Step{StepKey: "b"}, catalog.Step{StepKey: "c", DependsOn: []string{"a", "b"}})
	p := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	load := in.submitting(workflow)
	for range 2 {
		load.grow(8)
		p.kill()
		p = in.spawn()
	}
	ids := load.stop()
	in.completed(db, ids, 60*time.Second)
	in.eventually(60*time.Second, "the children have ended", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE completed_at IS NULL`)[0] == 0
	})
	if n := scan[int](in, db, `SELECT count(*) FROM executions WHERE parent_execution_id IS NOT NULL AND status <> 'COMPLETED'`)[0]; n > 0 {
		t.Errorf("%d children have not completed", n)
	}
	// Some were accepted whose clients had no answer.
	parents := scan[int](in, db, `SELECT count(*) FROM executions WHERE parent_execution_id IS NULL`)[0]
	if n := scan[int](in, db, `SELECT count(*) FROM executions WHERE parent_execution_id IS NOT NULL`)[0]; n != 3*parents {
		t.Errorf("%d children of %d executions with three steps each", n, parents)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}
