package engine_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/orchestrator/internal/engine"
)

// BenchmarkChain10 runs a chain of ten steps through Apply, with the bodies and the events
// that the shell makes of its effects.
func BenchmarkChain10(b *testing.B) {
	steps := []catalog.Step{step("s0", nil, inputs(`{"values":["{{inputs.n}}"],"add":1}`))}
	for i := 1; i < 10; i++ {
		before := fmt.Sprintf("s%d", i-1)
		steps = append(steps, step(fmt.Sprintf("s%d", i), on(before), inputs(`{"values":["{{`+before+`.output.sum}}"],"add":1}`)))
	}
	benchmark(b, workflow(steps...), 10)
}

// BenchmarkFan1000 has a thousand steps between one that begins and one that ends.
func BenchmarkFan1000(b *testing.B) {
	const wide = 1000
	steps := []catalog.Step{step("first", nil)}
	var all []string
	for i := range wide {
		key := fmt.Sprintf("s%d", i)
		steps, all = append(steps, step(key, on("first"), inputs(`{"x":"{{first.output.sum}}"}`))), append(all, key)
	}
	benchmark(b, workflow(append(steps, step("last", all))...), wide+2)
}

func benchmark(b *testing.B, d catalog.Definition, steps int) {
	def, keys := compile(b, d), keys.Quick()
	output := json.RawMessage(`{"sum":21}`)
	b.ReportAllocs()
	for b.Loop() {
		x := accepted(executionID, def)
		now := start
		var queue []engine.Place
		carryOut := func(out engine.Effects) {
			for _, e := range out.Events {
				if _, err := x.Encode(e, keys, e.Data.Seq); err != nil {
					b.Fatal(err)
				}
			}
			for _, p := range out.Ready {
				if _, serr := x.Body(p, out.Input(p)); serr != nil {
					b.Fatal(serr)
				}
			}
			queue = append(queue, out.Ready...)
		}
		carryOut(engine.Apply(x, engine.Input{Kind: engine.Submitted, Time: now}, keys))
		for len(queue) > 0 {
			p := queue[0]
			queue = queue[1:]
			now++
			carryOut(engine.Apply(x, engine.Input{
				Kind: engine.StepCompleted, Time: now, Step: def.Steps[p.Step].Key, Iteration: p.Iteration, Token: x.Task(p).Token, Output: output,
			}, keys))
		}
		if p := x.Progress(); p.Completed != steps {
			b.Fatalf("%s with %+v", x.Status, p)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(steps), "ns/step")
}
