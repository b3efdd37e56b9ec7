package natsapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// golden is a message as contracts/testdata/golden keeps it.
type golden struct {
	file    string
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	lined   []byte            // headers and body
}

func goldens(t *testing.T, kinds ...string) []golden {
	t.Helper()
	var all []golden
	for _, kind := range kinds {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "contracts", "testdata", "golden", kind, "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d golden files, %v", kind, len(files), err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := golden{file: file}
			if err := json.Unmarshal(raw, &g); err != nil {
				t.Fatal(err)
			}
			all = append(all, g)
		}
	}
	return all
}

// TestWhatIsSentIsGolden wants ready steps and control inputs to be those of the contract, to the byte.
func TestWhatIsSentIsGolden(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	for _, g := range goldens(t, runner.TypeStepReady, orchestrator.TypeSubmitted, orchestrator.TypeCancel, orchestrator.TypeTimerDue, orchestrator.TypeStepLost,
		orchestrator.TypePause, orchestrator.TypeResume, orchestrator.TypeSignal, orchestrator.TypeStepGathered, orchestrator.TypeStepGatherFailed) {
		h := g.Headers
		number := func(name string) int {
			n, _ := strconv.Atoi(h[name])
			return n
		}
		sent := make(chan error, 1)
		stream := subject.ExecutionInputStream
		control := partition.Control{P: subject.PartitionOf(h[event.HeaderSubject]), ExecutionID: h[event.HeaderSubject]}
		switch h[event.HeaderType] {
		case runner.TypeStepReady:
			stream = subject.StepsStream
			agentType, priority := "CODE", 5
			if g.Subject != subject.Step(subject.DefaultPool, agentType, priority) {
				agentType, priority = "DATA", 0
			}
			tr.Send(partition.StepMessage{
				ExecutionID: h[event.HeaderSubject], WorkflowID: h[runner.HeaderWorkflowID], UserID: h[runner.HeaderUserID],
				RequestID: h[event.HeaderRequestID], Traceparent: h[event.HeaderTraceparent], StepKey: h[runner.HeaderStepKey], Iteration: number(runner.HeaderIteration),
				AgentID: h[runner.HeaderAgentID], AgentType: agentType, Priority: priority, Token: h[event.HeaderID],
				Dispatch: number(runner.HeaderDispatch), Attempt: number(runner.HeaderAttempt), TimeoutMs: int64(number(runner.HeaderTimeoutMs)),
				IdempotencyKey: h[runner.HeaderIdempotencyKey], Body: g.Body,
			}, func(_ uint64, err error) { sent <- err })
		case orchestrator.TypeSubmitted:
			control.Kind = engine.Submitted
		case orchestrator.TypeCancel:
			control.Kind, control.CommandID = engine.Cancel, h[event.HeaderID]
		case orchestrator.TypePause:
			control.Kind, control.CommandID = engine.Pause, h[event.HeaderID]
		case orchestrator.TypeResume:
			control.Kind, control.CommandID = engine.Resume, h[event.HeaderID]
		case orchestrator.TypeSignal:
			control.Kind, control.CommandID = engine.Signaled, h[event.HeaderID]
			if err := json.Unmarshal(g.Body, &control.Signal); err != nil {
				t.Fatal(err)
			}
		case orchestrator.TypeStepGathered:
			control.Kind, control.Step, control.Output = engine.Gathered, h[runner.HeaderStepKey], g.Body
		case orchestrator.TypeStepGatherFailed:
			control.Kind, control.Step = engine.Gathered, h[runner.HeaderStepKey]
			if err := json.Unmarshal(g.Body, &control.Err); err != nil {
				t.Fatal(err)
			}
		case orchestrator.TypeTimerDue:
			control.Kind = engine.TimerDue
		case orchestrator.TypeStepLost:
			control.Kind, control.Token, control.Step, control.Dispatch = engine.StepLost, h[event.HeaderID], h[runner.HeaderStepKey], number(runner.HeaderDispatch)
			control.Iteration = number(runner.HeaderIteration)
		}
		if stream == subject.ExecutionInputStream {
			tr.Append(control, func(err error) { sent <- err })
		}
		if err := <-sent; err != nil {
			t.Fatalf("%s: %v", g.file, err)
		}
		m := lastOf(t, tr, stream)
		all, data := event.HeaderMap(m.Header, m.Data)
		headers := map[string]string{}
		for name, values := range all {
			headers[name] = values[0]
		}
		if m.Subject != g.Subject || !maps.Equal(headers, h) || string(data) != string(g.Body) {
			t.Errorf("%s: sent on %s\n%v\n%s", g.file, m.Subject, headers, data)
		}
		if strings.Count(string(m.Data), "\n") != 1 || len(m.Header) > 1 {
			t.Errorf("%s: its headers are %v, and %s", g.file, m.Header, m.Data)
		}
	}
}

func lastOf(t *testing.T, tr *Transport, name string) *jetstream.RawStreamMsg {
	t.Helper()
	stream, err := tr.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGoldenInputsAreRead wants every input that was ever put into a log to be read.
func TestGoldenInputsAreRead(t *testing.T) {
	t.Parallel()
	tr := newTransport(t)
	inputs := 0
	var all []golden
	for _, g := range goldens(t, "*") {
		if !strings.HasPrefix(g.Subject, "exec.in.") {
			continue
		}
		line := event.AppendHeader(nil, event.HeaderType, g.Headers[event.HeaderType])
		for name, value := range g.Headers {
			if name != event.HeaderType {
				line = event.AppendHeader(line, name, value)
			}
		}
		lined := g
		lined.lined = append(event.EndHeaders(line), g.Body...)
		all = append(all, g, lined)
	}
	for _, g := range all {
		inputs++
		p := subject.PartitionOf(g.Headers[event.HeaderSubject])
		r, err := tr.Read(t.Context(), p, 1)
		if err != nil {
			t.Fatal(err)
		}
		seq := uint64(0)
		if g.lined == nil {
			seq = tr.put(t, p, g.Headers, string(g.Body))
		} else {
			seq = tr.put(t, p, nil, string(g.lined))
		}
		m := next(t, r)
		for m.Seq < seq {
			m = next(t, r)
		}
		r.Close()
		if m.Fault != "" || m.Input.Kind == 0 || m.ExecutionID != g.Headers[event.HeaderSubject] || m.Input.Token != g.Headers[event.HeaderID] ||
			m.Input.Step != g.Headers[runner.HeaderStepKey] || strconv.Itoa(m.Input.Iteration) != cmp.Or(g.Headers[runner.HeaderIteration], "0") ||
			(m.Input.Signal != nil) != (m.Input.Kind == engine.Signaled) || m.Input.Err != nil && m.Input.Err.Message == "the error does not decode" {
			t.Errorf("%s is read as %+v", g.file, m)
		}
	}
	if inputs < 10 {
		t.Errorf("only %d inputs are found", inputs)
	}
}
