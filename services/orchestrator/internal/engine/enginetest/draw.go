package enginetest

import (
	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
)

// DrawPlan draws a workflow of up to twelve steps, and the answers to them.
func DrawPlan(t *rapid.T) Plan {
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
		s.Inputs = drawReferences(t, ancestors[i])
		s.Script = rapid.SliceOfN(rapid.SampledFrom([]Answer{
			Succeeds, Succeeds, Succeeds, Succeeds, FailsForNow, FailsForNow, FailsForGood, StaysSilent,
		}), s.Retries+1, s.Retries+1).Draw(t, "script")
	}
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
		r := Reference{Part: rapid.SampledFrom([]Part{ExecutionInput, ExecutionInput, ExecutionInput, UnknownInput}).Draw(t, "part")}
		if len(steps) > 0 {
			r.Step = rapid.SampledFrom(steps).Draw(t, "of")
			r.Part = rapid.SampledFrom([]Part{
				WholeOutput, OutputValue, OutputValue, OutputText, StepStatus, WholeOutput, ErrorCode, ExecutionInput, MissingPath, UnknownInput,
			}).Draw(t, "part")
		}
		refs = append(refs, r)
	}
	return refs
}
