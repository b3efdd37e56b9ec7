package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/services/runner/internal/executor"
)

const long = 5 * time.Second

func TestResultIsTheOutputUntouched(t *testing.T) {
	w := newWorld(t, long)
	tasks := make(chan executor.Task, 1)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		tasks <- task
		return json.RawMessage("{ \"n\" : 1e400,\t\"n\":2 }"), nil
	}))
	w.send(step("t1"))
	m := w.expect(runner.TypeStepCompleted, "t1")
	if got := string(m.Data()); got != "{ \"n\" : 1e400,\t\"n\":2 }" {
		t.Errorf("the body is %s", got)
	}
	execution := "execution-of-t1"
	if want := subject.ExecutionInputRun(subject.PartitionOf(execution)); m.Subject() != want {
		t.Errorf("it is on %s, not %s", m.Subject(), want)
	}
	for name, want := range map[string]string{
		event.HeaderSpecVersion: "1.0", event.HeaderSource: "runner", event.HeaderSubject: execution, runner.HeaderStepKey: "b",
		runner.HeaderDispatch: "1", event.HeaderRequestID: "request", event.HeaderTraceparent: traceparent, event.HeaderContentType: "application/json",
	} {
		if got := m.Headers().Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if m.Headers().Get(runner.HeaderDurationMs) == "" {
		t.Error("it has no duration")
	}
	task := await(t, "a task", tasks)
	if task.ExecutionID != execution || task.StepKey != "b" || task.Attempt != 2 || task.IdempotencyKey != "key-t1" || task.UserID != "user" ||
		task.WorkflowID != "workflow" || string(task.Config) != `{"c":1}` || string(task.Input) != `{"i":1}` {
		t.Errorf("the task is %+v", task)
	}
	w.awaitEmpty()
	w.noMore()
}

func TestFaults(t *testing.T) {
	w := newWorld(t, long)
	outcomes := map[string]executorFunc{
		"typed": func(context.Context, executor.Task) (json.RawMessage, error) {
			return nil, &runner.StepError{Code: runner.CodeDataError, Message: "no rows", Retryable: true}
		},
		"untyped": func(context.Context, executor.Task) (json.RawMessage, error) { return nil, errors.New("secret path") },
		"panic":   func(context.Context, executor.Task) (json.RawMessage, error) { panic("boom") },
		"nojson":  func(context.Context, executor.Task) (json.RawMessage, error) { return json.RawMessage("{"), nil },
		"nothing": func(context.Context, executor.Task) (json.RawMessage, error) { return nil, nil },
		"large": func(context.Context, executor.Task) (json.RawMessage, error) {
			return json.RawMessage(`"` + strings.Repeat("x", runner.MaxOutput) + `"`), nil
		},
		"deep": func(context.Context, executor.Task) (json.RawMessage, error) {
			return json.RawMessage(strings.Repeat("[", 1001) + strings.Repeat("]", 1001)), nil
		},
		"slow": func(ctx context.Context, _ executor.Task) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	w.start(executorFunc(func(ctx context.Context, task executor.Task) (json.RawMessage, error) {
		return outcomes[strings.TrimPrefix(task.IdempotencyKey, "key-")](ctx, task)
	}))
	for _, c := range []struct {
		name, code, message string
		retryable           bool
	}{
		{"typed", runner.CodeDataError, "no rows", true},
		{"untyped", runner.CodeInternal, "the runner failed", true},
		{"panic", runner.CodeInternal, "the runner failed", true},
		{"nojson", runner.CodeInvalidOutput, "not valid JSON", false},
		{"nothing", runner.CodeInvalidOutput, "not valid JSON", false},
		{"large", runner.CodeOutputLimit, strconv.Itoa(runner.MaxOutput+2) + " bytes", false},
		{"deep", runner.CodeInvalidOutput, "deeper than 1000", false},
		{"slow", runner.CodeStepTimeout, "the step ran longer than 30 ms", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := "60000"
			if c.name == "slow" {
				timeout = "30"
			}
			w.send(step(c.name, with(runner.HeaderTimeoutMs, timeout)))
			fault := w.expectFault(c.name, c.code)
			if fault.Retryable != c.retryable || !strings.Contains(fault.Message, c.message) || strings.Contains(fault.Message, "secret") {
				t.Errorf("the fault is %+v", fault)
			}
		})
	}
	w.awaitEmpty()
}

// A large output is with the ledger before its reference is in the log; the largest that is not, is in the log itself.
func TestLargeOutputs(t *testing.T) {
	w := newWorld(t, long)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		var size int
		if err := json.Unmarshal(task.Input, &size); err != nil {
			return nil, err
		}
		return json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`), nil
	}))
	for i, size := range []int{runner.MaxInline, runner.MaxInline + 1, 5 << 20} {
		token := fmt.Sprintf("t%d", i)
		w.bodies.Store(token, runner.StepBody{Config: json.RawMessage(`{}`), Input: json.RawMessage(strconv.Itoa(size))})
		m := step(token)
		m.Data = nil // the ledger has it
		w.send(m)
		result := w.expect(runner.TypeStepCompleted, token)
		ref, stored := runner.ReferenceOf(result.Data())
		payload, known := w.payloads.Load(ref)
		switch {
		case size <= runner.MaxInline && (stored || len(result.Data()) != size):
			t.Errorf("%d bytes are reported as %.80s", size, result.Data())
		case size > runner.MaxInline && (!stored || !known || len(payload.([]byte)) != size || result.Headers().Get(event.HeaderContentType) != runner.TypeReference):
			t.Errorf("%d bytes are stored %t, reported as %.80s", size, known, result.Data())
		}
	}
	w.awaitEmpty()
}

// A step whose inputs can not be made fails by the reason that the ledger gives; one that is not awaited any more is not run.
func TestBodiesThatAreNone(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	w.bodies.Store("t1", runner.StepError{Code: runner.CodeTemplate, Message: "does not resolve"})
	for _, token := range []string{"t1", "t2"} {
		m := step(token)
		m.Data = nil
		w.send(m)
	}
	if fault := w.expectFault("t1", runner.CodeTemplate); fault.Retryable {
		t.Errorf("the fault is %+v", fault)
	}
	w.awaitEmpty()
	if calls.Load() > 0 {
		t.Error("it was run")
	}
	w.noMore()
}

func TestMalformedSteps(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	answered := map[string]*nats.Msg{
		"body":     step("body", func(m *nats.Msg) { m.Data = []byte("{") }),
		"type":     step("type", with(event.HeaderType, "io.turbocat.step.ready.v9")),
		"attempt":  step("attempt", with(runner.HeaderAttempt, "0")),
		"timeout":  step("timeout", with(runner.HeaderTimeoutMs, "")),
		"huge":     step("huge", with(runner.HeaderTimeoutMs, "9223372036854775807")),
		"dispatch": step("dispatch", with(runner.HeaderDispatch, "x")),
	}
	for token, m := range answered {
		w.send(m)
		if fault := w.expectFault(token, runner.CodeInternal); fault.Retryable {
			t.Errorf("%s may be retried", token)
		}
	}
	for _, header := range []string{event.HeaderID, event.HeaderSubject, runner.HeaderStepKey} {
		w.send(step("nobody", with(header, "")))
	}
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 0 {
		t.Errorf("%d ran", calls.Load())
	}
}

func TestStartIsReportedOnceAfterAWhile(t *testing.T) {
	w := newWorld(t, 600*time.Millisecond)
	g := newGated()
	w.start(g)
	sent := time.Now()
	w.send(step("t1"))
	m := w.expect(runner.TypeStepStarted, "t1")
	if took := time.Since(sent); took < 200*time.Millisecond {
		t.Errorf("reported after %s", took)
	}
	if len(m.Data()) != 0 || m.Headers().Get(runner.HeaderDispatch) != "1" {
		t.Errorf("it is %v %s", m.Headers(), m.Data())
	}
	// Several times its AckWait goes by: the lease is kept, so it comes but once.
	<-time.After(3 * w.ackWait)
	g.open <- json.RawMessage("1")
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
	w.noMore()
	if len(g.began) != 1 {
		t.Errorf("it ran %d times", len(g.began))
	}
}

func TestWaitingStepsKeepTheirLease(t *testing.T) {
	w := newWorld(t, 600*time.Millisecond)
	g := newGated()
	w.start(g, func(c *Config) { c.Concurrency = 1 })
	w.send(step("t0"))
	await(t, "t0 runs", g.began)
	w.send(step("t1"))
	w.send(step("t2"))
	<-time.After(3 * w.ackWait)
	for range 3 {
		g.open <- json.RawMessage("1")
	}
	counts := map[string]int{}
	for counts[runner.TypeStepCompleted] < 3 {
		counts[w.next().Headers().Get(event.HeaderType)]++
	}
	if counts[runner.TypeStepStarted] != 1 {
		t.Errorf("%d were reported as started; the waiting ones were delivered again", counts[runner.TypeStepStarted])
	}
	w.awaitEmpty()
}

func TestDeadRunnersStepIsTakenOver(t *testing.T) {
	w := newWorld(t, 300*time.Millisecond)
	w.send(step("t1"))
	w.take() // and nothing more is heard of it
	var calls atomic.Int64
	w.start(echo(&calls))
	w.expect(runner.TypeStepStarted, "t1")
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
}

func TestRecordedResultIsNotRunAgain(t *testing.T) {
	w := newWorld(t, 300*time.Millisecond)
	w.send(step("t1"))
	w.take() // its runner has answered and died before the ack
	w.recorded.Store("t1", true)
	var calls atomic.Int64
	w.start(echo(&calls))
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 0 {
		t.Error("it ran")
	}
}

// A server that is killed forgets its last deliveries: the message of a step that was answered comes as new.
func TestForgottenDeliveryIsNotRunAgain(t *testing.T) {
	w := newWorld(t, long)
	w.send(step("t1"))
	w.recorded.Store("t1", true)
	var calls atomic.Int64
	w.start(echo(&calls)).awaitReady(t)
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 0 {
		t.Error("it ran")
	}
	w.recorded.Store("t2", true)
	w.send(step("t2")) // of what comes later nobody is asked
	w.expect(runner.TypeStepCompleted, "t2")
}

func TestFifthDeliveryIsNotRun(t *testing.T) {
	w := newWorld(t, long)
	w.send(step("t1"))
	for range 4 {
		w.must(w.take().Nak())
	}
	var calls atomic.Int64
	w.start(echo(&calls))
	if fault := w.expectFault("t1", runner.CodeRunnerLost); !fault.Retryable {
		t.Error("it may not be retried")
	}
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 0 {
		t.Error("it ran")
	}
}

func TestCancelStopsARunningAttempt(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	w.start(g)
	w.send(step("t1"))
	await(t, "it runs", g.began)
	asked := time.Now()
	w.cancel("t1")
	await(t, "its context ends", g.ended)
	if took := time.Since(asked); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	w.awaitEmpty()
	w.noMore()
}

func TestCancelledBeforeItIsTaken(t *testing.T) {
	w := newWorld(t, long)
	w.cancel("t1")
	w.send(step("t1"))
	w.send(step("t2"))
	var calls atomic.Int64
	w.start(echo(&calls))
	w.expect(runner.TypeStepCompleted, "t2")
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 1 {
		t.Errorf("%d ran", calls.Load())
	}
}

func TestCancelledWhileItWaits(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	w.start(g, func(c *Config) { c.Concurrency = 1 })
	w.send(step("t0"))
	await(t, "t0 runs", g.began)
	w.send(step("t1"))
	w.cancel("t1")
	w.cancel("t0")
	await(t, "t0 ends", g.ended)
	w.awaitEmpty()
	w.noMore()
	if len(g.began) != 0 {
		t.Error("t1 ran")
	}
}

func TestNothingIsTakenBeforeTheBucketIsThere(t *testing.T) {
	w := newWorld(t, long)
	w.must(w.js.DeleteKeyValue(w.ctx(), subject.CancelBucket))
	var calls atomic.Int64
	r := w.start(echo(&calls))
	w.send(step("t1"))
	w.send(step("t2"))
	eventually(t, "told that the bucket is missing", func() bool {
		for _, d := range r.health.Check(context.Background()).Dependencies {
			if d.Name == "cancellations" && strings.Contains(d.Message, subject.CancelBucket) {
				return true
			}
		}
		return false
	})
	<-time.After(300 * time.Millisecond)
	if calls.Load() != 0 {
		t.Fatal("a step was run unwatched")
	}
	w.makeBucket()
	w.next()
	w.next()
	w.awaitEmpty()
}

func TestBucketMadeAnewIsWatched(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	r := w.start(g)
	r.awaitReady(t)
	w.must(w.js.DeleteKeyValue(w.ctx(), subject.CancelBucket))
	w.makeBucket()
	w.send(step("t1"))
	await(t, "it runs", g.began)
	eventually(t, "the cancellation arrives", func() bool {
		w.cancel("t1") // the orchestrator, too, puts it until it is heeded
		return len(g.ended) == 1
	})
	w.awaitEmpty()
}

func TestStreamMadeAnew(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	r := w.start(echo(&calls))
	for _, token := range []string{"t1", "t2", "t3"} {
		w.send(step(token))
		w.expect(runner.TypeStepCompleted, token)
		w.must(w.js.DeleteStream(w.ctx(), subject.StepsStream))
		eventually(t, "not ready", func() bool { return !r.health.Check(context.Background()).Ready })
		w.makeSteps()
		r.awaitReady(t)
	}
}

func TestStreamThatComesLater(t *testing.T) {
	w := newWorld(t, long)
	w.must(w.js.DeleteStream(w.ctx(), subject.StepsStream))
	var calls atomic.Int64
	r := w.start(echo(&calls))
	eventually(t, "watching", func() bool {
		report := r.health.Check(context.Background())
		return !report.Ready && report.Dependencies[0].Status == "HEALTHY"
	})
	w.makeSteps()
	w.send(step("t1"))
	w.expect(runner.TypeStepCompleted, "t1")
}

func TestAnsweredTokenIsNotRunAgain(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	w.send(step("t1"))
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
	w.send(step("t1"))
	w.awaitEmpty()
	w.noMore()
	if calls.Load() != 1 {
		t.Errorf("it ran %d times", calls.Load())
	}
}

// The next dispatch says that the answer was lost, whoever gave it.
func TestAnsweredTokenIsRunAgainUnderTheNextDispatch(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	w.send(step("t1"))
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
	w.send(step("t1", with(runner.HeaderDispatch, "2")))
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
	if calls.Load() != 2 {
		t.Errorf("it ran %d times", calls.Load())
	}
}

func TestTokenSentAgainWhileItRuns(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	w.start(g)
	w.send(step("t1"))
	await(t, "it runs", g.began)
	w.awaitHeld(w.send(step("t1", with(runner.HeaderDispatch, "2"))))
	g.open <- json.RawMessage("1")
	w.expect(runner.TypeStepCompleted, "t1")
	w.awaitEmpty()
	w.noMore()
	if len(g.began) != 0 {
		t.Error("it ran twice")
	}
}

func TestStopHandsBackAtOnce(t *testing.T) {
	w := newWorld(t, time.Minute)
	g := newGated()
	r := w.start(g, func(c *Config) { c.Concurrency = 1 })
	w.send(step("t0"))
	await(t, "t0 runs", g.began)
	w.send(step("t1"))
	w.send(step("t2"))
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	w.noResult()
	var calls atomic.Int64
	w.start(echo(&calls))
	left := map[string]bool{"t0": true, "t1": true, "t2": true}
	for len(left) > 0 {
		if m := w.next(); m.Headers().Get(event.HeaderType) == runner.TypeStepCompleted {
			delete(left, m.Headers().Get(event.HeaderID))
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %s until another runner had them", took)
	}
	w.awaitEmpty()
}

// noResult wants that nothing but starts was reported.
func (w *world) noResult() {
	w.t.Helper()
	for {
		select {
		case m := <-w.results:
			if m.Headers().Get(event.HeaderType) != runner.TypeStepStarted {
				w.t.Fatalf("a result: %v %s", m.Headers(), m.Data())
			}
		default:
			return
		}
	}
}

func TestStopLetsRunningStepsEnd(t *testing.T) {
	w := newWorld(t, time.Minute)
	g := newGated()
	r := w.start(g, func(c *Config) { c.DrainMs = int64(patience / time.Millisecond) })
	w.send(step("t0"))
	await(t, "t0 runs", g.began)
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	eventually(t, "not ready", func() bool { return !r.health.Check(context.Background()).Ready })
	g.open <- json.RawMessage("1")
	for w.next().Headers().Get(event.HeaderType) != runner.TypeStepCompleted {
	}
	await(t, "the runner has stopped", stopped)
	w.awaitEmpty()
}

func TestResultWaitsForItsStream(t *testing.T) {
	w := newWorld(t, 300*time.Millisecond)
	var calls atomic.Int64
	w.must(w.js.DeleteStream(w.ctx(), subject.ExecutionInputStream))
	w.start(echo(&calls))
	w.send(step("t1"))
	eventually(t, "it has run", func() bool { return calls.Load() == 1 })
	<-time.After(3 * w.ackWait)
	s, err := w.js.Stream(w.ctx(), subject.StepsStream)
	w.must(err)
	if s.CachedInfo().State.Msgs != 1 {
		t.Fatal("acked before its result was stored")
	}
	w.stream(subject.ExecutionInputStream, subject.ExecutionInputAll, jetstream.LimitsPolicy)
	w.awaitEmpty()
	input, err := w.js.Stream(w.ctx(), subject.ExecutionInputStream)
	w.must(err)
	m, err := input.GetLastMsgForSubject(w.ctx(), subject.ExecutionInputRun(subject.PartitionOf("execution-of-t1")))
	w.must(err)
	headers, _ := event.HeaderMap(m.Header, m.Data)
	if nats.Header(headers).Get(event.HeaderType) != runner.TypeStepCompleted || calls.Load() != 1 {
		t.Errorf("the last report is %v after %d runs", headers, calls.Load())
	}
}

func TestManyStepsEachOnce(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	list := tokens(2000)
	for _, token := range list {
		_, err := w.js.PublishMsgAsync(step(token))
		w.must(err)
	}
	seen := map[string]bool{}
	for range list {
		m := w.next()
		token := m.Headers().Get(event.HeaderID)
		if m.Headers().Get(event.HeaderType) != runner.TypeStepCompleted || seen[token] {
			t.Fatalf("%v", m.Headers())
		}
		seen[token] = true
	}
	w.awaitEmpty()
	w.noMore()
}

// TestRunnersComeAndGo adds runners and stops others in order while steps wait: each step runs once, whoever is there.
func TestRunnersComeAndGo(t *testing.T) {
	w := newWorld(t, time.Minute)
	var calls atomic.Int64
	work := executorFunc(func(ctx context.Context, task executor.Task) (json.RawMessage, error) {
		calls.Add(1)
		select {
		case <-time.After(20 * time.Millisecond):
			return task.Input, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	drains := func(c *Config) { c.DrainMs = int64(patience / time.Millisecond) }
	list := tokens(1000)
	for _, token := range list {
		_, err := w.js.PublishMsgAsync(step(token))
		w.must(err)
	}
	var there []*running
	seen := map[string]bool{}
	for len(seen) < len(list) {
		switch len(seen) % 100 {
		case 0:
			there = append(there, w.start(work, drains))
		case 50:
			if len(there) > 1 {
				there[0].stop()
				there = there[1:]
			}
		}
		m := w.next()
		for m.Headers().Get(event.HeaderType) == runner.TypeStepStarted {
			m = w.next()
		}
		token := m.Headers().Get(event.HeaderID)
		if kind := m.Headers().Get(event.HeaderType); kind != runner.TypeStepCompleted || seen[token] {
			t.Fatalf("%v", m.Headers())
		}
		seen[token] = true
	}
	w.awaitEmpty()
	w.noMore()
	if n := calls.Load(); n != int64(len(list)) {
		t.Errorf("%d steps ran, want each of %d once", n, len(list))
	}
}

func TestLogsArrive(t *testing.T) {
	w := newWorld(t, long)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		for range 600 {
			task.Log("INFO", "console", "line\x00 of text")
		}
		task.Log("ERROR", "stderr", strings.Repeat("é", 40<<10))
		return json.RawMessage("1"), nil
	}))
	w.send(step("t1"))
	consumer, err := w.js.OrderedConsumer(w.ctx(), subject.LogsStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.Logs(subject.PartitionOf("execution-of-t1"))},
	})
	w.must(err)
	var lines []telemetry.LogLine
	batches := 0
	for len(lines) < 601 {
		m, err := consumer.Next(jetstream.FetchMaxWait(patience))
		w.must(err)
		var batch telemetry.LogBatch
		w.must(json.Unmarshal(m.Data(), &batch))
		lines = append(lines, batch.Lines...)
		batches++
	}
	ids := map[string]bool{}
	for i, line := range lines {
		ids[line.ID] = true
		if line.Seq != int64(i+1) || line.ExecutionID != "execution-of-t1" || *line.StepKey != "b" || line.Attempt != 2 || line.CreatedAt.IsZero() {
			t.Fatalf("line %d is %+v", i, line)
		}
	}
	last := lines[600]
	if len(ids) != 601 || batches > 20 || lines[0].Message != "line\x00 of text" || last.Level != "ERROR" || last.Source != "stderr" ||
		!strings.HasSuffix(last.Message, "é... (cut)") || len(last.Message) > 65<<10 {
		t.Errorf("%d ids in %d batches; the last has %d bytes", len(ids), batches, len(last.Message))
	}
}

func TestNoMoreIsTakenThanThereArePlaces(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	w.start(g, func(c *Config) { c.Concurrency = 2 })
	for _, token := range tokens(20) {
		w.send(step(token))
	}
	await(t, "one runs", g.began)
	await(t, "another runs", g.began)
	eventually(t, "all places are taken", func() bool { return w.consumer().NumAckPending == 4 })
	<-time.After(300 * time.Millisecond)
	if info := w.consumer(); info.NumAckPending != 4 || len(g.began) != 0 {
		t.Errorf("%d are taken and %d more run", info.NumAckPending, len(g.began))
	}
	for range 20 {
		g.open <- json.RawMessage("1")
	}
	w.awaitEmpty()
}

func TestReconnectIsSurvived(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	r := w.start(g)
	w.send(step("t1"))
	await(t, "it runs", g.began)
	w.must(r.conn.NATS().ForceReconnect())
	g.open <- json.RawMessage("1")
	for w.next().Headers().Get(event.HeaderType) != runner.TypeStepCompleted {
	}
	w.awaitEmpty()
	r.awaitReady(t)
	w.send(step("t2"))
	await(t, "the next one runs", g.began)
	w.cancel("t2")
	await(t, "it is cancelled", g.ended)
	w.awaitEmpty()
}

func TestNothingRunsUnwatchedAfterAReconnect(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	r := w.start(echo(&calls))
	r.awaitReady(t)
	w.must(w.js.DeleteKeyValue(w.ctx(), subject.CancelBucket))
	w.must(r.conn.NATS().ForceReconnect())
	eventually(t, "the new connection stands", func() bool { return r.conn.NATS().Stats().Reconnects == 1 && r.conn.NATS().IsConnected() })
	w.send(step("t1"))
	w.send(step("t2"))
	<-time.After(300 * time.Millisecond)
	if calls.Load() != 0 {
		t.Fatal("a step was run unwatched")
	}
	w.makeBucket()
	w.cancel("t1")
	for m := w.next(); m.Headers().Get(event.HeaderType) != runner.TypeStepCompleted; m = w.next() {
	}
	eventually(t, "both have ended", func() bool { return w.consumer().NumAckPending == 0 && w.consumer().NumPending == 0 })
}

func TestStopWithoutConnection(t *testing.T) {
	w := newWorld(t, long)
	g := newGated()
	r := w.start(g)
	w.send(step("t1"))
	await(t, "it runs", g.began)
	r.conn.NATS().Close()
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestLogsThatWaitTooLongAreDroppedAndCounted(t *testing.T) {
	w := newWorld(t, long)
	w.must(w.js.DeleteStream(w.ctx(), subject.LogsStream))
	const written = 600
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		for range written {
			task.Log("INFO", "console", strings.Repeat("x", 60<<10))
		}
		return json.RawMessage("1"), nil
	}))
	w.send(step("t1"))
	for w.next().Headers().Get(event.HeaderType) != runner.TypeStepCompleted {
	}
	w.stream(subject.LogsStream, subject.LogsAll, jetstream.LimitsPolicy)
	consumer, err := w.js.OrderedConsumer(w.ctx(), subject.LogsStream, jetstream.OrderedConsumerConfig{})
	w.must(err)
	kept, dropped, last := 0, 0, int64(0)
	for kept+dropped < written {
		m, err := consumer.Next(jetstream.FetchMaxWait(patience))
		w.must(err)
		var batch telemetry.LogBatch
		w.must(json.Unmarshal(m.Data(), &batch))
		for _, line := range batch.Lines {
			var n int
			if _, err := fmt.Sscanf(line.Message, "%d log lines were dropped", &n); err == nil && line.Level == "WARN" && line.Source == "engine" {
				dropped += n
				continue
			}
			kept++
			last = line.Seq
		}
	}
	if dropped == 0 || kept < 200 || kept+dropped != written || last < written {
		t.Errorf("%d kept, %d dropped, the last is %d", kept, dropped, last)
	}
}

func TestWholeService(t *testing.T) {
	w := newWorld(t, long)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Spec().Unit().Run(ctx, map[string]string{
			"NATS_URL": w.url, "TURBOCAT_RUNNER_CONCURRENCY": "3", "TURBOCAT_RUNNER_ALLOW_ADDRESSES": "127.0.0.0/8,::1/128",
		}, io.Discard, func() { close(ready) })
	}()
	await(t, "it is ready", ready)
	w.send(step("data", func(m *nats.Msg) {
		m.Data = []byte(`{"config":{"operation":"pick","fields":["a"]},"input":{"data":[{"a":1,"b":2}]}}`)
	}))
	if m := w.expect(runner.TypeStepCompleted, "data"); !strings.Contains(string(m.Data()), `"count":1`) {
		t.Errorf("DATA gives %s", m.Data())
	}
	w.send(step("code", func(m *nats.Msg) {
		m.Subject = subject.Step(subject.DefaultPool, catalog.AgentCode, 0)
		m.Data = []byte(`{"config":{"runtime":"javascript","source":"function handler(i){return {n: i.n + 1}}"},"input":{"n":1}}`)
	}))
	for m := w.next(); ; m = w.next() {
		if m.Headers().Get(event.HeaderType) != runner.TypeStepStarted {
			if got := string(m.Data()); got != `{"n":2}` {
				t.Errorf("CODE gives %s", got)
			}
			break
		}
	}
	cancel()
	if err := await(t, "it stops", done); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	if c, err := (Config{}).complete(); err != nil || !slices.Equal(c.Labels, []string{subject.DefaultPool}) || c.Concurrency < 8 || c.CodeConcurrency < 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := (Config{Concurrency: 7, DataConcurrency: 3}).complete(); err != nil || c.APIConcurrency != 7 || c.LLMConcurrency != 7 || c.DataConcurrency != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err := Config{
		Labels: []string{"a.b"}, Concurrency: -1, CodeConcurrency: 5000, DrainMs: -1, APIConcurrency: -1, DataConcurrency: 1025, LLMConcurrency: -2, CodeNice: 20, CodeMemoryMb: 15,
		OpenAIURL: "llm.example.com", AnthropicURL: "ftp://x",
	}.complete()
	for _, name := range []string{
		"_LABELS", "RUNNER_CONCURRENCY", "CODE_CONCURRENCY", "DRAIN_MS", "API_CONCURRENCY", "DATA_CONCURRENCY", "LLM_CONCURRENCY", "CODE_NICE", "CODE_MEMORY_MB", "OPENAI_URL", "ANTHROPIC_URL",
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func BenchmarkSteps(b *testing.B) {
	w := newWorld(b, long)
	var calls atomic.Int64
	r := w.start(echo(&calls), func(c *Config) { c.Concurrency = 8 })
	r.awaitReady(b)
	list := tokens(b.N)
	body := []byte(`{"config":{},"input":"` + strings.Repeat("x", 230) + `"}`)
	window := make(chan struct{}, 512)
	js, err := jetstream.New(w.conn.NATS(), jetstream.WithPublishAsyncMaxPending(4096))
	w.must(err)
	b.ResetTimer()
	go func() {
		for _, token := range list {
			window <- struct{}{}
			_, _ = js.PublishMsgAsync(step(token, func(m *nats.Msg) { m.Data = body }), jetstream.WithStallWait(patience))
		}
	}()
	for range list {
		await(b, "a result", w.results)
		<-window
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "steps/s")
}

func TestLinesAreStoredBeforeTheResult(t *testing.T) {
	w := newWorld(t, long)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		task.Log("INFO", "console", "hello")
		return json.RawMessage("1"), nil
	}))
	w.send(step("t1"))
	w.expect(runner.TypeStepCompleted, "t1")
	stream, err := w.js.Stream(w.ctx(), subject.LogsStream)
	w.must(err)
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d batches of lines are stored", n)
	}
}

// Orchestrators know from heartbeats what runs steps: what is taken at present, and at once that nothing is any more.
func TestHeartbeats(t *testing.T) {
	w := newWorld(t, long)
	heard := make(chan runner.Heartbeat, 256)
	sub, err := w.conn.NATS().Subscribe(subject.RunnerHeartbeat, func(m *nats.Msg) {
		var h runner.Heartbeat
		if json.Unmarshal(m.Data, &h) == nil {
			heard <- h
		}
	})
	w.must(err)
	w.must(w.conn.NATS().Flush())
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	g := newGated()
	r := w.start(g)
	hear := func(what string, is func(runner.Heartbeat) bool) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case h := <-heard:
				if h.Pool != subject.DefaultPool || h.RunnerID == "" {
					t.Fatalf("%+v", h)
				}
				if is(h) {
					return
				}
			case <-deadline:
				t.Fatalf("it was not heard that %s", what)
			}
		}
	}
	takes := func(running int) func(runner.Heartbeat) bool {
		return func(h runner.Heartbeat) bool {
			return !h.Stopping && len(h.Capacity) == 1 && h.Capacity[0] == runner.Capacity{AgentType: catalog.AgentData, Slots: 4, Running: running}
		}
	}
	hear("it takes steps", takes(0))
	w.send(step("t1"))
	await(t, "it runs", g.began)
	hear("one runs", takes(1))
	g.open <- json.RawMessage("1")
	hear("none runs", takes(0))
	w.must(w.js.DeleteStream(w.ctx(), subject.StepsStream))
	hear("it takes none", func(h runner.Heartbeat) bool { return !h.Stopping && len(h.Capacity) == 0 })
	r.stop()
	hear("it stops", func(h runner.Heartbeat) bool { return h.Stopping })
}
