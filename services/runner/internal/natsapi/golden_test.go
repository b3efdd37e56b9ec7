package natsapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/work"
)

// golden is a message as contracts/testdata/golden keeps it.
type golden struct {
	file    string
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
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

// TestGoldenStepsAreRead wants every ready step that was ever sent to be one that can be run.
func TestGoldenStepsAreRead(t *testing.T) {
	for _, g := range goldens(t, "io.turbocat.step.ready.*") {
		own, line := nats.Header{}, event.AppendHeader(nil, event.HeaderType, g.Headers[event.HeaderType])
		for name, value := range g.Headers {
			own.Set(name, value)
			if name != jetstream.MsgIDHeader && name != event.HeaderType {
				line = event.AppendHeader(line, name, value)
			}
		}
		step, err := readStep(own, g.Body)
		if err != nil || step.Fault != nil || step.Token != g.Headers[event.HeaderID] || step.UserID != g.Headers[runner.HeaderUserID] ||
			strconv.Itoa(step.Iteration) != cmp.Or(g.Headers[runner.HeaderIteration], "0") {
			t.Errorf("%s is read as %+v, %v", g.file, step, err)
		}
		lined, err := readStep(nats.Header{jetstream.MsgIDHeader: {"1"}}, append(event.EndHeaders(line), g.Body...))
		if err != nil || !reflect.DeepEqual(lined, step) {
			t.Errorf("%s with its headers in a line is read as %+v, %v", g.file, lined, err)
		}
	}
}

// TestReportsAreGolden wants reports to be those of the contract, to the byte.
func TestReportsAreGolden(t *testing.T) {
	for _, g := range goldens(t, runner.TypeStepStarted, runner.TypeStepCompleted, runner.TypeStepFailed) {
		ms, _ := strconv.Atoi(g.Headers[runner.HeaderDurationMs])
		iteration, _ := strconv.Atoi(g.Headers[runner.HeaderIteration])
		m := message(work.Report{
			Type: g.Headers[event.HeaderType], Body: g.Body, Duration: time.Duration(ms) * time.Millisecond,
			Step: &work.Step{
				Token: g.Headers[event.HeaderID], ExecutionID: g.Headers[event.HeaderSubject], StepKey: g.Headers[runner.HeaderStepKey], Iteration: iteration,
				Dispatch: g.Headers[runner.HeaderDispatch], RequestID: g.Headers[event.HeaderRequestID], Traceparent: g.Headers[event.HeaderTraceparent],
			},
		})
		lined, data := event.Headers(nil, m.Data)
		headers := maps.Collect(lined)
		if m.Subject != g.Subject || m.Header != nil || !maps.Equal(headers, g.Headers) || string(data) != string(g.Body) {
			t.Errorf("%s: sent on %s\n%v\n%s", g.file, m.Subject, headers, data)
		}
	}
}
