package engine_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// Every event is a CloudEvent that says of which execution it is, and the same whenever it is
// encoded again.
func TestEventsAreCloudEvents(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 1000)), step("b", on("a"))))
	f.failed("a", retryable)
	f.due()
	f.completed("a", `1`)
	f.failed("b", final)
	ids := map[string]bool{}
	for n, e := range f.events {
		raw, err := f.x.Encode(e, keys, uint64(100+n))
		if err != nil {
			t.Fatal(err)
		}
		again, _ := f.x.Encode(e, keys, uint64(100+n))
		if !bytes.Equal(raw, again) {
			t.Fatalf("encoded twice: %s, %s", raw, again)
		}
		c, err := event.Decode(raw)
		if err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		if c.Type() != e.Type.String() || c.Subject() != executionID || c.Source() != orchestrator.Service || !c.Time().Equal(e.Time.Std()) || ids[c.ID()] {
			t.Fatalf("event %s", raw)
		}
		ids[c.ID()] = true
		var data orchestrator.ExecutionEvent
		if err := json.Unmarshal(c.Data(), &data); err != nil || data.Seq != uint64(n+1) || data.ExecutionID != executionID {
			t.Fatalf("data %s, %v", c.Data(), err)
		}
		if x := c.Extensions(); x["requestid"] != "req-1" || x["traceparent"] != f.x.Traceparent {
			t.Fatalf("extensions %v", x)
		}
	}
}

// Events carry no payload, and only the beginning of a long message.
func TestEventsStaySmall(t *testing.T) {
	for _, letter := range []string{"x", "é", "€", "😀"} {
		for pad := range 4 {
			f := submit(t, workflow(step("a", nil)))
			failure := runner.StepError{Code: runner.CodeError, Message: strings.Repeat("y", pad) + strings.Repeat(letter, 100_000), Stack: strings.Repeat("s", 100_000)}
			f.failed("a", failure)
			if f.x.Error.Message != failure.Message || f.x.Error.Stack != failure.Stack {
				t.Fatal("the execution has not the whole error")
			}
			for _, e := range f.last.Events {
				raw, err := f.x.Encode(e, keys, 1)
				if err != nil || len(raw) > 3000 {
					t.Fatalf("%s has %d bytes, %v", e.Type.Name, len(raw), err)
				}
				if m := e.Data.Error.Message; !utf8.ValidString(m) || !strings.HasSuffix(m, letter+"…") || len(m) < 1020 {
					t.Fatalf("%s has the message %q", e.Type.Name, m[len(m)-12:])
				}
			}
		}
	}
}

func TestDurations(t *testing.T) {
	f := accept(t, workflow(step("a", nil, retry(1, 1000)), step("b", on("a"))))
	begin(f)
	f.now = f.now.Add(100)
	f.failed("a", retryable)
	f.due()
	f.now = start.Add(5000)
	f.completed("a", `1`)
	if d := f.told(0).DurationMs; d == nil || *d != 5000 {
		t.Fatalf("a took %v; its attempts count together", d)
	}
	f.now = f.now.Add(1)
	f.failed("b", final)
	if d := f.told(0).DurationMs; d == nil || *d != 1 {
		t.Fatalf("b took %v", d)
	}
	if d := f.told(1).DurationMs; d == nil || *d != 5001 {
		t.Fatalf("the execution took %v", d)
	}
}
