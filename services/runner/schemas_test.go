package runner

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/runner"
)

func TestSchemasOfTheAgentHold(t *testing.T) {
	w := newWorld(t, long)
	var calls atomic.Int64
	w.start(echo(&calls))
	body := func(s string) func(*nats.Msg) { return func(m *nats.Msg) { m.Data = []byte(s) } }
	const positive, negative = `{"properties":{"n":{"minimum":1}}}`, `{"properties":{"n":{"maximum":-1}}}`

	w.send(step("fits", body(`{"config":{},"input":{"n":1},"inputSchema":`+positive+`,"outputSchema":`+positive+`}`)))
	w.expect(runner.TypeStepCompleted, "fits")
	w.send(step("input", body(`{"config":{},"input":{"n":0},"inputSchema":`+positive+`,"outputSchema":true}`)))
	if fault := w.expectFault("input", runner.CodeInvalidInput); fault.Retryable || !strings.Contains(fault.Message, "input.n is too small") {
		t.Errorf("the fault is %+v", fault)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the executor ran %d times", n)
	}
	w.send(step("output", body(`{"config":{},"input":{"n":1},"outputSchema":`+negative+`}`)))
	if fault := w.expectFault("output", runner.CodeInvalidOutput); fault.Retryable || !strings.Contains(fault.Message, "output.n is too large") {
		t.Errorf("the fault is %+v", fault)
	}
	w.awaitEmpty()
}
