package engine_test

import (
	"fmt"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

func TestRetryBacksOffTwiceAsLongEachTime(t *testing.T) {
	const capMs = 5 * 60 * 1000
	for _, c := range []struct {
		delayMs int64
		want    []int64 // before jitter
	}{
		{1000, []int64{1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, capMs, capMs, capMs}},
		{0, []int64{0, 0, 0}},
		{1, []int64{1, 2, 4}},
		{capMs - 1, []int64{capMs - 1, capMs}},
		{3_600_000, []int64{capMs, capMs}},
	} {
		t.Run(fmt.Sprint(c.delayMs), func(t *testing.T) {
			f := submit(t, workflow(step("a", nil, retry(len(c.want), c.delayMs))))
			f.x.Definition.TimeoutMs = 0
			tokens := map[string]bool{}
			for n, ms := range c.want {
				if s := f.step("a"); s.Attempt != n+1 || tokens[s.Token] {
					t.Fatalf("attempt %d with token %s, want %d and a new one", s.Attempt, s.Token, n+1)
				}
				tokens[f.step("a").Token] = true
				f.now = f.now.Add(17)
				f.failed("a", retryable)
				s := f.step("a")
				if s.Status != orchestrator.StepRunning || s.Token != "" || s.Error == nil || s.Error.Code != retryable.Code {
					t.Fatalf("backing off as %+v", s)
				}
				if got := s.RetryAt.Ms(f.now); got < ms*8/10 || got > ms*12/10 {
					t.Fatalf("delay %d ms after attempt %d, want %d and a fifth either way", got, n+1, ms)
				}
				e := f.told(0)
				if len(f.last.Events) != 1 || e.Until == nil || !e.Until.Equal(s.RetryAt.Std()) || e.Attempt != n+1 || e.Error.Code != retryable.Code {
					t.Fatalf("events %+v", f.last.Events)
				}
				if s.RetryAt > f.now {
					f.now = s.RetryAt - 1
					f.apply(engine.Input{Kind: engine.TimerDue})
					f.expectNothing()
				}
				if f.due(); f.ready() != "a" {
					t.Fatalf("ready: %q", f.ready())
				}
			}
			f.failed("a", retryable)
			f.expect("FAILED: a FAILED")
			if s := f.step("a"); s.Attempt != len(c.want)+1 {
				t.Fatalf("%d attempts for %d retries", s.Attempt, len(c.want))
			}
		})
	}
}

// Who asks to be left alone for a while is, in bounds, but not for less than the backoff.
func TestRetryAfterIsHonoured(t *testing.T) {
	const dayMs = 24 * 60 * 60 * 1000
	for asked, want := range map[int64][2]int64{0: {800, 1200}, -5: {800, 1200}, 1: {800, 1200}, 1201: {1201, 1201}, 3_600_000: {3_600_000, 3_600_000}, dayMs: {dayMs, dayMs}, dayMs + 1: {dayMs, dayMs}} {
		f := submit(t, workflow(step("a", nil, retry(1, 1000))))
		busy := retryable
		busy.RetryAfterMs = asked
		f.failed("a", busy)
		if got := f.step("a").RetryAt.Ms(f.now); got < want[0] || got > want[1] {
			t.Errorf("asked for %d ms it waits %d, not %v", asked, got, want)
		}
	}
}

func TestRetrySucceeds(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(2, 1000)), step("b", on("a"), inputs(`{"e":"{{a.error}}"}`))))
	f.failed("a", retryable)
	f.due()
	f.completed("a", `1`)
	if s := f.step("a"); s.Status != orchestrator.StepCompleted || s.Error != nil || s.Attempt != 2 || s.StartedAt != start {
		t.Fatalf("step %+v", s)
	}
	if got, _, _ := f.x.Input(engine.Place{Step: 1}); string(got) != `{"e":null}` {
		t.Fatalf("input %s", got)
	}
	f.completed("b", `2`)
	f.expect("COMPLETED: a COMPLETED, b COMPLETED")
	f.expectEvents("created", "started", "step_started a", "step_retry_scheduled a", "step_started a", "step_completed a",
		"step_started b", "step_completed b", "completed")
}

func TestRetryThenAsFail(t *testing.T) {
	for name, c := range map[string]struct {
		retries  int
		failure  runner.StepError
		attempts int
	}{
		"not retryable":      {3, final, 1},
		"no retries":         {0, retryable, 1},
		"retries used up":    {1, retryable, 2},
		"retryable may vary": {5, runner.StepError{Code: "X"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(step("a", nil, retry(c.retries, 10)), step("b", nil), step("c", on("a"))))
			for f.failed("a", c.failure); !f.x.Terminal(); f.failed("a", c.failure) {
				f.due()
			}
			f.expect("FAILED: a FAILED, b CANCELLED, c SKIPPED")
			if f.step("a").Attempt != c.attempts || f.x.Error.Code != c.failure.Code {
				t.Fatalf("%d attempts, error %+v", f.step("a").Attempt, f.x.Error)
			}
		})
	}
}

// retryCount counts under RETRY alone.
func TestOthersAreNotRetried(t *testing.T) {
	for _, e := range []string{catalog.OnErrorFail, catalog.OnErrorContinue} {
		f := submit(t, workflow(step("a", nil, retry(3, 10), onError(e))))
		f.failed("a", retryable)
		if s := f.step("a"); s.Status != orchestrator.StepFailed || s.Attempt != 1 {
			t.Fatalf("under %s: %+v", e, s)
		}
	}
}

func TestJitterIsSpreadAndDeterministic(t *testing.T) {
	const n, delayMs = 2000, 100_000
	def := compile(t, workflow(step("a", nil, retry(3, delayMs))))
	wait := func(id string, k engine.Keys) int64 {
		x := accepted(id, def)
		engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, k)
		engine.Apply(x, engine.Input{Kind: engine.StepFailed, Time: start, Step: "a", Token: x.Steps[0].Token, Err: &retryable}, k)
		return x.Steps[0].RetryAt.Ms(start)
	}
	low, high, sum := int64(delayMs), int64(delayMs), int64(0)
	for i := range n {
		id := fmt.Sprintf("01890a5d-ac96-774b-bcce-%012d", i)
		ms := wait(id, keys)
		if ms != wait(id, keys) || ms != wait(id, engine.Keys{Secret: keys.Secret, Generation: 99}) {
			t.Fatalf("the delay of %s is not always the same", id)
		}
		low, high, sum = min(low, ms), max(high, ms), sum+ms
	}
	if low < 80_000 || low > 81_000 || high > 120_000 || high < 119_000 {
		t.Fatalf("delays from %d to %d", low, high)
	}
	if mean := sum / n; mean < 98_000 || mean > 102_000 {
		t.Fatalf("mean %d", mean)
	}
}

// Retries that are due together begin together, others wait on.
func TestTimersFireWhenDue(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 1000)), step("b", nil, retry(1, 1000)), step("c", nil, retry(1, 100_000))))
	for _, key := range []string{"a", "b", "c"} {
		f.failed(key, retryable)
	}
	if got, want := f.x.NextDue(), min(f.step("a").RetryAt, f.step("b").RetryAt); got != want {
		t.Fatalf("next due %d, want %d", got, want)
	}
	f.now = max(f.step("a").RetryAt, f.step("b").RetryAt)
	f.apply(engine.Input{Kind: engine.TimerDue})
	if f.ready() != "a b" || f.step("c").RetryAt == 0 || f.x.NextDue() != f.step("c").RetryAt {
		t.Fatalf("ready %q, c %+v", f.ready(), f.step("c"))
	}
}
