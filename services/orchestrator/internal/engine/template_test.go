package engine_test

import (
	"encoding/json"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

func strict(d catalog.Definition) catalog.Definition {
	d.StrictTemplates = true
	return d
}

func outputs(d catalog.Definition, raw string) catalog.Definition {
	d.Outputs = json.RawMessage(raw)
	return d
}

// input gives the input of a ready step out of its message.
func (f *flow) input(key string) string {
	f.t.Helper()
	raw, serr := f.x.Body(f.place(key), nil)
	var body runner.StepBody
	if serr != nil || json.Unmarshal(raw, &body) != nil || string(body.Config) != `{"runtime":"javascript"}` {
		f.t.Fatalf("body of %s: %s, %v", key, raw, serr)
	}
	return string(body.Input)
}

func TestInputsAreResolved(t *testing.T) {
	for name, c := range map[string]struct{ inputs, want string }{
		"none":                   {``, `{}`},
		"null":                   {`null`, `{}`},
		"no template":            {`{"x": [1, {"y":"z"}]}`, `{"x": [1, {"y":"z"}]}`},
		"an execution's input":   {`{"x":"{{inputs.n}}"}`, `{"x":20}`},
		"all of its inputs":      {`{"x":"{{inputs}}"}`, `{"x":{"n":20}}`},
		"an output":              {`{"x":"{{a.output}}"}`, `{"x":{"v":[1,{"w":"{{inputs.n}}"}],"big":1e400}}`},
		"a path into it":         {`{"x":"{{a.output.v[1].w}}"}`, `{"x":"{{inputs.n}}"}`},
		"as text":                {`{"x":"n={{inputs.n}} v={{a.output.v}}"}`, `{"x":"n=20 v=[1,{\"w\":\"{{inputs.n}}\"}]"}`},
		"a number keeps its way": {`{"x":"{{a.output.big}}"}`, `{"x":1e400}`},
		"a status":               {`{"x":"{{a.status}}"}`, `{"x":"COMPLETED"}`},
		"no error":               {`{"x":"{{a.error}}"}`, `{"x":null}`},
		"metadata": {`{"m":"{{metadata}}"}`, `{"m":{"executionId":"` + executionID + `","startedAt":"2026-01-02T03:04:05.678901Z","triggerType":"API","userId":"` +
			userID + `","workflowId":"` + workflowID + `","workflowVersion":3}}`},
		"a part of metadata": {`{"m":"{{metadata.workflowVersion}}"}`, `{"m":3}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, strict(workflow(step("a", nil), step("b", on("a"), inputs(c.inputs)))))
			f.completed("a", `{"v":[1,{"w":"{{inputs.n}}"}],"big":1e400}`)
			if f.ready() != "b" || len(f.last.Warnings) > 0 {
				t.Fatalf("ready %q, error %v", f.ready(), f.x.Error)
			}
			if got := f.input("b"); got != c.want {
				t.Fatalf("input %s\nwant  %s", got, c.want)
			}
		})
	}
}

var unresolvable = map[string]string{
	"{{inputs.m}}":           "inputs.m",
	"{{a.output.nope}}":      "a.output.nope",
	"{{a.output.v[3]}}":      "a.output.v[3]",
	"{{a.error.message}}":    "a.error.message",
	"{{a.nothing}}":          "a.nothing",
	"{{a}}":                  "a",
	"{{a[0]}}":               "a[0]",
	"{{f.output.v}}":         "f.output.v", // a path into the null output of a failed step
	"{{s.output.v}}":         "s.output.v", // and of a skipped one
	"{{s.error.code}}":       "s.error.code",
	"{{metadata.nope}}":      "metadata.nope",
	"{{nobody.output}}":      "nobody.output",
	"x {{ a.output.nope }} ": "a.output.nope",
}

func withUnresolved(t *testing.T, text string, isStrict bool, e string) *flow {
	t.Helper()
	d := workflow(
		step("a", nil), step("f", nil, onError(catalog.OnErrorContinue)), step("s", on("f"), rule(catalog.TriggerAllSuccess)),
		step("b", on("a", "f", "s"), inputs(`{"x":"`+text+`","n":"{{inputs.n}}"}`), onError(e), func(s *catalog.Step) { s.RetryCount = 3 }),
		step("c", on("b"), rule(catalog.TriggerAllDone)),
	)
	d.StrictTemplates = isStrict
	f := submit(t, d)
	f.failed("f", final)
	f.completed("a", `{"v":[1]}`)
	return f
}

func TestWhatDoesNotResolveStaysAndWarns(t *testing.T) {
	for text, path := range unresolvable {
		t.Run(text, func(t *testing.T) {
			f := withUnresolved(t, text, false, catalog.OnErrorFail)
			if got, want := f.input("b"), `{"x":"`+text+`","n":20}`; got != want {
				t.Fatalf("input %s, want %s", got, want)
			}
			w := f.last.Warnings
			if len(w) != 1 || w[0].Step != 3 || w[0].Attempt != 1 || !strings.Contains(w[0].Message, "{{"+path+"}}") {
				t.Fatalf("warnings %+v", w)
			}
		})
	}
}

func TestStrictTemplatesFailTheStep(t *testing.T) {
	for text, path := range unresolvable {
		for e, after := range map[string]string{
			catalog.OnErrorFail:     "FAILED: a COMPLETED, f FAILED, s SKIPPED, b FAILED, c SKIPPED",
			catalog.OnErrorRetry:    "FAILED: a COMPLETED, f FAILED, s SKIPPED, b FAILED, c SKIPPED",
			catalog.OnErrorContinue: "RUNNING: a COMPLETED, f FAILED, s SKIPPED, b FAILED, c RUNNING",
		} {
			t.Run(e+"/"+text, func(t *testing.T) {
				f := withUnresolved(t, text, true, e)
				f.expect(after)
				s := f.step("b")
				if s.Error.Code != runner.CodeTemplate || s.Error.Retryable || s.Error.StepKey != "b" || s.Attempt != 1 || !strings.Contains(s.Error.Message, "{{"+path+"}}") {
					t.Fatalf("step %+v, error %+v", s, s.Error)
				}
				if strings.Contains(f.ready(), "b") || len(f.last.Warnings) > 0 {
					t.Fatalf("ready %q, warnings %v", f.ready(), f.last.Warnings)
				}
				if e != catalog.OnErrorContinue && f.x.Error.Code != runner.CodeTemplate {
					t.Fatalf("error %+v", f.x.Error)
				}
			})
		}
	}
}

// A warning stands for each attempt.
func TestEachAttemptWarns(t *testing.T) {
	f := submit(t, workflow(step("a", nil, retry(1, 0), inputs(`{"x":"{{inputs.m}}{{inputs.k}}"}`))))
	f.failed("a", retryable)
	f.due()
	if len(f.warned) != 2 || f.last.Warnings[0].Attempt != 2 || f.warned[0] != f.warned[1] || !strings.Contains(f.warned[0], "{{inputs.m}}, {{inputs.k}}") {
		t.Fatalf("warnings %q", f.warned)
	}
}

// A step that fails as it starts ends the execution, and with it what the same input made ready.
func TestAStepThatFailsAsItStarts(t *testing.T) {
	f := submit(t, strict(workflow(step("a", nil), step("b", on("a")), step("c", on("a"), inputs(`{"x":"{{inputs.m}}"}`)), step("d", on("a")))))
	f.completed("a", `1`)
	f.expect("FAILED: a COMPLETED, b CANCELLED, c FAILED, d SKIPPED")
	if len(f.last.Ready) > 0 {
		t.Fatalf("ready: %s", f.ready())
	}
	f.expectEvents("created", "started", "step_started a", "step_completed a", "step_started b", "step_started c", "step_failed c",
		"step_cancelled b", "step_skipped d", "failed")
}

// big gives a JSON string of n bytes.
func big(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

func TestInputsTooLarge(t *testing.T) {
	for name, c := range map[string]struct {
		last int // bytes of the fourth output
		e    string
		want string
	}{
		"just fits": {runner.MaxInput/4 - len(`{"x":[,,,]}`), catalog.OnErrorFail, "RUNNING: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED, e RUNNING"},
		"too large": {runner.MaxInput/4 - len(`{"x":[,,,]}`) + 1, catalog.OnErrorFail, "FAILED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED, e FAILED"},
		"no retry":  {runner.MaxInput / 4, catalog.OnErrorRetry, "FAILED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED, e FAILED"},
		"continue":  {runner.MaxInput / 4, catalog.OnErrorContinue, "COMPLETED: a COMPLETED, b COMPLETED, c COMPLETED, d COMPLETED, e FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, workflow(step("a", nil), step("b", nil), step("c", nil), step("d", nil),
				step("e", on("a", "b", "c", "d"), onError(c.e), func(s *catalog.Step) { s.RetryCount = 3 },
					inputs(`{"x":["{{a.output}}","{{b.output}}","{{c.output}}","{{d.output}}"]}`))))
			for _, key := range []string{"a", "b", "c"} {
				f.completed(key, big(runner.MaxInput/4))
			}
			f.completed("d", big(c.last))
			f.expect(c.want)
			s := f.step("e")
			if s.Status == orchestrator.StepRunning {
				if got := len(f.input("e")); got != runner.MaxInput {
					t.Fatalf("input of %d bytes", got)
				}
				return
			}
			if s.Error.Code != runner.CodeInputLimit || s.Error.Retryable || s.Error.StepKey != "e" || s.Attempt != 1 || len(f.last.Ready) > 0 {
				t.Fatalf("step %+v, error %+v", s, s.Error)
			}
			if _, serr := f.x.Body(engine.Place{Step: 4}, nil); serr == nil || serr.Code != runner.CodeInputLimit {
				t.Fatalf("Body gave %v", serr)
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	for name, c := range map[string]struct {
		outputs, want string
		warned        bool
	}{
		"not given":       {``, `{"a":{"v":1},"b":[2]}`, false},
		"null":            {`null`, `{"a":{"v":1},"b":[2]}`, false},
		"mapped":          {`{"sum":"{{a.output.v}}","all":["{{b.output}}","{{inputs.n}}"],"c":"{{c.status}}"}`, `{"sum":1,"all":[[2],20],"c":"FAILED"}`, false},
		"one value":       {`"{{b.output}}"`, `[2]`, false},
		"of a failed one": {`{"c":"{{c.output}}","why":"{{c.error.code}}"}`, `{"c":null,"why":"CODE_ERROR"}`, false},
		"unresolved":      {`{"a":"{{a.output.w}}","b":"{{c.output.v}}"}`, `{"a":"{{a.output.w}}","b":"{{c.output.v}}"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := submit(t, outputs(workflow(step("a", nil), step("b", on("a")), step("c", nil, onError(catalog.OnErrorContinue))), c.outputs))
			f.completed("a", `{"v":1}`)
			f.completed("b", `[2]`)
			if f.x.OutputsByKey() != nil {
				t.Fatalf("outputs before the end: %s", f.x.OutputsByKey())
			}
			f.failed("c", final)
			f.expect("COMPLETED: a COMPLETED, b COMPLETED, c FAILED")
			if got := string(f.x.OutputsByKey()); got != c.want {
				t.Fatalf("outputs %s, want %s", got, c.want)
			}
			if (len(f.last.Warnings) == 1) != c.warned || (c.warned && (f.last.Warnings[0].Step != -1 || !strings.Contains(f.warned[0], "{{a.output.w}}, {{c.output.v}}"))) {
				t.Fatalf("warnings %+v", f.last.Warnings)
			}
		})
	}
}

func TestStrictOutputsFailTheExecution(t *testing.T) {
	f := submit(t, strict(outputs(workflow(step("a", nil)), `{"x":"{{a.output.w}}"}`)))
	f.completed("a", `{"v":1}`)
	f.expect("FAILED: a COMPLETED")
	if f.x.Error.Code != runner.CodeTemplate || f.x.Error.StepKey != "" || !strings.Contains(f.x.Error.Message, "{{a.output.w}}") || f.x.OutputsByKey() != nil {
		t.Fatalf("error %+v, outputs %s", f.x.Error, f.x.OutputsByKey())
	}
	f.expectEvents("created", "started", "step_started a", "step_completed a", "failed")
}

func TestStepIndex(t *testing.T) {
	def := compile(t, workflow(step("a", nil), step("b", on("a"))))
	if i, ok := def.StepIndex("b"); i != 1 || !ok {
		t.Fatalf("b is %d, %v", i, ok)
	}
	if _, ok := def.StepIndex("c"); ok {
		t.Fatal("there is no c")
	}
}

func TestSchemasOfTheAgentGoWithTheStep(t *testing.T) {
	const in, out = `{"type": "object"}`, `true`
	d := workflow(step("a", nil))
	d.Agents[0].InputSchema, d.Agents[0].OutputSchema = json.RawMessage(in), json.RawMessage(out)
	f := submit(t, d)
	raw, serr := f.x.Body(engine.Place{}, nil)
	if want := `{"config":{"runtime":"javascript"},"input":{},"inputSchema":` + in + `,"outputSchema":` + out + `}`; serr != nil || string(raw) != want {
		t.Errorf("got %s, %v\nwant %s", raw, serr, want)
	}
}
