package orchestrator_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

func (in *installation) cancelAs(caller rpc.Caller, id string) error {
	_, err := bus.Call(in.t.Context(), in.conn, contract.Cancel, caller, contract.IDRequest{ID: id})
	return err
}

func (in *installation) stepsWaiting() uint64 {
	in.t.Helper()
	stream, err := in.conn.JetStream().Stream(in.t.Context(), subject.StepsStream)
	if err != nil {
		in.t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func cancelled(x contract.Execution) bool { return x.Status == contract.ExecutionCancelled }

func TestCancelQueued(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	x := in.submit(in.workflow(chain(3)...), `{}`) // no runner
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	in.eventually(60*time.Second, "the step is queued", func() bool { return in.stepsWaiting() == 1 })
	token := scan[string](in, db, `SELECT token FROM steps WHERE execution_id = $1`, x.ID)[0]
	for range 2 {
		if err := in.cancelAs(in.owner, x.ID); err != nil && errs.CodeOf(err) != errs.Conflict {
			t.Fatal(err)
		}
	}
	x = in.await(x.ID, "cancelled", cancelled)
	for _, s := range x.Steps {
		if s.Status != contract.StepCancelled {
			t.Errorf("step %s is %s", s.StepKey, s.Status)
		}
	}
	if x.Error != nil || string(x.Outputs) != "null" || x.CompletedAt == nil {
		t.Errorf("error %v, outputs %s, completed at %v", x.Error, x.Outputs, x.CompletedAt)
	}
	in.eventually(60*time.Second, "the queued message is gone", func() bool { return in.stepsWaiting() == 0 })
	bucket, err := in.conn.JetStream().KeyValue(t.Context(), subject.CancelBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Get(t.Context(), token); err != nil {
		t.Errorf("the runners are not told of %s: %v", token, err)
	}
	in.eventually(60*time.Second, "nothing is left to stop", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM steps WHERE status = 'CANCELLED' AND sent > 0`)[0] == 0
	})
	if err := in.cancelAs(in.owner, x.ID); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("cancel of a cancelled one: %v", err)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

func TestCancelRunningAndBackingOff(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	release := make(chan struct{})
	running := make(chan attempt, 10)
	in.play(func(a attempt) (string, *runner.StepError) {
		switch a.step {
		case "runs":
			running <- a
			select {
			case <-release:
			case <-t.Context().Done():
			}
		case "fails":
			return "", &runner.StepError{Code: runner.CodeError, Message: "boom", Retryable: true}
		}
		return echo(a)
	})
	runs := in.submit(in.workflow(catalog.Step{StepKey: "done"}, catalog.Step{StepKey: "runs", DependsOn: []string{"done"}}, catalog.Step{StepKey: "after", DependsOn: []string{"runs"}}), `{}`)
	fails := in.submit(in.workflow(catalog.Step{StepKey: "fails", OnError: catalog.OnErrorRetry, RetryCount: 3, RetryDelayMs: 2000}), `{}`)
	a := <-running
	backsOff := in.await(fails.ID, "backing off", waitsFor("fails", "RETRY"))
	if w := backsOff.Steps[0].WaitingFor; w.Until == nil {
		t.Fatalf("waits for %+v", w)
	}
	for _, id := range []string{runs.ID, fails.ID} {
		if err := in.cancelAs(in.owner, id); err != nil {
			t.Fatal(err)
		}
	}
	x := in.await(runs.ID, "cancelled", cancelled)
	if got := []string{x.Steps[0].Status, x.Steps[1].Status, x.Steps[2].Status}; !slices.Equal(got, []string{contract.StepCompleted, contract.StepCancelled, contract.StepCancelled}) {
		t.Errorf("steps %v", got)
	}
	bucket, err := in.conn.JetStream().KeyValue(t.Context(), subject.CancelBucket)
	if err != nil {
		t.Fatal(err)
	}
	in.eventually(2*time.Second+busy, "the runner is told to stop", func() bool {
		_, err := bucket.Get(t.Context(), a.token)
		return err == nil
	})
	close(release) // the late result is refused
	x = in.await(fails.ID, "cancelled", cancelled)
	if x.Steps[0].Status != contract.StepCancelled || x.Steps[0].WaitingFor != nil {
		t.Errorf("the step that backed off is %s, waits for %v", x.Steps[0].Status, x.Steps[0].WaitingFor)
	}
	in.eventually(60*time.Second, "the backoff is over", func() bool { return time.Now().After(backsOff.Steps[0].WaitingFor.Until.Add(500 * time.Millisecond)) })
	if x := in.get(fails.ID); x.Steps[0].Attempts != 1 || !cancelled(x) {
		t.Errorf("after the backoff: %s, %d attempts", x.Status, x.Steps[0].Attempts)
	}
	if x := in.get(runs.ID); string(x.Steps[1].Output) != "null" {
		t.Errorf("a late result is recorded: %s", x.Steps[1].Output)
	}
	in.checkLedger(db)
}

func TestCancelPending(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	x := in.submit(in.workflow(chain(2)...), `{}`)
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	stop()
	// An accepted execution that nobody has applied, as a crash after the commit leaves it; and a
	// command for it of which the log has not heard.
	id := uuid.NewString()
	in.exec(db, `INSERT INTO executions (id, p, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, status, trigger_type, priority, inputs, request_id, traceparent, steps_total, created_at)
		SELECT $1, $2, workflow_id, workflow_version, workflow_owner, user_id, definition, engine_version, 'PENDING', trigger_type, priority, inputs, '', '', steps_total, now() FROM executions WHERE id = $3`,
		id, subject.PartitionOf(id), x.ID)
	for _, of := range []string{id, x.ID} {
		in.exec(db, `INSERT INTO commands (id, execution_id, p, kind, user_id) VALUES ($1, $2, $3, 'CANCEL', '')`, uuid.NewString(), of, subject.PartitionOf(of))
	}
	in.start()
	for _, of := range []string{id, x.ID} {
		y := in.await(of, "terminal", terminal)
		if of == x.ID && !cancelled(y) {
			t.Errorf("the execution whose cancel was lost is %s", y.Status)
		}
		if of == id && !cancelled(y) { // submitted goes first, but no step can have ended
			t.Errorf("the pending execution is %s", y.Status)
		}
	}
	in.eventually(60*time.Second, "the commands are marked", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM commands WHERE applied_at IS NULL`)[0] == 0
	})
	in.checkLedger(db)
}

func TestCancelRefused(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	x := in.submit(in.workflow(chain(1)...), `{}`)
	in.await(x.ID, "terminal", terminal)
	stranger := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	for _, c := range []struct {
		name   string
		caller rpc.Caller
		id     string
		code   errs.Code
	}{
		{"ended", in.owner, x.ID, errs.Conflict},
		{"ended, as an admin", rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}, x.ID, errs.Conflict},
		{"of another", stranger, x.ID, errs.NotFound},
		{"anonymous", rpc.Caller{}, x.ID, errs.NotFound},
		{"unknown", in.owner, uuid.NewString(), errs.NotFound},
		{"no id", in.owner, "no-id", errs.NotFound},
		{"empty", in.owner, "", errs.NotFound},
	} {
		if err := in.cancelAs(c.caller, c.id); errs.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCancelAgainstCompletion lets both race; one of them wins, everywhere.
func TestCancelAgainstCompletion(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(echo)
	workflow := in.workflow(chain(2)...)
	ends := map[string]int{}
	for range 40 {
		x := in.submit(workflow, `{}`)
		err := in.cancelAs(in.owner, x.ID)
		x = in.await(x.ID, "terminal", terminal)
		if errs.CodeOf(err) == errs.Conflict && x.Status != contract.ExecutionCompleted {
			t.Errorf("the cancel was refused and the execution is %s", x.Status)
		}
		events := in.events(x.ID)
		last := events[len(events)-1].Type
		if want := map[string]string{contract.ExecutionCompleted: contract.EventCompleted.String(), contract.ExecutionCancelled: contract.EventCancelled.String()}[x.Status]; last != want {
			t.Errorf("%s ends with %s", x.Status, last)
		}
		ends[x.Status]++
	}
	t.Logf("ends: %v", ends)
	in.checkLedger(db)
	in.checkPublished(db)
}

// TestLostCancel loses the message of a cancel between the commit and the log.
func TestLostCancel(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	x := in.submit(in.workflow(chain(1)...), `{}`)
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	in.exec(db, `INSERT INTO commands (id, execution_id, p, kind, user_id) VALUES ($1, $2, $3, 'CANCEL', '')`, uuid.NewString(), x.ID, subject.PartitionOf(x.ID))
	in.await(x.ID, "cancelled", cancelled)
	in.checkLedger(db)
}

// TestLostStep deletes the message of a queued step behind everybody's back.
func TestLostStep(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	x := in.submit(in.workflow(chain(2)...), `{}`)
	stream, err := in.conn.JetStream().Stream(t.Context(), subject.StepsStream)
	if err != nil {
		t.Fatal(err)
	}
	queue := subject.Step(subject.DefaultPool, catalog.AgentData, 5)
	var sent *jetstream.RawStreamMsg
	in.eventually(60*time.Second, "the step is queued", func() bool {
		sent, err = stream.GetLastMsgForSubject(t.Context(), queue)
		return err == nil
	})
	headersOf := func(m *jetstream.RawStreamMsg) nats.Header {
		headers, _ := event.HeaderMap(m.Header, m.Data)
		return headers
	}
	token := headersOf(sent).Get(event.HeaderID)
	if err := stream.DeleteMsg(t.Context(), sent.Sequence); err != nil {
		t.Fatal(err)
	}
	var again *jetstream.RawStreamMsg
	in.eventually(60*time.Second, "the step is sent again", func() bool {
		again, err = stream.GetLastMsgForSubject(t.Context(), queue)
		return err == nil
	})
	if h := headersOf(again); h.Get(event.HeaderID) != token || h.Get(runner.HeaderDispatch) != "2" || h.Get(runner.HeaderAttempt) != "1" {
		t.Errorf("sent again with %v, want the token %s", h, token)
	}
	in.play(echo)
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionCompleted || x.Steps[0].Attempts != 1 {
		t.Errorf("%s after %d attempts", x.Status, x.Steps[0].Attempts)
	}
	in.checkLedger(db)
}
