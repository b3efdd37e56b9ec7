package enginetest

import (
	"slices"
	"strconv"

	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
)

// DrawPlan draws a workflow of up to twelve AGENT steps, and the answers to them.
func DrawPlan(t *rapid.T) Plan { return drawPlan(t, nil) }

// DrawMixedPlan draws a workflow of up to twelve steps of every type, and the answers to them.
func DrawMixedPlan(t *rapid.T) Plan {
	return drawPlan(t, []string{"", "", catalog.StepCondition, catalog.StepCondition, catalog.StepLoop, catalog.StepLoop, catalog.StepParallel, catalog.StepWait, catalog.StepWait})
}

// drawPlan draws the steps' types from some; none are AGENTs alone.
func drawPlan(t *rapid.T, types []string) Plan {
	n := rapid.IntRange(1, 12).Draw(t, "steps")
	order := make([]int, n) // a definition may name a step before its dependencies
	for i := range order {
		order[i] = i
	}
	order = rapid.Permutation(order).Draw(t, "order")
	p := Plan{
		Steps:     make([]Step, n),
		Strict:    rapid.IntRange(0, 3).Draw(t, "strict") == 0,
		TimeoutMs: rapid.SampledFrom([]int64{0, 3_600_000, 3_600_000, 3_600_000, 50_000}).Draw(t, "timeoutMs"),
	}
	ancestors := make([][]int, n)
	for k, i := range order {
		s := &p.Steps[i]
		if k > 0 {
			for _, d := range rapid.SliceOfNDistinct(rapid.IntRange(0, k-1), 0, 3, rapid.ID).Draw(t, "deps") {
				s.Deps = append(s.Deps, order[d])
				ancestors[i] = append(append(ancestors[i], order[d]), ancestors[order[d]]...)
			}
		}
		s.Rule = rapid.SampledFrom([]string{catalog.TriggerNoneFailed, catalog.TriggerAllSuccess, catalog.TriggerOneSuccess, catalog.TriggerAllDone}).Draw(t, "rule")
		s.OnError = rapid.SampledFrom([]string{catalog.OnErrorFail, catalog.OnErrorContinue, catalog.OnErrorContinue, catalog.OnErrorRetry}).Draw(t, "onError")
		s.Retries = rapid.IntRange(0, 3).Draw(t, "retries")
		s.DelayMs = rapid.SampledFrom([]int64{0, 10, 1000, 200_000}).Draw(t, "delayMs")
		s.TimeoutMs = 60_000
		if types != nil {
			s.Type = rapid.SampledFrom(types).Draw(t, "type")
		}
		switch s.Type {
		case catalog.StepCondition:
			drawCondition(t, s, ancestors[i])
		case catalog.StepLoop:
			drawLoop(t, s, ancestors[i])
		case catalog.StepParallel:
			drawParallel(t, s, ancestors[i])
		case catalog.StepWait:
			drawWait(t, &p, i, ancestors[i])
		default:
			s.Inputs = drawReferences(t, ancestors[i])
			s.Script = drawScript(t, s.Retries)
		}
		if s.Script != nil || s.Items != nil {
			s.Undo = drawUndo(t, i, ancestors[i])
		}
	}
	drawBranches(t, &p)
	if rapid.IntRange(0, 2).Draw(t, "outputs") == 0 {
		if p.Outputs = drawReferences(t, order); p.Outputs == nil {
			p.Outputs = []Reference{}
		}
	}
	return p
}

func drawReferences(t *rapid.T, steps []int) []Reference {
	var refs []Reference
	for range rapid.IntRange(0, 3).Draw(t, "references") {
		refs = append(refs, drawReference(t, steps))
	}
	return refs
}

func drawReference(t *rapid.T, steps []int) Reference {
	r := Reference{Part: rapid.SampledFrom([]Part{ExecutionInput, ExecutionInput, ExecutionInput, UnknownInput}).Draw(t, "part")}
	if len(steps) > 0 {
		r.Step = rapid.SampledFrom(steps).Draw(t, "of")
		r.Part = rapid.SampledFrom([]Part{
			WholeOutput, OutputValue, OutputValue, OutputText, StepStatus, WholeOutput, ErrorCode, ExecutionInput, MissingPath, UnknownInput,
		}).Draw(t, "part")
	}
	return r
}

func drawScript(t *rapid.T, retries int) []Answer {
	return rapid.SliceOfN(rapid.SampledFrom([]Answer{
		Succeeds, Succeeds, Succeeds, Succeeds, FailsForNow, FailsForNow, FailsForGood, StaysSilent,
	}), retries+1, retries+1).Draw(t, "script")
}

func drawCondition(t *rapid.T, s *Step, ancestors []int) {
	kinds := []TestKind{HoldsAlways, HoldsNever, HoldsNever, HoldsAlways, HoldsNever, Broken}
	if len(ancestors) > 0 {
		kinds = append(kinds, ScoredHigh, ScoredHigh, ScoredHigh, Completed, Completed)
	}
	for range rapid.IntRange(1, 3).Draw(t, "cases") {
		test := Test{Kind: rapid.SampledFrom(kinds).Draw(t, "test")}
		if len(ancestors) > 0 {
			test.Step = rapid.SampledFrom(ancestors).Draw(t, "of")
		}
		s.Cases = append(s.Cases, Case{Test: test})
	}
	s.Then = len(s.Cases) == 1
	s.Cases = append(s.Cases, Case{Test: Test{Kind: Otherwise}})
}

// drawBranches draws which of the steps after a CONDITION it names, and where.
func drawBranches(t *rapid.T, p *Plan) {
	for j := range p.Steps {
		for _, i := range p.Steps[j].Deps {
			cases := p.Steps[i].Cases
			if len(cases) == 0 {
				continue
			}
			for n := range cases {
				if rapid.IntRange(0, len(cases)).Draw(t, "named") == 0 {
					cases[n].Steps = append(cases[n].Steps, j)
				}
			}
		}
	}
}

func drawLoop(t *rapid.T, s *Step, ancestors []int) {
	l := &Loop{
		Form:        rapid.SampledFrom([]LoopForm{Literal, Literal, Templated, Computed, While, While, NoArray}).Draw(t, "form"),
		Count:       rapid.IntRange(0, 4).Draw(t, "items"),
		Concurrency: rapid.IntRange(0, 3).Draw(t, "concurrency"),
		Most:        rapid.SampledFrom([]int{0, 0, 1, 2, 4}).Draw(t, "most"),
		Failures:    rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "failures"),
		Percent:     rapid.SampledFrom([]float64{0, 0, 34, 50, 100}).Draw(t, "percent"),
	}
	items := l.Count
	if l.Form == Templated || l.Form == Computed {
		for len(l.Over) < l.Count {
			l.Over = append(l.Over, drawReference(t, ancestors))
		}
	}
	s.Loop = l
	s.Inputs = drawReferences(t, ancestors)
	for _, part := range []Part{LoopItem, LoopIndex} {
		if rapid.Bool().Draw(t, "named") {
			s.Inputs = append(s.Inputs, Reference{Part: part})
		}
	}
	for range items {
		s.Items = append(s.Items, drawScript(t, s.Retries))
	}
}

func drawParallel(t *rapid.T, s *Step, ancestors []int) {
	n := rapid.IntRange(1, 4).Draw(t, "branches")
	for range n {
		s.Branches = append(s.Branches, Branch{drawReferences(t, ancestors)})
		s.Items = append(s.Items, drawScript(t, s.Retries))
	}
	s.Join = rapid.SampledFrom([]string{"", catalog.JoinAll, catalog.JoinAny, "n"}).Draw(t, "join")
	if s.Join == "n" {
		s.Join = strconv.Itoa(rapid.IntRange(1, n).Draw(t, "n"))
	}
}

// drawWait lets a WAIT share its signal only with an ancestor, so that no two wait for it at once.
func drawWait(t *rapid.T, p *Plan, i int, ancestors []int) {
	w := &Wait{
		Form:      rapid.SampledFrom([]WaitForm{Passes, PassesBy, PassesNot, PastMoment, Hears, Hears, Hears, Approved, Approved}).Draw(t, "form"),
		Ms:        rapid.SampledFrom([]int64{0, 1, 30_000, 100_000}).Draw(t, "passes"),
		TimeoutMs: rapid.SampledFrom([]int64{0, 5000, 100_000}).Draw(t, "signalTimeoutMs"),
		Default:   rapid.Bool().Draw(t, "default"),
	}
	p.Steps[i].Wait = w
	p.Steps[i].TimeoutMs = rapid.SampledFrom([]int64{60_000, 3_600_000}).Draw(t, "stepTimeoutMs")
	if w.Form != Hears && w.Form != Approved {
		w.TimeoutMs, w.Default = 0, false
		return
	}
	w.Signal = rapid.SampledFrom([]string{"", p.Key(i) + "-hears"}).Draw(t, "signal")
	if w.Form == Hears {
		w.Signal = p.Key(i) + "-hears"
	}
	for _, a := range ancestors {
		if other := p.Steps[a].Wait; other != nil && other.Signal != "" && other.Form == w.Form && !p.shared(other.Signal, a, ancestors) && rapid.IntRange(0, 3).Draw(t, "share") > 0 {
			w.Signal = other.Signal
			return
		}
	}
}

// shared tells whether a step that is no ancestor has the signal of step a too.
func (p Plan) shared(signal string, a int, ancestors []int) bool {
	for j, s := range p.Steps {
		if j != a && s.Wait != nil && s.Wait.Signal == signal && !slices.Contains(ancestors, j) {
			return true
		}
	}
	return false
}
