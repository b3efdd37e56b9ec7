package engine_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
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

	Iteration int    `json:"iteration,omitempty"`
	Command   string `json:"command,omitempty"`
	Signal    string `json:"signal,omitempty"`
}

type goldenEffects struct {
	Execution *goldenExecution      `json:"execution,omitempty"`
	Steps     map[string]goldenStep `json:"steps,omitempty"`
	Ready     []goldenReady         `json:"ready,omitempty"`
	Stop      []goldenStop          `json:"stop,omitempty"`
	Warnings  []goldenWarning       `json:"warnings,omitempty"`
	Gather    []string              `json:"gather,omitempty"`
	Kept      bool                  `json:"kept,omitempty"`
	Taken     []string              `json:"taken,omitempty"`
	Events    []string              `json:"events,omitempty"` // what they say stands in the other file

	Compensation *goldenCompensation `json:"compensation,omitempty"`
}

type goldenCompensation struct {
	ID         string `json:"id"`
	Definition string `json:"definition"`
	Inputs     string `json:"inputs"`
}

type goldenStop struct {
	Step      int
	Iteration int `json:",omitempty"`
	Token     string
}

type goldenWarning struct {
	Step      int
	Iteration int `json:",omitempty"`
	Attempt   int
	Message   string
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
	WakeAt      engine.Time       `json:"wakeAt,omitempty"`
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
	"fan_out": func(t *testing.T) *flow {
		f := submit(t, workflow(
			loops("l", `{"forEach":"[inputs.n, {\"z\": 1, \"a\": [2]}, 3]","concurrency":2,"maxFailures":1}`, nil, retry(1, 1000), inputs(`{"i":"{{item}}","at":"{{index}}"}`)),
			loops("w", `{"while":"(item.v ?? 0) < 2","maxIterations":5}`, on("l"), inputs(`{"before":"{{item}}","all":"{{l.output}}"}`)),
			branches("p", `2`, nil, retry(1, 1000)), branches("q", `"all"`, on("p"), onError(catalog.OnErrorContinue)),
		))
		f.started("l#1")
		f.completed("l#2", `{"k": 2}`)
		f.failed("l#1", retryable)
		f.failed("p#3", retryable)
		f.keys.Generation++
		f.apply(engine.Input{Kind: engine.StepLost, Step: "l", Iteration: 3, Token: f.x.Task(f.place("l#3")).Token, Dispatch: 1})
		f.due()
		f.due()
		f.failed("l#1", retryable)
		f.completed("l#3", `3`)
		f.gather("l")
		f.completed("w#1", `{"v":1}`)
		f.completed("w#2", `{"v":2}`)
		f.completed("p#1", `1`)
		f.completed("p#3", `3`)
		f.gather("p")
		f.gather("p")
		f.gather("w")
		f.failed("q#2", final)
		return f
	},
	"waits_and_branches": func(t *testing.T) *flow {
		f := submit(t, workflow(
			waits("ask", `{"approval":true,"timeoutMs":86400000}`, nil, within(604_800_000)),
			condition("c", `{"cases":[{"when":"ask.output.payload.x > 1","then":["never"]},{"when":"inputs.n == 20","then":["some"]}],"else":["never"]}`, on("ask")),
			step("never", on("c"), rule(catalog.TriggerAllDone)), waits("some", `{"durationMs":"{{inputs.n}}"}`, on("c")),
			waits("moment", `{"until":"2026-01-02T03:05:00Z"}`, nil), waits("data", `{"signal":"data"}`, on("some")), waits("more", `{"signal":"more","timeoutMs":10,"default":{"d": 1}}`, on("data")),
			waits("no", `{"approval":true}`, on("more")),
		))
		f.now = f.now.Add(100)
		f.signal("data", `{"early":true}`)
		f.apply(f.log[len(f.log)-1])
		f.decides("ask", true, "<so>")
		f.due()
		f.due()
		f.due()
		f.decides("no", false, "too dear")
		return f
	},
	"paused": func(t *testing.T) *flow {
		f := accept(t, workflow(step("a", nil, retry(1, 1000)), step("b", on("a")), loops("l", `{"forEach":[1,2],"concurrency":1}`, nil)))
		f.pause()
		begin(f)
		f.resume()
		f.failed("a", retryable)
		f.pause()
		f.completed("l#1", `1`)
		f.pass(5000)
		f.resume()
		f.completed("a", `1`)
		f.pause()
		f.cancel()
		return f
	},
	"compensated": func(t *testing.T) *flow {
		f := submit(t, workflow(
			step("paid", nil, undone(`{"charge":"{{paid.output.id}}","by":"{{metadata.userId}}","of":"{{inputs.n}}"}`)),
			step("told", on("paid"), undone(`{"what":"<{{told.output}}>","none":"{{inputs.m}}"}`)), step("kept", on("paid")),
			loops("sent", `{"forEach":[1,2],"concurrency":2}`, on("paid"), undone(`{"all":"{{sent.output}}"}`)),
			step("last", on("told", "sent")), step("open", nil, undone(`{}`)),
		))
		f.completed("paid", `{"id": "a\u0062", "n": 1e400}`)
		f.now = f.now.Add(5)
		f.completed("sent#1", `1`)
		f.completed("sent#2", `{"{{inputs.n}}": 2}`)
		f.completed("kept", `1`)
		f.gather("sent")
		f.completed("told", `"so"`)
		f.now = f.now.Add(5)
		f.failed("last", final)
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
			kindNames[in.Kind], in.Time, f.generations[n], in.Step, in.Token, in.Dispatch, string(in.Output), in.Err, in.Iteration, in.Command, goldenSignal(t, in.Signal),
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
			Iteration: in.Iteration, Command: in.Command, Signal: signalOf(t, in.Signal),
		}, engine.Keys{Secret: keys.Secret, Generation: in.Generation})
		g.Log[n].Effects = goldenOf(t, x, out)
		for _, e := range out.Events {
			b, err := x.Encode(e, keys, e.Data.Seq+40)
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

func goldenSignal(t *testing.T, signal *orchestrator.Signal) string {
	t.Helper()
	if signal == nil {
		return ""
	}
	raw, err := json.Marshal(signal)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func signalOf(t *testing.T, raw string) *orchestrator.Signal {
	t.Helper()
	if raw == "" {
		return nil
	}
	var signal orchestrator.Signal
	if err := json.Unmarshal([]byte(raw), &signal); err != nil {
		t.Fatal(err)
	}
	return &signal
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
	g := &goldenEffects{Steps: map[string]goldenStep{}, Kept: out.Kept, Taken: out.Taken, Events: eventNames(out.Events)}
	g.Execution = &goldenExecution{x.Status, x.EventSeq, x.LastInput, x.NextDue(), x.StartedAt, x.CompletedAt, x.Error}
	for _, r := range out.Rows {
		g.Steps[nameOf(x, r.Place)] = goldenStep{
			r.Status, r.Attempt, r.Token, r.Dispatch, r.RetryAt, r.Backstop, string(r.Output), r.Error, r.StartedAt, r.CompletedAt, r.WakeAt,
		}
	}
	for _, p := range out.Ready {
		body, serr := x.Body(p, nil)
		if serr != nil {
			t.Fatal(serr)
		}
		g.Ready = append(g.Ready, goldenReady{nameOf(x, p), string(body)})
	}
	for _, s := range out.Stop {
		g.Stop = append(g.Stop, goldenStop{s.Step, s.Iteration, s.Token})
	}
	for _, w := range out.Warnings {
		g.Warnings = append(g.Warnings, goldenWarning{w.Step, w.Iteration, w.Attempt, w.Message})
	}
	if c := out.Compensation; c != nil {
		definition, err := json.Marshal(c.Definition)
		if err != nil {
			t.Fatal(err)
		}
		g.Compensation = &goldenCompensation{c.ID, string(definition), string(c.Inputs)}
	}
	for _, i := range out.Gather {
		g.Gather = append(g.Gather, x.Definition.Steps[i].Key)
	}
	return g
}
