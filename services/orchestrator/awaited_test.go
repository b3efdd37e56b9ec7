package orchestrator_test

import (
	"context"
	"testing"
	"time"

	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/bus"
)

// A result that is in the log and not in the ledger yet: the runner that gets its step once more must not be told that it is
// awaited.
func TestAResultInTheLogIsNotAwaited(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	attempts, answer := make(chan attempt, 1), make(chan struct{})
	in.play(func(a attempt) (string, *runner.StepError) {
		attempts <- a
		select {
		case <-answer:
		case <-t.Context().Done():
		}
		return echo(a)
	})
	x := in.submit(in.workflow(chain(1)...), `{}`)
	a := <-attempts
	awaited := func(within time.Duration) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		resp, err := bus.Call(ctx, in.conn, contract.AttemptAwaited, rpc.System("test"), contract.AttemptRequest{
			ExecutionID: a.execution, StepKey: a.step, Token: a.token, Attempt: 1,
		})
		return resp.Awaited, err
	}
	in.eventually(60*time.Second, "the running attempt is awaited", func() bool {
		ok, err := awaited(10 * time.Second)
		return err == nil && ok && len(scan[int](in, db, `SELECT 1 FROM steps WHERE execution_id = $1`, x.ID)) == 1
	})

	// The row is held, so that the ledger takes nothing of the execution.
	tx, err := db.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`SELECT 1 FROM steps WHERE execution_id = $1 FOR UPDATE`, x.ID); err != nil {
		t.Fatal(err)
	}
	before := in.lastInput()
	close(answer)
	in.eventually(3*time.Second, "the result is in the log", func() bool { return in.lastInput() > before })
	if ok, err := awaited(500 * time.Millisecond); err == nil {
		t.Errorf("the answer is %t before the ledger has the result", ok)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if ok, err := awaited(30 * time.Second); ok || err != nil {
		t.Errorf("an attempt whose result is recorded is awaited: %t, %v", ok, err)
	}
	in.await(x.ID, "completed", terminal)
}
