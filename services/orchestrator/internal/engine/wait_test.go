package engine_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// waits gives a WAIT whose own time is long.
func waits(key, config string, deps []string, changes ...func(*catalog.Step)) catalog.Step {
	return typed(key, catalog.StepWait, config, deps, append([]func(*catalog.Step){within(100_000_000)}, changes...)...)
}

// waitTold gives the last event, which says that a step waits.
func (f *flow) waitTold() orchestrator.ExecutionEvent {
	f.t.Helper()
	n := len(f.events) - 1
	if f.events[n].Type.Name != "step_wait_started" {
		f.t.Fatalf("events %v", eventNames(f.events))
	}
	return f.events[n].Data
}

func TestWaitForATime(t *testing.T) {
	const atNoon = "2026-01-02T12:00:00Z"
	noon := engine.TimeOf(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	for name, c := range map[string]struct {
		config string
		until  engine.Time // 0: over at once
	}{
		"a number":                {`{"durationMs":1500}`, start.Add(1500)},
		"no time":                 {`{"durationMs":0}`, 0},
		"a template":              {`{"durationMs":"{{inputs.n}}"}`, start.Add(20)},
		"an output":               {`{"durationMs":"{{a.output.ms}}"}`, start.Add(2500)},
		"a moment":                {`{"until":"` + atNoon + `"}`, noon},
		"a moment elsewhere":      {`{"until":"2026-01-02T14:00:00+02:00"}`, noon},
		"a moment in an output":   {`{"until":"{{a.output.at}}"}`, noon},
		"a moment with a part":    {`{"until":"2026-01-02T{{a.output.hour}}:00:00Z"}`, noon},
		"a moment that is over":   {`{"until":"2025-12-31T12:00:00Z"}`, 0},
		"a moment long over":      {`{"until":"0001-01-01T00:00:00Z"}`, 0},
		"the moment of its start": {`{"until":"{{metadata.startedAt}}"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(step("a", nil), waits("w", c.config, on("a")), step("b", on("w"), inputs(`{"x":"{{w.output}}"}`))))
			f.x.Definition.TimeoutMs = 0
			f.completed("a", `{"ms":2.5e3,"at":"`+atNoon+`","hour":12}`)
			if c.until != 0 {
				f.expect("RUNNING: a COMPLETED, w RUNNING, b PENDING")
				if e := f.waitTold(); e.Until == nil || !e.Until.Equal(c.until.Std()) || e.Signal != "" || e.Attempt != 1 || e.StepKey != "w" {
					t.Fatalf("told %+v", e)
				}
				if f.x.NextDue() != c.until || f.step("w").WakeAt != c.until || f.x.Signal(1) != "" {
					t.Fatalf("next due %d, step %+v", f.x.NextDue(), f.step("w"))
				}
				f.now = c.until - 1
				f.apply(engine.Input{Kind: engine.TimerDue})
				f.expectNothing()
				f.due()
			}
			f.expect("RUNNING: a COMPLETED, w COMPLETED, b RUNNING")
			if f.output("w") != "null" || f.input("b") != `{"x":null}` || f.step("w").WakeAt != 0 {
				t.Fatalf("step %+v, input %s", f.step("w"), f.input("b"))
			}
			if told := strings.Join(eventNames(f.events), " "); strings.Contains(told, "step_wait_started") != (c.until != 0) {
				t.Fatalf("events %s", told)
			}
		})
	}
}

func TestWaitForNoTime(t *testing.T) {
	for config, want := range map[string]string{
		`{"durationMs":-1}`:                   "durationMs is -1; it must be a number",
		`{"durationMs":1e300}`:                "durationMs is 1e300; ",
		`{"durationMs":"{{inputs.m}}"}`:       `durationMs is "{{inputs.m}}"; `,
		`{"durationMs":"{{a.output.ms}}"}`:    `durationMs is "1000"; `,
		`{"durationMs":"{{a.error}}"}`:        "durationMs is null; ",
		`{"durationMs":"{{a.output.long}}"}`:  `durationMs is "` + strings.Repeat("x", 99) + "...; ",
		`{"until":"tomorrow"}`:                `until is "tomorrow"; it must be a time like `,
		`{"until":"{{a.error}}"}`:             "until is null; ",
		`{"until":"{{inputs.n}}"}`:            "until is 20; ",
		`{"until":"{{inputs.m}}"}`:            `until is "{{inputs.m}}"; `,
		`{"until":"2026-01-02T03:04:05.678"}`: "until is ",
	} {
		for e, state := range map[string]string{
			catalog.OnErrorFail: "FAILED: a COMPLETED, w FAILED, b SKIPPED", catalog.OnErrorContinue: "RUNNING: a COMPLETED, w FAILED, b RUNNING",
		} {
			t.Run(e+"/"+config, func(t *testing.T) {
				f := submit(t, workflow(step("a", nil), waits("w", config, on("a"), onError(e)), step("b", on("w"))))
				f.completed("a", `{"ms":"1000","long":"`+strings.Repeat("x", 1000)+`"}`)
				f.expect(state)
				if s := f.step("w"); s.Error.Code != runner.CodeInvalidInput || s.Error.StepKey != "w" || !strings.HasPrefix(s.Error.Message, want) || s.WakeAt != 0 {
					t.Fatalf("error %+v", s.Error)
				}
			})
		}
	}
}

func TestWaitForASignal(t *testing.T) {
	for payload, want := range map[string]string{`{"v":1e400}`: `{"v":1e400}`, `"x"`: `"x"`, `null`: `null`} {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", payload, early), func(t *testing.T) {
				f := submit(t, workflow(step("a", nil), waits("w", `{"signal":"go"}`, on("a")), step("b", on("w"))))
				if early {
					f.signal("go", payload)
					if !f.last.Kept || f.last.Changed || len(f.last.Events) > 0 || f.last.None() {
						t.Fatalf("effects %+v", f.last)
					}
					f.signal("other", `9`)
				}
				f.completed("a", `1`)
				if !early {
					f.expect("RUNNING: a COMPLETED, w RUNNING, b PENDING")
					if e := f.waitTold(); e.Signal != "go" || e.Until == nil || !e.Until.Equal(start.Add(100_000_000).Std()) || f.x.Signal(1) != "go" {
						t.Fatalf("told %+v, waits for %q", e, f.x.Signal(1))
					}
					f.signal("other", `9`)
					f.expect("RUNNING: a COMPLETED, w RUNNING, b PENDING")
					f.signal("go", payload)
				}
				f.expect("RUNNING: a COMPLETED, w COMPLETED, b RUNNING")
				if f.output("w") != want || f.x.Signal(1) != "" || len(f.x.Signals) != 1 || f.x.Signals[0].Signal.Name != "other" {
					t.Fatalf("output %s, kept %+v", f.output("w"), f.x.Signals)
				}
				if told := strings.Join(eventNames(f.last.Events), ", "); told != "step_completed w, step_started b" && !early {
					t.Fatalf("events %s", told)
				}
				if early && (len(f.last.Taken) != 1 || f.last.Taken[0] != "command-1") {
					t.Fatalf("taken %v", f.last.Taken)
				}
				f.completed("b", `1`)
				f.expect("COMPLETED: a COMPLETED, w COMPLETED, b COMPLETED")
				f.signal("go", `1`)
				f.expectNothing()
			})
		}
	}
}

// Kept signals are taken in the order in which they came, each name for itself.
func TestKeptSignalsAreTakenInTheirOrder(t *testing.T) {
	f := accept(t, workflow(waits("a", `{"signal":"x"}`, nil), waits("b", `{"signal":"x"}`, on("a")), waits("c", `{"signal":"y"}`, on("b")), waits("d", `{"signal":"x"}`, on("c"))))
	for n, name := range []string{"y", "x", "y", "x"} { // before the execution has begun
		f.signal(name, fmt.Sprint(n))
	}
	f.expect("PENDING: a PENDING, b PENDING, c PENDING, d PENDING")
	begin(f)
	f.expect("RUNNING: a COMPLETED, b COMPLETED, c COMPLETED, d RUNNING")
	if f.output("a") != "1" || f.output("b") != "3" || f.output("c") != "0" || strings.Join(f.last.Taken, " ") != "command-2 command-4 command-1" {
		t.Fatalf("outputs %s %s %s, taken %v", f.output("a"), f.output("b"), f.output("c"), f.last.Taken)
	}
	f.signal("x", `4`)
	f.expect("COMPLETED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED")
}

// One signal satisfies one WAIT.
func TestTwoWaitsForOneSignal(t *testing.T) {
	f := submit(t, workflow(waits("a", `{"signal":"x"}`, nil), waits("b", `{"signal":"x"}`, nil), waits("c", `{"signal":"y"}`, nil)))
	f.signal("x", `1`)
	f.expect("RUNNING: a COMPLETED, b RUNNING, c RUNNING")
	f.signal("x", `2`)
	f.expect("RUNNING: a COMPLETED, b COMPLETED, c RUNNING")
	f.signal("x", `3`)
	if !f.last.Kept || f.output("a") != "1" || f.output("b") != "2" {
		t.Fatalf("effects %+v, outputs %s, %s", f.last, f.output("a"), f.output("b"))
	}
	f.signal("y", `4`)
	f.expect("COMPLETED: a COMPLETED, b COMPLETED, c COMPLETED")
}

// A command that was applied changes nothing, whatever it is.
func TestACommandCountsOnce(t *testing.T) {
	f := submit(t, workflow(waits("a", `{"signal":"x"}`, nil), waits("b", `{"signal":"x"}`, nil), waits("c", `{"signal":"x"}`, nil), step("d", nil)))
	twice := func() {
		t.Helper()
		f.apply(f.log[len(f.log)-1])
		f.expectNothing()
	}
	f.signal("x", `1`)
	heard := f.log[len(f.log)-1]
	twice()
	f.resume() // of an execution that runs: it was applied, though nothing came of it
	f.expectNothing()
	resumed := f.log[len(f.log)-1]
	f.pause()
	twice()
	f.apply(resumed)
	f.expectNothing()
	f.signal("x", `2`)
	twice()
	f.resume()
	twice()
	f.apply(heard)
	f.expectNothing()
	f.expect("RUNNING: a COMPLETED, b COMPLETED, c RUNNING, d RUNNING")
	f.signal("later", `3`)
	twice()
	if len(f.x.Signals) != 1 {
		t.Fatalf("kept %+v", f.x.Signals)
	}
	cancel := engine.Input{Kind: engine.Cancel, Command: f.command()}
	f.apply(cancel)
	f.apply(cancel)
	f.expectNothing()
}

func TestASignalWithoutASignal(t *testing.T) {
	f := submit(t, workflow(waits("a", `{"signal":"x"}`, nil)))
	f.apply(engine.Input{Kind: engine.Signaled, Command: "c"})
	f.expectNothing()
}

func TestASignalThatDoesNotCome(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		e      string
		want   string
		output string
	}{
		"a default":           {`{"signal":"x","timeoutMs":5000,"default":{"v":[1]}}`, catalog.OnErrorFail, "RUNNING: w COMPLETED, b RUNNING, c RUNNING", `{"v":[1]}`},
		"the default is null": {`{"signal":"x","timeoutMs":5000,"default":null}`, catalog.OnErrorFail, "RUNNING: w COMPLETED, b RUNNING, c RUNNING", `null`},
		"no default":          {`{"signal":"x","timeoutMs":5000}`, catalog.OnErrorFail, "FAILED: w FAILED, b SKIPPED, c CANCELLED", ``},
		"retry":               {`{"signal":"x","timeoutMs":5000}`, catalog.OnErrorRetry, "FAILED: w FAILED, b SKIPPED, c CANCELLED", ``},
		"continue":            {`{"signal":"x","timeoutMs":5000}`, catalog.OnErrorContinue, "RUNNING: w FAILED, b RUNNING, c RUNNING", ``},
		"an approval":         {`{"approval":true,"timeoutMs":5000}`, catalog.OnErrorContinue, "RUNNING: w FAILED, b RUNNING, c RUNNING", ``},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(waits("w", c.config, nil, onError(c.e)), step("b", on("w")), step("c", nil)))
			if f.x.NextDue() != start.Add(5000) {
				t.Fatalf("next due %d", f.x.NextDue())
			}
			f.pass(4999)
			f.expectNothing()
			f.pass(1)
			f.expect(c.want)
			if f.output("w") != c.output {
				t.Fatalf("output %s", f.output("w"))
			}
			if s := f.step("w"); s.Status == orchestrator.StepFailed && (s.Error.Code != runner.CodeStepTimeout || s.Error.Retryable || !strings.Contains(s.Error.Message, "5000")) {
				t.Fatalf("error %+v", s.Error)
			}
			if f.signal("x", `1`); !f.x.Terminal() && !f.last.Kept {
				t.Fatalf("a signal that comes too late: %+v", f.last)
			}
		})
	}
}

func TestASignalJustInTime(t *testing.T) {
	f := submit(t, workflow(waits("w", `{"signal":"x","timeoutMs":5000}`, nil)))
	f.now = f.now.Add(5000) // the timer's message stands behind it in the log
	f.signal("x", `1`)
	f.expect("COMPLETED: w COMPLETED")
}

func TestApproval(t *testing.T) {
	for _, early := range []bool{false, true} {
		for name, c := range map[string]struct {
			e       string
			approve bool
			comment string
			want    string
		}{
			"yes":            {catalog.OnErrorFail, true, "fine", "RUNNING: a COMPLETED, w COMPLETED, b RUNNING"},
			"no":             {catalog.OnErrorFail, false, "too dear", "FAILED: a COMPLETED, w FAILED, b SKIPPED"},
			"no, for ever":   {catalog.OnErrorRetry, false, "", "FAILED: a COMPLETED, w FAILED, b SKIPPED"},
			"no, and go on":  {catalog.OnErrorContinue, false, "", "RUNNING: a COMPLETED, w FAILED, b RUNNING"},
			"yes, and go on": {catalog.OnErrorContinue, true, "", "RUNNING: a COMPLETED, w COMPLETED, b RUNNING"},
		} {
			t.Run(fmt.Sprintf("%s/%v", name, early), func(t *testing.T) {
				f := submit(t, workflow(step("a", nil), waits("w", `{"approval":true}`, on("a"), onError(c.e)), step("b", on("w"))))
				if early {
					f.decides("w", c.approve, c.comment)
				}
				f.completed("a", `1`)
				if !early {
					if e := f.waitTold(); e.Signal != "w" {
						t.Fatalf("told %+v", e)
					}
					f.decides("w", c.approve, c.comment)
				}
				f.expect(c.want)
				s := f.step("w")
				if c.approve {
					if got, want := f.output("w"), `{"approved":true,"by":"`+userID+`","comment":"`+c.comment+`","payload":{"x":1}}`; got != want {
						t.Fatalf("output %s, want %s", got, want)
					}
					return
				}
				want := "refused by " + userID
				if c.comment != "" {
					want += ": " + c.comment
				}
				if s.Error.Code != runner.CodeRejected || s.Error.Retryable || s.Error.Message != want {
					t.Fatalf("error %+v", s.Error)
				}
			})
		}
	}
}

func TestApprovalsThatSayLittle(t *testing.T) {
	f := submit(t, workflow(waits("w", `{"approval":true,"signal":"board"}`, nil, onError(catalog.OnErrorContinue)), waits("v", `{"approval":true}`, nil), step("b", nil)))
	f.signal("board", `1`) // neither yes nor no
	f.expect("RUNNING: w FAILED, v RUNNING, b RUNNING")
	yes := true
	f.sends(orchestrator.Signal{Name: "v", Approve: &yes})
	if got := f.output("v"); got != `{"approved":true,"by":"","comment":"","payload":null}` {
		t.Fatalf("output %s", got)
	}
	f = submit(t, workflow(waits("w", `{"approval":true}`, nil)))
	x := snapshot(f.x)
	engine.Apply(x, engine.Input{Kind: engine.Signaled, Time: start, Signal: &orchestrator.Signal{Name: "w", Approve: &yes, Payload: json.RawMessage("{")}}, keys)
	if x.Status != orchestrator.ExecutionFailed || x.Error.Code != runner.CodeInvalidInput {
		t.Fatalf("a payload that is no JSON: %s, %+v", x.Status, x.Error)
	}
}

// A WAIT has its timeoutMs from when it became ready.
func TestAWaitThatTakesTooLong(t *testing.T) {
	for name, c := range map[string]struct {
		config   string
		timeout  int64
		until    engine.Time
		want     string
		wantCode string
	}{
		"before its end":           {`{"durationMs":5000}`, 4999, start.Add(4999), orchestrator.StepFailed, runner.CodeStepTimeout},
		"with its end":             {`{"durationMs":5000}`, 5000, start.Add(5000), orchestrator.StepCompleted, ""},
		"after its end":            {`{"durationMs":5000}`, 5001, start.Add(5000), orchestrator.StepCompleted, ""},
		"a signal":                 {`{"signal":"x"}`, 7000, start.Add(7000), orchestrator.StepFailed, runner.CodeStepTimeout},
		"a signal with a default":  {`{"signal":"x","timeoutMs":7001,"default":1}`, 7000, start.Add(7000), orchestrator.StepFailed, runner.CodeStepTimeout},
		"a signal with a default.": {`{"signal":"x","timeoutMs":6999,"default":1}`, 7000, start.Add(6999), orchestrator.StepCompleted, ""},
		"an approval":              {`{"approval":true}`, 7000, start.Add(7000), orchestrator.StepFailed, runner.CodeStepTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(waits("w", c.config, nil, within(c.timeout), onError(catalog.OnErrorContinue)), step("b", nil)))
			if e := f.events[len(f.events)-2].Data; e.Until == nil || !e.Until.Equal(c.until.Std()) || f.x.NextDue() != c.until {
				t.Fatalf("told %+v, next due %d", e, f.x.NextDue())
			}
			f.now = c.until - 1
			f.apply(engine.Input{Kind: engine.TimerDue})
			f.expectNothing()
			f.pass(1_000_000) // all of it is due
			if s := f.step("w"); s.Status != c.want || codeOf(s.Error) != c.wantCode {
				t.Fatalf("step %+v", s)
			}
		})
	}
}

// Without any timeout a WAIT waits, and no timer is set.
func TestAWaitWithoutEnd(t *testing.T) {
	d := workflow(waits("w", `{"signal":"x"}`, nil, within(0)))
	d.TimeoutMs = 0
	f := submit(t, d)
	if e := f.waitTold(); e.Until != nil || f.x.NextDue() != 0 {
		t.Fatalf("told %+v, next due %d", e, f.x.NextDue())
	}
	f.pass(1 << 40)
	f.expectNothing()
	f.cancel()
	f.expect("CANCELLED: w CANCELLED")
	if len(f.last.Stop) > 0 {
		t.Fatalf("stopped %+v; no runner knows of it", f.last.Stop)
	}
}

func TestAwaits(t *testing.T) {
	def := compile(t, workflow(step("a", nil), waits("w", `{"approval":true}`, nil), waits("v", `{"signal":"x"}`, nil), waits("u", `{"signal":"x"}`, nil), waits("d", `{"durationMs":1}`, nil)))
	for name, want := range map[string]struct {
		waits    int
		approval bool
	}{"w": {1, true}, "x": {2, false}, "v": {}, "": {}, "a": {}} {
		if n, approval := def.Awaits(name); n != want.waits || approval != want.approval {
			t.Errorf("%q is awaited by %d, an approval: %v", name, n, approval)
		}
	}
}

func TestCompileRefusesWaits(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                          "it names nothing to wait for",
		`{"durationMs":"{{"}`:         "config.durationMs",
		`{"until":"{{inputs"}`:        "config.until",
		`{"durationMs":1,"signal":2}`: "config: ",
	} {
		def, err := engine.Compile(workflow(waits("w", config, nil)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, %v; want %q", config, def, err, want)
		}
	}
}
