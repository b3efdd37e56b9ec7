package engine_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

var update = flag.Bool("update", false, "record the golden logs and events anew")

// golden is a recorded log: what was put in, and what it did. Payloads stand in it as strings,
// so that no byte of them is lost to the file's layout.
type golden struct {
	Definition json.RawMessage `json:"definition"`
	Log        []goldenEntry   `json:"log"`
	Outputs    string          `json:"outputs"`
}

type goldenEntry struct {
	Input   goldenInput    `json:"input"`
	Effects *goldenEffects `json:"effects"` // null: the input changed nothing
}

type goldenInput struct {
	Kind       string            `json:"kind"`
	Time       engine.Time       `json:"time"`
	Generation int64             `json:"generation"`
	Step       string            `json:"step,omitempty"`
	Token      string            `json:"token,omitempty"`
	Dispatch   int               `json:"dispatch,omitempty"`
	Output     string            `json:"output,omitempty"`
	Err        *runner.StepError `json:"error,omitempty"`
}

type goldenEffects struct {
	Execution *goldenExecution      `json:"execution,omitempty"`
	Steps     map[string]goldenStep `json:"steps,omitempty"`
	Ready     []goldenReady         `json:"ready,omitempty"`
	Stop      []engine.Stop         `json:"stop,omitempty"`
	Warnings  []engine.Warning      `json:"warnings,omitempty"`
	Events    []string              `json:"events,omitempty"` // what they say stands in the other file
}

type goldenReady struct {
	Step string `json:"step"`
	Body string `json:"body"`
}

type goldenExecution struct {
	Status      string            `json:"status"`
	EventSeq    uint64            `json:"eventSeq"`
	LastInput   engine.Time       `json:"lastInput"`
	NextDue     engine.Time       `json:"nextDue"`
	StartedAt   engine.Time       `json:"startedAt"`
	CompletedAt engine.Time       `json:"completedAt"`
	Error       *runner.StepError `json:"error"`
}

type goldenStep struct {
	Status      string            `json:"status"`
	Attempt     int               `json:"attempt"`
	Token       string            `json:"token"`
	Dispatch    int               `json:"dispatch"`
	RetryAt     engine.Time       `json:"retryAt"`
	Backstop    engine.Time       `json:"backstop"`
	Output      string            `json:"output"`
	Error       *runner.StepError `json:"error"`
	StartedAt   engine.Time       `json:"startedAt"`
	CompletedAt engine.Time       `json:"completedAt"`
}

// scenarios record the golden logs under -update; else the recorded inputs are what counts.
var scenarios = map[string]func(t *testing.T) *flow{
	"diamond": func(t *testing.T) *flow {
		f := submit(t, outputs(workflow(
			step("a", nil, inputs(`{"n":"{{inputs.n}}","by":"{{metadata.userId}}"}`)),
			step("b", on("a"), inputs(`{"x":"{{a.output.sum}}"}`)), step("c", on("a"), inputs(`{"x":"{{a.output.none}}"}`)),
			step("d", on("b", "c"), inputs(`{"all":["{{b.output}}","{{c.output}}"],"text":"<{{a.output}}>"}`)),
		), `{"total":"{{d.output}}"}`))
		f.now = f.now.Add(12)
		f.completed("a", `{"sum": 20, "e": 1e400}`)
		f.now = f.now.Add(3)
		f.completed("c", `"{{inputs.n}}"`)
		f.completed("b", `[1, 2]`)
		f.completed("b", `[3]`)
		f.now = f.now.Add(1)
		f.completed("d", `{"ok": true}`)
		f.cancel()
		return f
	},
	"retries": func(t *testing.T) *flow {
		f := submit(t, workflow(step("a", nil, retry(3, 1000)), step("b", nil, retry(1, 400_000), onError(catalog.OnErrorRetry)), step("c", on("a", "b"))))
		f.failed("a", retryable)
		f.failed("b", retryable)
		f.apply(engine.Input{Kind: engine.TimerDue})
		f.due()
		f.keys.Generation++
		f.started("a")
		f.now = f.now.Add(2000)
		f.started("a")
		f.apply(engine.Input{Kind: engine.StepLost, Step: "a", Token: f.step("a").Token, Dispatch: 1})
		f.due()
		f.due()
		f.completed("a", `null`)
		f.due()
		f.failed("b", final)
		return f
	},
	"continue_and_skip": func(t *testing.T) *flow {
		f := submit(t, workflow(
			step("a", nil, onError(catalog.OnErrorContinue)), step("b", on("a"), inputs(`{"why":"{{a.error}}","out":"{{a.output}}"}`)),
			step("c", on("a"), rule(catalog.TriggerAllSuccess)), step("d", on("c"), rule(catalog.TriggerAllDone), inputs(`{"c":"{{c.status}}"}`)),
			step("e", on("a", "b"), rule(catalog.TriggerOneSuccess)),
		))
		f.failed("a", final)
		f.completed("d", `1`)
		f.completed("b", `2`)
		f.completed("e", `3`)
		return f
	},
	"failure_cancels": func(t *testing.T) *flow {
		f := submit(t, strict(workflow(step("a", nil), step("b", nil), step("c", on("a")), step("d", on("a"), inputs(`{"x":"{{inputs.m}}"}`)), step("e", on("d")))))
		f.now = f.now.Add(7)
		f.completed("a", `1`)
		return f
	},
	"timeout": func(t *testing.T) *flow {
		d := workflow(step("a", nil), step("b", on("a")))
		d.TimeoutMs = 5000
		f := submit(t, d)
		f.started("a")
		f.due()
		return f
	},
	"cancelled_before_it_began": func(t *testing.T) *flow {
		f := accept(t, workflow(step("a", nil), step("b", on("a"))))
		f.cancel()
		begin(f)
		return f
	},
}

// TestGolden replays recorded logs: this version of the engine must do what the version that
// recorded them did, and tell it in the same bytes. A difference means executions that are
// under way would go on differently.
func TestGolden(t *testing.T) {
	for name, scenario := range scenarios {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "golden", name)
			if *update {
				record(t, path, scenario(t))
			}
			var g golden
			recorded := read(t, path+".json")
			if err := json.Unmarshal(recorded, &g); err != nil {
				t.Fatal(err)
			}
			log, events := replay(t, g)
			if !bytes.Equal(log, recorded) {
				t.Errorf("the log does not reproduce; now it is\n%s", log)
			}
			if want := read(t, path+".events.jsonl"); !bytes.Equal(events, want) {
				t.Errorf("the events were\n%sand are\n%s", want, events)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(t *testing.T, path string, f *flow) {
	t.Helper()
	definition, err := json.Marshal(f.source)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{Definition: definition}
	for n, in := range f.log {
		g.Log = append(g.Log, goldenEntry{Input: goldenInput{
			kindNames[in.Kind], in.Time, f.generations[n], in.Step, in.Token, in.Dispatch, string(in.Output), in.Err,
		}})
	}
	log, events := replay(t, g)
	for file, b := range map[string][]byte{path + ".json": log, path + ".events.jsonl": events} {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replay applies the inputs of g and gives the whole log, with their effects, and the events.
func replay(t *testing.T, g golden) (log, events []byte) {
	t.Helper()
	kinds := map[string]engine.Kind{}
	for kind, name := range kindNames {
		kinds[name] = kind
	}
	var source catalog.Definition
	if err := json.Unmarshal(compact(t, g.Definition), &source); err != nil {
		t.Fatal(err)
	}
	x := accepted(executionID, compile(t, source))
	for n := range g.Log {
		in := g.Log[n].Input
		out := engine.Apply(x, engine.Input{
			Kind: kinds[in.Kind], Time: in.Time, Step: in.Step, Token: in.Token, Dispatch: in.Dispatch, Output: []byte(in.Output), Err: in.Err,
		}, engine.Keys{Secret: keys.Secret, Generation: in.Generation})
		g.Log[n].Effects = goldenOf(t, x, out)
		for _, e := range out.Events {
			b, err := x.Encode(e, keys.Secret, e.Data.Seq+40)
			if err != nil {
				t.Fatal(err)
			}
			events = append(append(events, b...), '\n')
		}
	}
	g.Outputs = string(x.OutputsByKey())
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), events
}

// compact undoes the indenting of the file.
func compact(t *testing.T, raw json.RawMessage) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func goldenOf(t *testing.T, x *engine.Execution, out engine.Effects) *goldenEffects {
	t.Helper()
	if out.None() {
		return nil
	}
	g := &goldenEffects{Steps: map[string]goldenStep{}, Stop: out.Stop, Warnings: out.Warnings, Events: eventNames(out.Events)}
	g.Execution = &goldenExecution{x.Status, x.EventSeq, x.LastInput, x.NextDue(), x.StartedAt, x.CompletedAt, x.Error}
	for _, i := range out.Steps {
		s := &x.Steps[i]
		g.Steps[x.Definition.Steps[i].Key] = goldenStep{s.Status, s.Attempt, s.Token, s.Dispatch, s.RetryAt, s.Backstop, string(s.Output), s.Error, s.StartedAt, s.CompletedAt}
	}
	for _, i := range out.Ready {
		body, serr := x.Body(i)
		if serr != nil {
			t.Fatal(serr)
		}
		g.Ready = append(g.Ready, goldenReady{x.Definition.Steps[i].Key, string(body)})
	}
	return g
}
