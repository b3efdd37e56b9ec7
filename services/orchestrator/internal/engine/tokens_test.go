package engine_test

import (
	"regexp"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/engine"
)

func TestTokensNameOneAttempt(t *testing.T) {
	def := compile(t, workflow(step("a", nil, retry(1, 0)), step("b", nil)))
	tokens := map[string]string{}
	for _, id := range []string{executionID, workflowID} {
		for _, k := range []engine.Keys{keys, {Secret: keys.Secret, Generation: 8}, {Secret: []byte("another"), Generation: 7}} {
			var before [3]string
			for round := range 2 {
				if round == 1 {
					k = k.Quick()
				}
				x := accepted(id, def)
				engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: start}, k)
				now := [3]string{x.Steps[0].Token, x.Steps[1].Token}
				engine.Apply(x, engine.Input{Kind: engine.StepFailed, Time: start, Step: "a", Token: now[0], Err: &retryable}, k)
				engine.Apply(x, engine.Input{Kind: engine.TimerDue, Time: x.Steps[0].RetryAt}, k)
				now[2] = x.Steps[0].Token
				if round == 1 && now != before {
					t.Fatalf("the tokens were %v and are %v", before, now)
				}
				before = now
			}
			for i, token := range before {
				if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(token) {
					t.Fatalf("token %q", token)
				}
				if other, ok := tokens[token]; ok {
					t.Fatalf("%s, attempt %d has the token of %s", id, i, other)
				}
				tokens[token] = id
			}
		}
	}
}

// A committed attempt keeps its token when the log's generation changes; the next attempt has
// one of the new generation.
func TestANewGenerationChangesTheNextAttemptOnly(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 0)), step("b", nil)))
	f.keys.Generation++
	f.failed("a", retryable)
	f.due()
	if f.ready() != "a" {
		t.Fatalf("ready: %q", f.ready())
	}
	renewed := f.step("a").Token
	f.completed("b", `1`)
	f.expect("RUNNING: a RUNNING, b COMPLETED")

	old := submit(t, workflow(step("a", nil, retry(1, 0)), step("b", nil)))
	old.failed("a", retryable)
	old.due()
	if old.step("a").Token == renewed {
		t.Fatal("the attempt has the token of the old generation")
	}
}

func TestResultsThatDoNotCount(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 1000)), step("b", nil), step("c", on("a"))))
	first, other := f.step("a").Token, f.step("b").Token
	refuse := func(key, token string) {
		t.Helper()
		for _, kind := range []engine.Kind{engine.StepStarted, engine.StepCompleted, engine.StepFailed, engine.StepLost} {
			f.apply(engine.Input{Kind: kind, Step: key, Token: token, Dispatch: 1, Output: []byte(`9`), Err: &final})
			f.expectNothing()
		}
	}
	refuse("a", "")
	refuse("a", other)
	refuse("a", first[:31]+"x")
	refuse("c", first)
	refuse("c", "")
	refuse("x", first)
	refuse("", first)

	f.failed("a", retryable)
	refuse("a", first) // backing off: no attempt counts
	refuse("a", "")
	f.due()
	refuse("a", first) // of the attempt before
	f.completed("a", `1`)
	refuse("a", first)
	refuse("a", "")
	if got := string(f.step("a").Output); got != `1` {
		t.Fatalf("output %s", got)
	}
}

// Of two results of one attempt the first in the log counts.
func TestTheFirstResultCounts(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", nil)))
	token := f.step("a").Token
	f.completed("a", `1`)
	f.apply(engine.Input{Kind: engine.StepCompleted, Step: "a", Token: token, Output: []byte(`2`)})
	f.expectNothing()
	f.apply(engine.Input{Kind: engine.StepFailed, Step: "a", Token: token, Err: &final})
	f.expectNothing()
	f.expect("RUNNING: a COMPLETED, b RUNNING")
	if got := string(f.step("a").Output); got != `1` {
		t.Fatalf("output %s", got)
	}
}

func TestStepLost(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", nil)))
	token := f.step("a").Token
	lost := func(dispatch int) {
		f.apply(engine.Input{Kind: engine.StepLost, Step: "a", Token: token, Dispatch: dispatch})
	}

	lost(2)
	f.expectNothing()
	lost(0)
	f.expectNothing()
	f.started("a")
	backstop := f.step("a").Backstop
	lost(1)
	if s := f.step("a"); f.ready() != "a" || s.Token != token || s.Dispatch != 2 || s.Attempt != 1 || s.Backstop != backstop || f.last.Changed {
		t.Fatalf("ready %q, step %+v, effects %+v", f.ready(), s, f.last)
	}
	lost(1)
	f.expectNothing()
	lost(2)
	if s := f.step("a"); f.ready() != "a" || s.Dispatch != 3 {
		t.Fatalf("ready %q, step %+v", f.ready(), s)
	}
	f.completed("a", `1`)
	lost(3)
	f.expectNothing()
	f.expectEvents("created", "started", "step_started a", "step_started b", "step_completed a")
}

// A new attempt is sent for the first time again.
func TestARetryCountsItsDispatchesAnew(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 0))))
	f.apply(engine.Input{Kind: engine.StepLost, Step: "a", Token: f.step("a").Token, Dispatch: 1})
	f.failed("a", retryable)
	f.due()
	if s := f.step("a"); s.Dispatch != 1 || s.Backstop != 0 || s.Attempt != 2 {
		t.Fatalf("step %+v", s)
	}
}

func TestIdempotencyKeyIsOfTheStep(t *testing.T) {
	key := keys.IdempotencyKey(executionID, "a", 0)
	if key != keys.IdempotencyKey(executionID, "a", 0) {
		t.Fatal("the key is not always the same")
	}
	f := submit(t, workflow(step("a", nil)))
	for what, other := range map[string]string{
		"another step's":         keys.IdempotencyKey(executionID, "b", 0),
		"another execution's":    keys.IdempotencyKey(workflowID, "a", 0),
		"another installation's": engine.Keys{Secret: []byte("x")}.IdempotencyKey(executionID, "a", 0),
		"an item's":              keys.IdempotencyKey(executionID, "a", 1),
		"a step's like an item":  keys.IdempotencyKey(executionID, "aitem1", 0),
		"the token":              f.step("a").Token,
		"shifted":                keys.IdempotencyKey(executionID+"a", "", 0),
	} {
		if key == other {
			t.Errorf("the key is also %s", what)
		}
	}
}

func TestEventIDIsAUUIDv7OfItsTime(t *testing.T) {
	seen := map[string]bool{}
	for seq := range uint64(100) {
		id, err := uuid.Parse(keys.EventID(executionID, seq, start))
		if err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 || seen[id.String()] {
			t.Fatalf("seq %d: %s, %v", seq, id, err)
		}
		if sec, ns := id.Time().UnixTime(); sec*1000+ns/1_000_000 != int64(start)/1000 {
			t.Fatalf("%s is of %d.%09d", id, sec, ns)
		}
		seen[id.String()] = true
	}
}

// Time never runs backwards, whatever the log's stream says.
func TestAnEarlierInputTakesTheLastTime(t *testing.T) {
	f := submit(t, workflow(step("a", nil), step("b", on("a"))))
	f.apply(engine.Input{Kind: engine.StepCompleted, Time: start - 5_000_000, Step: "a", Token: f.step("a").Token, Output: []byte(`1`)})
	if s := f.step("b"); s.Status != orchestrator.StepRunning || s.StartedAt != start || f.x.LastInput != start {
		t.Fatalf("step %+v, last input %d", s, f.x.LastInput)
	}
}
