package orchestrator_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	stop := in.start()
	in.play(echo)
	workflow := in.workflow(chain(1)...)
	submit := func(caller rpc.Caller, key, inputs string) (contract.SubmitResponse, error) {
		return bus.Call(t.Context(), in.conn, contract.Submit, caller, contract.SubmitRequest{
			WorkflowID: workflow, Inputs: json.RawMessage(inputs), TriggerType: contract.TriggerAPI, IdempotencyKey: key,
		})
	}
	var mu sync.Mutex
	ids, fresh := map[string]bool{}, 0
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			resp, err := submit(in.owner, "key", `{"n":1}`)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("submit: %v", err)
				return
			}
			ids[resp.Execution.ID] = true
			if !resp.Replayed {
				fresh++
			}
		})
	}
	group.Wait()
	if len(ids) != 1 || fresh != 1 {
		t.Fatalf("%d executions, %d of them told as new", len(ids), fresh)
	}
	if _, err := submit(in.owner, "key", `{"n":2}`); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("another body: %v", err)
	}
	if resp, err := submit(in.owner, "key", ` { "n" : 1 } `); err != nil || !resp.Replayed || !ids[resp.Execution.ID] {
		t.Errorf("the same body written otherwise: %v, %v", resp.Execution.ID, err)
	}
	other, err := submit(rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, "key", `{"n":3}`)
	if err != nil || other.Replayed || ids[other.Execution.ID] {
		t.Errorf("another user's: %+v, %v", other, err)
	}
	stop()
	if resp, err := submit(in.owner, "key", `{"n":1}`); err != nil || !resp.Replayed || !ids[resp.Execution.ID] {
		t.Errorf("after a stop: %v", err)
	}
	in.exec(db, `UPDATE idempotency_keys SET created_at = now() - interval '25 hours'`)
	if resp, err := submit(in.owner, "key", `{"n":2}`); err != nil || resp.Replayed {
		t.Errorf("a day later: %v", err)
	}
	if n := scan[int](in, db, `SELECT count(*) FROM executions`)[0]; n != 3 {
		t.Errorf("%d executions", n)
	}
}

func TestSubmitRefused(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	workflow := in.workflow(chain(1)...)
	strange := in.workflow(chain(1)...)
	in.mu.Lock()
	in.workflows[strange].Steps[0].StepType = "TELEPORT"
	in.mu.Unlock()
	for _, c := range []struct {
		name string
		req  contract.SubmitRequest
		code errs.Code
	}{
		{"unknown workflow", contract.SubmitRequest{WorkflowID: uuid.NewString()}, errs.NotFound},
		{"no id", contract.SubmitRequest{WorkflowID: "x"}, errs.NotFound},
		{"inputs are no object", contract.SubmitRequest{WorkflowID: workflow, Inputs: json.RawMessage(`[1]`)}, errs.Validation},
		{"priority", contract.SubmitRequest{WorkflowID: workflow, Priority: new(10)}, errs.Validation},
		{"key with NUL", contract.SubmitRequest{WorkflowID: workflow, IdempotencyKey: "a\x00b"}, errs.Validation},
		{"long key", contract.SubmitRequest{WorkflowID: workflow, IdempotencyKey: strings.Repeat("k", 256)}, errs.Validation},
		{"a step type of a later version", contract.SubmitRequest{WorkflowID: strange}, errs.Conflict},
	} {
		c.req.TriggerType = contract.TriggerAPI
		_, err := bus.Call(t.Context(), in.conn, contract.Submit, in.owner, c.req)
		if errs.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
		var coded *errs.Error
		if c.code == errs.Validation && (!errors.As(err, &coded) || len(coded.Details) == 0) {
			t.Errorf("%s: no details: %v", c.name, err)
		}
	}
	if n := scan[int](in, in.db(), `SELECT count(*) FROM executions`)[0]; n != 0 {
		t.Errorf("%d executions were accepted", n)
	}
	// Nobody is held up by what was refused.
	in.await(in.submit(workflow, `{}`).ID, "terminal", terminal)
}

// TestLedgerRefuses has the database reject what one execution comes to.
func TestLedgerRefuses(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.exec(db, `ALTER TABLE steps ADD CONSTRAINT no_poison CHECK (output IS NULL OR position('poison'::bytea IN output) = 0)`)
	in.play(echo)
	workflow := in.workflow(
		catalog.Step{StepKey: "a", Inputs: json.RawMessage(`{"x":"{{inputs.x}}"}`)},
		catalog.Step{StepKey: "b", DependsOn: []string{"a"}},
	)
	var poisoned, well []string
	for i := range 60 {
		if i%20 == 7 {
			poisoned = append(poisoned, in.submit(workflow, `{"x":"poison"}`).ID)
			continue
		}
		well = append(well, in.submit(workflow, `{"x":"fine"}`).ID)
	}
	for _, id := range poisoned {
		x := in.await(id, "terminal", terminal)
		if x.Status != contract.ExecutionFailed || x.Error == nil || x.Error.Code != runner.CodeEngineFault {
			t.Errorf("the poisoned execution is %s, %v", x.Status, x.Error)
		}
	}
	for _, id := range well {
		if x := in.await(id, "terminal", terminal); x.Status != contract.ExecutionCompleted {
			t.Errorf("another execution is %s, %v", x.Status, x.Error)
		}
	}
	in.checkLedger(db)
	in.checkPublished(db)
}
