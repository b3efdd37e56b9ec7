package orchestrator_test

import (
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// sends remembers when the attempts of a step were put into STEPS, by the stream's clock.
type sends struct {
	mu sync.Mutex
	at map[string][]time.Time // by execution and attempt
}

func (s *sends) note(a attempt) {
	meta, err := a.msg.Metadata()
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[a.execution+"/"+a.number] = append(s.at[a.execution+"/"+a.number], meta.Timestamp)
}

func (s *sends) of(execution, number string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[execution+"/"+number]
}

func failsOnce(s *sends) func(a attempt) (string, *runner.StepError) {
	return func(a attempt) (string, *runner.StepError) {
		s.note(a)
		if a.number == "1" {
			return "", &runner.StepError{Code: runner.CodeError, Message: "not yet", Retryable: true}
		}
		return echo(a)
	}
}

func (in *installation) until(id string) time.Time {
	in.t.Helper()
	for _, e := range in.events(id) {
		if e.Type == contract.EventStepRetryScheduled.String() {
			return *storedEvent{Body: e.Body}.data(in).Until
		}
	}
	in.t.Fatalf("no retry of %s is scheduled", id)
	return time.Time{}
}

func TestBackoffFiresOnceAndNotEarly(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	s := &sends{at: map[string][]time.Time{}}
	in.play(failsOnce(s))
	workflow := in.workflow(catalog.Step{StepKey: "a", OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 700})
	var ids []string
	for range 40 {
		ids = append(ids, in.submit(workflow, `{}`).ID)
	}
	for _, id := range ids {
		x := in.await(id, "terminal", terminal)
		if x.Status != contract.ExecutionCompleted || x.Steps[0].Attempts != 2 {
			t.Errorf("%s after %d attempts", x.Status, x.Steps[0].Attempts)
		}
		until := in.until(id)
		again := s.of(id, "2")
		if len(again) != 1 {
			t.Fatalf("the second attempt was sent %d times", len(again))
		}
		if again[0].Before(until) {
			t.Errorf("the second attempt was sent %v early", until.Sub(again[0]))
		}
		if again[0].After(until.Add(time.Second + busy)) {
			t.Errorf("the second attempt was sent %v late", again[0].Sub(until))
		}
	}
	in.checkLedger(db)
}

func TestBackoffThatEndsWhileNobodyRuns(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	s := &sends{at: map[string][]time.Time{}}
	in.play(failsOnce(s))
	workflow := in.workflow(catalog.Step{StepKey: "a", OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 6500})
	var ids []string
	for range 5 {
		ids = append(ids, in.submit(workflow, `{}`).ID)
	}
	var last time.Time
	for _, id := range ids {
		in.await(id, "backing off", waitsFor("a", "RETRY"))
		if until := in.until(id); until.After(last) {
			last = until
		}
	}
	stop()
	in.eventually(60*time.Second, "the backoffs are over", func() bool { return time.Now().After(last) })
	in.start()
	begin := time.Now()
	for _, id := range ids {
		if x := in.await(id, "terminal", terminal); x.Status != contract.ExecutionCompleted || x.Steps[0].Attempts != 2 {
			t.Errorf("%s after %d attempts", x.Status, x.Steps[0].Attempts)
		}
		if again := s.of(id, "2"); len(again) != 1 || again[0].Before(in.until(id)) {
			t.Errorf("the second attempt, due %v, was sent at %v", in.until(id), again)
		}
	}
	if took := time.Since(begin); took > time.Second+busy {
		t.Errorf("overdue timers fired %v after the start", took)
	}
	in.checkLedger(db)
}

func TestWorkflowTimeout(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	workflow := in.define(catalog.Definition{TimeoutMs: 1500}, chain(2)...)
	x := in.submit(workflow, `{}`) // no runner
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionTimeout || x.Error == nil || x.Error.Code != runner.CodeWorkflowTime {
		t.Errorf("%s, %v", x.Status, x.Error)
	}
	if took := x.CompletedAt.Sub(*x.StartedAt); took < 1500*time.Millisecond || took > 2500*time.Millisecond+busy {
		t.Errorf("timed out after %v", took)
	}
	for _, step := range x.Steps {
		if step.Status != contract.StepCancelled {
			t.Errorf("step %s is %s", step.StepKey, step.Status)
		}
	}
	in.eventually(60*time.Second, "the queued message is gone", func() bool { return in.stepsWaiting() == 0 })

	// One whose time is over while nobody runs.
	x = in.submit(workflow, `{}`)
	in.await(x.ID, "begun", func(x contract.Execution) bool { return x.Status != contract.ExecutionPending }) // its time may be over by the next look
	stop()
	end := time.Now().Add(1700 * time.Millisecond)
	in.eventually(60*time.Second, "the time is over", func() bool { return time.Now().After(end) })
	in.start()
	begin := time.Now()
	if x = in.await(x.ID, "terminal", terminal); x.Status != contract.ExecutionTimeout {
		t.Errorf("%s, %v", x.Status, x.Error)
	}
	if took := time.Since(begin); took > time.Second+busy {
		t.Errorf("timed out %v after the start", took)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

// TestBackstop has a runner that starts a step and is never heard of again.
func TestBackstop(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	x := in.submit(in.workflow(catalog.Step{StepKey: "a", TimeoutMs: 500}), `{}`)
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	token := scan[string](in, db, `SELECT token FROM steps WHERE execution_id = $1`, x.ID)[0]
	in.inject(input{partition: subject.PartitionOf(x.ID), kind: runner.TypeStepStarted, execution: x.ID, step: "a", id: token})
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionFailed || x.Error == nil || x.Error.Code != runner.CodeStepTimeout {
		t.Errorf("%s, %v", x.Status, x.Error)
	}
	in.eventually(60*time.Second, "the queued message is gone", func() bool { return in.stepsWaiting() == 0 })
	in.checkLedger(db)
}
