package execution

import (
	"encoding/json"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

func TestAdmitSignal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		now       Standing
		decisions int
		want      errs.Code
	}{
		{"pending", Standing{Status: orchestrator.ExecutionPending}, -1, ""},
		{"paused", Standing{Status: orchestrator.ExecutionPaused, Kept: orchestrator.MaxSignals - 1, Named: 500}, -1, ""},
		{"terminal", Standing{Status: orchestrator.ExecutionFailed}, -1, errs.Conflict},
		{"too many", Standing{Status: running, Kept: orchestrator.MaxSignals}, -1, errs.RateLimited},
		{"decision", Standing{Status: running, Named: 1}, 2, ""},
		{"decided", Standing{Status: running, Named: 2}, 2, errs.Conflict},
		{"decided in another execution", Standing{Status: running}, 0, errs.Conflict},
	} {
		if got := errs.CodeOf(admitSignal(c.now, c.decisions)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestCheckSignal(t *testing.T) {
	t.Parallel()
	yes := true
	for _, c := range []struct {
		name     string
		req      orchestrator.SignalRequest
		approval bool
		want     string // the payload, or the faulty fields
		code     errs.Code
	}{
		{"nothing", orchestrator.SignalRequest{}, false, "null", ""},
		{"payload", orchestrator.SignalRequest{Payload: json.RawMessage(" [1e400] ")}, false, "[1e400]", ""},
		{"approval", orchestrator.SignalRequest{Approve: &yes}, true, "null", ""},
		{"no decision", orchestrator.SignalRequest{}, true, "approve", errs.Validation},
		{"no JSON", orchestrator.SignalRequest{Payload: json.RawMessage("{"), Comment: strings.Repeat("é", maxComment+1)}, false, "payload comment", errs.Validation},
		{"deep", orchestrator.SignalRequest{Payload: json.RawMessage(strings.Repeat("[", 1001) + strings.Repeat("]", 1001))}, false, "payload", errs.Validation},
		{"largest", orchestrator.SignalRequest{Payload: json.RawMessage(`"` + strings.Repeat("x", maxSignal-2) + `"`)}, false, "", ""},
		{"too large", orchestrator.SignalRequest{Payload: json.RawMessage(`"` + strings.Repeat("x", maxSignal-1) + `"`)}, false, "", errs.PayloadTooLarge},
		{"key", orchestrator.SignalRequest{IdempotencyKey: strings.Repeat("k", maxKeyLength+1)}, false, "Idempotency-Key", errs.Validation},
	} {
		payload, err := checkSignal(c.req, c.approval)
		got := string(payload)
		if err != nil {
			var fields []string
			for _, d := range errs.From(err).Details {
				fields = append(fields, d.Field)
			}
			got = strings.Join(fields, " ")
		}
		if errs.CodeOf(err) != c.code || c.want != "" && got != c.want {
			t.Errorf("%s: %.80q, %v", c.name, got, err)
		}
	}
}

func TestReusedWaits(t *testing.T) {
	t.Parallel()
	s := begin(t, `{}`, step("ok", catalog.StepWait, `{"approval":true}`), step("two", catalog.StepWait, `{"approval":true,"signal":"ok"}`), step("timer", catalog.StepWait, `{"durationMs":1}`))
	s.r.Reused = map[int]string{0: "x", 2: "x"}
	if n := reusedWaits(s.r, "ok"); n != 1 {
		t.Errorf("%d", n)
	}
}
