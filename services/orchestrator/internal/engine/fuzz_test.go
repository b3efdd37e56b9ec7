package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// FuzzApply runs any definition that compiles through any inputs: nothing panics, and what
// must always hold does.
func FuzzApply(f *testing.F) {
	var known []catalog.Definition
	seed := func(d catalog.Definition, log string) {
		known = append(known, d)
		raw, err := json.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, []byte(log))
	}
	seed(workflow(), "\x00\x00\x00")
	seed(workflow(step("a", nil)), "\x00\x00\x00\x02\x00\x00")
	seed(workflow(step("a", nil, retry(2, 1000)), step("b", on("a"), inputs(`{"x":"{{a.output.v}} {{a.error}}"}`))), "\x00\x00\x00\x03\x00\x01\x05\x00\xff\x01\x00\x00\x05\x00\xff\x02\x00\x03\x04\x01\x00")
	seed(strict(outputs(workflow(step("a", nil), step("b", on("c")), step("c", on("b"))), `{"x":"{{metadata.startedAt}}"}`)), "\x00\x00\x00\x02\x00\x02\x06\x00\x00")
	seed(workflow(step("a", on("a", "a"), onError("?"), rule("?"))), "\x00\x00\x00\x05\x00\xff")
	seed(workflow(condition("c", `{"cases":[{"when":"a.output.v == 1","then":["w"]}],"else":["l"]}`, on("a"), onError("CONTINUE")), step("a", nil),
		waits("w", `{"signal":"x","timeoutMs":100,"default":1}`, on("c")), loops("l", `{"forEach":[1,2,3],"concurrency":2,"maxFailures":1}`, on("c"), retry(1, 10)),
		branches("p", `2`, nil, retry(1, 10))), "\x00\x00\x00\x02\x01\x01\x09\x02\x02\x02\x04\x10\x02\x04\x11\x0a\x04\x01\x07\x00\x00\x08\x00\x00")
	seed(workflow(loops("w", `{"while":"index < 3 && item != 2"}`, nil), waits("a", `{"approval":true}`, nil)), "\x00\x00\x00\x02\x00\x10\x02\x00\x10\x07\x00\x00\x0a\x00\x01\x09\x01\x00\x08\x00\x00")
	for n := range known {
		f.Add(make([]byte, n), []byte("\x00\x00\x00\x01\x00\x00\x05\x00\xff\x03\x00\x42\x05\x00\xff\x02\x00\x03\x04\x01\x00\x02\x01\x01"))
	}
	f.Fuzz(func(t *testing.T, raw, log []byte) {
		var d catalog.Definition
		if len(raw) <= len(known) { // most changes of JSON make none; the logs of known ones count as well
			d = known[len(raw)%len(known)]
		} else if json.Unmarshal(raw, &d) != nil {
			return
		}
		def, err := engine.Compile(d)
		nameless := slices.ContainsFunc(d.Steps, func(s catalog.Step) bool { return s.StepKey == "" }) // its events would be the execution's
		if err != nil || nameless || len(d.Steps) > 50 || len(log) > 600 {
			return
		}
		fuzzLog(t, def, log)
	})
}

var fuzzOutputs = []string{`null`, `{"v":1}`, ` [1, {"v": "{{inputs.n}}"}] `, `"a\"b"`, `1e400`, `{"v":{"v":[[]]}}`, `{`, "\x00"}

// fuzzSignal is a signal the way it stands in the log.
func fuzzSignal(name string, how byte) *orchestrator.Signal {
	approve := how&2 == 0
	s := &orchestrator.Signal{Name: name, Payload: json.RawMessage(fmt.Sprint(how)), By: userID}
	if how&1 == 0 {
		s.Approve = &approve
	}
	return s
}

// fuzzLog reads three bytes for each input: what it is, of which step, and how it is.
func fuzzLog(t *testing.T, def *engine.Definition, log []byte) {
	x := accepted(executionID, def)
	rows, seen := newLedger(x), newWitness(x)
	seen.cyclic = true
	now := start
	inputs := 0
	var tokens []string
	for ; len(log) >= 3; log = log[3:] {
		how := log[2]
		now = now.Add(int64(how))
		in := engine.Input{Kind: engine.Kind(log[0]%12) + engine.Submitted, Time: now, Dispatch: int(how%3) + 1, Output: json.RawMessage(fuzzOutputs[how%8])}
		if how&64 == 0 {
			in.Err = &runner.StepError{Code: runner.CodeError, Message: strings.ToValidUTF8(string(log), "?"), Retryable: how&1 == 0}
		}
		if len(def.Steps) > 0 {
			s := &x.Steps[int(log[1])%len(def.Steps)]
			in.Step, in.Token, in.Dispatch = def.Steps[int(log[1])%len(def.Steps)].Key, s.Token, s.Dispatch
			if items := s.Items; how&16 != 0 && len(items) > 0 {
				item := items[int(how)%len(items)]
				in.Iteration, in.Token, in.Dispatch = item.Iteration, item.Token, item.Dispatch
			}
			if in.Kind == engine.Signaled && how < 128 {
				in.Signal = fuzzSignal(x.Signal(int(log[1])%len(def.Steps)), how)
			}
		}
		if in.Kind == engine.Pause || in.Kind == engine.Resume || in.Kind == engine.Signaled {
			in.Command = fmt.Sprintf("command-%d", log[1])
		}
		if how&32 != 0 && len(tokens) > 0 {
			in.Token = tokens[int(how)%len(tokens)]
		}
		if due := x.NextDue(); in.Kind == engine.TimerDue && how&128 != 0 && due < start.Add(1<<40) {
			now = max(now, due)
			in.Time = now
		}
		tokens = append(tokens, in.Token)
		// The reader of the log lets no such output in. The engine need not make sense of it.
		seen.noJSON = seen.noJSON || (in.Kind == engine.StepCompleted || in.Kind == engine.Gathered) && !json.Valid(in.Output)
		before := snapshot(x)
		out := engine.Apply(x, in, keys)
		if err := seen.check(before, x, out); err != nil {
			t.Fatalf("after %s: %v", describe(in), err)
		}
		for _, p := range out.Ready {
			// A definition may leave the config out, which is then no JSON to put in.
			if body, serr := x.Body(p, nil); serr != nil || len(def.Steps[p.Step].Work(p.Iteration).Config) > 0 && !seen.noJSON && !json.Valid(body) {
				t.Fatalf("body %s, %v", body, serr)
			}
		}
		for _, e := range out.Events {
			b, err := x.Encode(e, keys, e.Data.Seq)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := event.Decode(b); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
		}
		inputs++
		rows.commit(inputs, in, x, out)
		if err := same(x, rows.load(def)); err != nil {
			t.Fatalf("after %s: %v", describe(in), err)
		}
	}
}
