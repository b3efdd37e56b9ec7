package orchestrator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/rawjson"
)

// input is a message of the input log as a test makes it.
type input struct {
	partition int
	control   bool
	kind      string
	execution string
	step      string
	id        string
	dispatch  string
	body      string
}

// inject puts a message into the input log.
func (in *installation) inject(m input) {
	in.t.Helper()
	target := subject.ExecutionInputRun(m.partition)
	if m.control {
		target = subject.ExecutionInputControl(m.partition)
	}
	h := nats.Header{}
	for k, v := range map[string]string{
		event.HeaderType: m.kind, event.HeaderSubject: m.execution, event.HeaderID: m.id, runner.HeaderStepKey: m.step, runner.HeaderDispatch: m.dispatch,
	} {
		if v != "" {
			h[k] = []string{v}
		}
	}
	if _, err := in.conn.JetStream().PublishMsg(in.t.Context(), &nats.Msg{Subject: target, Header: h, Data: []byte(m.body)}); err != nil {
		in.t.Fatalf("inject: %v", err)
	}
}

// holding plays a runner that answers, of one step only once it is released.
func (in *installation) holding(step string, release <-chan struct{}) func(a attempt) (string, *runner.StepError) {
	return func(a attempt) (string, *runner.StepError) {
		if a.step == step {
			select {
			case <-release:
			case <-in.t.Context().Done():
			}
		}
		return echo(a)
	}
}

func TestStrangeInputs(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	release := make(chan struct{})
	in.play(in.holding("held", release))
	x := in.submit(in.workflow(catalog.Step{StepKey: "held"}, catalog.Step{StepKey: "then", DependsOn: []string{"held"}}), `{}`)
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	p := subject.PartitionOf(x.ID)
	token := scan[string](in, db, `SELECT token FROM steps WHERE execution_id = $1`, x.ID)[0]
	upper := strings.ToUpper(x.ID)

	dead := []input{
		{kind: "", execution: x.ID, body: "garbage \x00\xff"},
		{kind: "io.turbocat.unknown.v9", execution: x.ID},
		{kind: runner.TypeStepCompleted, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: uuid.NewString(), step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: "no-uuid", step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: "\x00\xff\xfe", step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: "urn:uuid:" + x.ID, step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: "{" + x.ID + "}", step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: upper, step: "held", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: strings.ReplaceAll(x.ID, "-", ""), step: "held", id: token, body: "{}"},
		{control: true, kind: contract.TypeSubmitted, execution: uuid.NewString()},
		{control: true, kind: contract.TypeCancel, execution: uuid.NewString(), id: "no-uuid"},
		{control: true, kind: contract.TypeTimerDue, execution: uuid.NewString()},
		{kind: "io.turbocat.big.v1", body: strings.Repeat("x", 2<<20)},
	}
	for _, m := range dead {
		m.partition = p
		in.inject(m)
	}
	in.inject(input{partition: (p + 1) % subject.Partitions, kind: runner.TypeStepCompleted, execution: x.ID, step: "held", id: token, body: `"of another partition"`})
	// These are inputs, and change nothing.
	for _, m := range []input{
		{kind: runner.TypeStepCompleted, execution: x.ID, step: "unknown", id: token, body: "{}"},
		{kind: runner.TypeStepCompleted, execution: x.ID, step: "held", id: "another token", body: "{}"},
		{kind: runner.TypeStepCompleted, execution: x.ID, step: "then", id: token, body: "{}"},
		{kind: runner.TypeStepFailed, execution: x.ID, step: "held", id: "", body: `{"code":"X"}`},
		{kind: runner.TypeStepStarted, execution: x.ID, step: "held", id: "another token"},
		{control: true, kind: contract.TypeSubmitted, execution: x.ID},
		{control: true, kind: contract.TypeTimerDue, execution: x.ID},
		{control: true, kind: contract.TypeStepLost, execution: x.ID, step: "held", id: token, dispatch: "not a number"},
		{control: true, kind: contract.TypeStepLost, execution: x.ID, step: "held", id: token, dispatch: "7"},
	} {
		m.partition = p
		in.inject(m)
	}
	in.eventually(60*time.Second, "the dead letters are there", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM dead_letters`)[0] >= len(dead)+1
	})
	for _, d := range scan[struct {
		Reason  string
		Subject string
		Headers []byte
		Body    []byte
	}](in, db, `SELECT reason, subject, headers, body FROM dead_letters`) {
		if d.Reason == "" || d.Subject == "" || !json.Valid(d.Headers) && len(d.Headers) > 0 {
			t.Errorf("a dead letter of %q says %q, headers %s", d.Subject, d.Reason, d.Headers)
		}
	}
	if n := scan[int](in, db, `SELECT count(*) FROM dead_letters WHERE length(body) = $1`, 2<<20)[0]; n != 1 {
		t.Error("the body of a large dead letter is not kept")
	}
	close(release)
	x = in.await(x.ID, "terminal", terminal)
	if x.Status != contract.ExecutionCompleted || string(x.Steps[0].Output) != `{"step":"held","input":{}}` || x.Steps[0].Attempts != 1 {
		t.Errorf("the execution is %s, %s after %d attempts", x.Status, x.Steps[0].Output, x.Steps[0].Attempts)
	}
	in.checkLedger(db)
}

func TestResultsThatAreNone(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	largest := `"` + strings.Repeat("x", 1<<20-2) + `"`
	outputs := []struct{ name, output, status, code string }{
		{"no JSON", `{"half":`, contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"empty", ` `, contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"largest", largest, contract.ExecutionCompleted, ""},
		{"too deep", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"NUL", `"a\u0000b"`, contract.ExecutionCompleted, ""},
		{"null", `null`, contract.ExecutionCompleted, ""},
		{"large number", `1e400`, contract.ExecutionCompleted, ""},
		{"bad UTF-8", "\"\xff\xfe\"", contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"BOM", "\ufeff1", contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"more than one value", `1 2`, contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"half a surrogate", `"\ud800"`, contract.ExecutionCompleted, ""},
		{"NUL in a key", `{"a\u0000":1}`, contract.ExecutionCompleted, ""},
		{"a key twice", `{"a":1,"a":2}`, contract.ExecutionCompleted, ""},
		{"minus zero", `-0`, contract.ExecutionCompleted, ""},
		{"huge integer", `123456789012345678901234567890`, contract.ExecutionCompleted, ""},
		{"array", `[]`, contract.ExecutionCompleted, ""},
		{"as deep as may be", strings.Repeat("[", rawjson.MaxDepth) + strings.Repeat("]", rawjson.MaxDepth), contract.ExecutionCompleted, ""},
		{"a level deeper", strings.Repeat("[", rawjson.MaxDepth+1) + strings.Repeat("]", rawjson.MaxDepth+1), contract.ExecutionFailed, runner.CodeInvalidOutput},
		{"a reference without saying so", string(runner.ReferTo([]byte("1")).Payload()), contract.ExecutionFailed, runner.CodeInvalidOutput},
	}
	in.play(func(a attempt) (string, *runner.StepError) {
		var which struct{ I int }
		if err := json.Unmarshal(a.input, &which); err != nil {
			return "", &runner.StepError{Code: runner.CodeInternal, Message: err.Error()}
		}
		return outputs[which.I].output, nil
	})
	workflow := in.workflow(catalog.Step{StepKey: "a", Inputs: json.RawMessage(`{"i":"{{inputs.i}}"}`)})
	var ids []string
	for i := range outputs {
		ids = append(ids, in.submit(workflow, fmt.Sprintf(`{"i":%d}`, i)).ID)
	}
	for i, want := range outputs {
		x := in.await(ids[i], "terminal", terminal)
		switch {
		case x.Status != want.status:
			t.Errorf("%s: %s, %v", want.name, x.Status, x.Error)
		case want.code != "" && (x.Error == nil || x.Error.Code != want.code):
			t.Errorf("%s: error %v", want.name, x.Error)
		case want.code == "" && !bytes.Equal(x.Steps[0].Output, []byte(want.output)):
			t.Errorf("%s: output %.80s", want.name, x.Steps[0].Output)
		}
	}
	in.checkLedger(db)
}

func TestFailureThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	for _, body := range []string{`not JSON`, `null`, `{}`, `[]`} {
		x := in.submit(in.workflow(catalog.Step{StepKey: "a"}), `{}`)
		in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
		token := scan[string](in, in.db(), `SELECT token FROM steps WHERE execution_id = $1`, x.ID)[0]
		in.inject(input{partition: subject.PartitionOf(x.ID), kind: runner.TypeStepFailed, execution: x.ID, step: "a", id: token, body: body})
		x = in.await(x.ID, "terminal", terminal)
		if x.Status != contract.ExecutionFailed || x.Error == nil || x.Error.Code != runner.CodeInternal {
			t.Errorf("after %s: %s, %v", body, x.Status, x.Error)
		}
	}
}

func TestDuplicateAndLateResults(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	tokens := make(chan attempt, 10)
	in.play(func(a attempt) (string, *runner.StepError) {
		if a.step == "a" && a.number == "1" {
			tokens <- a
			return "", &runner.StepError{Code: runner.CodeError, Message: "first", Retryable: true}
		}
		if a.step == "a" {
			tokens <- a
		}
		return echo(a)
	})
	x := in.submit(in.workflow(
		catalog.Step{StepKey: "a", OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 10},
		catalog.Step{StepKey: "b", DependsOn: []string{"a"}},
	), `{}`)
	first, second := <-tokens, <-tokens
	if first.token == second.token {
		t.Error("two attempts have one token")
	}
	x = in.await(x.ID, "terminal", terminal)
	events := len(in.events(x.ID))
	late := func() {
		for range 3 {
			for _, a := range []attempt{first, second} {
				if err := report(in.conn.JetStream(), a, `"late"`, nil); err != nil {
					t.Fatal(err)
				}
				if err := report(in.conn.JetStream(), a, "", &runner.StepError{Code: runner.CodeError, Message: "late"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	late()
	stop()
	late() // applied by one that has never seen the execution
	in.start()
	marker := in.submit(in.workflow(catalog.Step{StepKey: "m"}), `{}`)
	in.await(marker.ID, "terminal", terminal)
	in.eventually(60*time.Second, "the late results are applied", func() bool {
		info, err := in.conn.JetStream().Stream(t.Context(), subject.ExecutionInputStream)
		if err != nil {
			return false
		}
		m, err := info.GetLastMsgForSubject(t.Context(), subject.ExecutionInputRun(subject.PartitionOf(x.ID)))
		return err == nil && scan[uint64](in, db, `SELECT input_seq FROM partitions WHERE p = $1`, subject.PartitionOf(x.ID))[0] >= m.Sequence
	})
	now := in.get(x.ID)
	if now.Status != contract.ExecutionCompleted || string(now.Steps[0].Output) != `{"step":"a","input":{}}` || len(in.events(x.ID)) != events {
		t.Errorf("late results changed the execution: %s %s, %d events of %d", now.Status, now.Steps[0].Output, len(in.events(x.ID)), events)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}
