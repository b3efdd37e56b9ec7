package enginetest

import (
	"encoding/json"
	"slices"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// taken tells whether each CONDITION that names step i has taken a branch with it.
func (w *World) taken(i int) bool {
	for j, s := range w.plan.Steps {
		named, with := false, false
		for n, c := range s.Cases {
			if slices.Contains(c.Steps, i) {
				named = true
				output, _ := w.Of(j).Output.(map[string]any)
				with = with || output["branch"] == s.caseName(n)
			}
		}
		if named && !with {
			return false
		}
	}
	return true
}

func (w *World) condition(s Step) Verdict {
	for n, c := range s.Cases {
		holds := false
		switch c.Test.Kind {
		case HoldsAlways, Otherwise:
			holds = true
		case HoldsNever:
		case ScoredHigh:
			output, _ := w.Of(c.Test.Step).Output.(map[string]any)
			v, _ := output["v"].(float64)
			holds = v >= 500
		case Completed:
			holds = w.Of(c.Test.Step).Status == orchestrator.StepCompleted
		case Broken:
			return failed(runner.CodeExpression)
		}
		if holds {
			return completed(map[string]any{"branch": s.caseName(n)})
		}
	}
	panic("a plan's CONDITION has an else")
}

func (w *World) wait(i int) Verdict {
	s, h := w.plan.Steps[i].Wait, w.happens[i]
	switch {
	case s.Form == PassesNot:
		return failed(runner.CodeInvalidInput)
	case s.Form == PastMoment, s.Form == Passes && s.Ms == 0:
		return completed(nil)
	case h.Signal != nil && s.Form == Hears:
		return completed(decoded(h.Signal.Payload))
	case h.Signal != nil && *h.Signal.Approve:
		return completed(map[string]any{"approved": true, "by": h.Signal.By, "comment": h.Signal.Comment, "payload": decoded(h.Signal.Payload)})
	case h.Signal != nil:
		return failed(runner.CodeRejected)
	case h.Woke && w.plan.SignalOf(i) == "":
		return completed(nil)
	case h.Woke && s.Default:
		return completed(decoded(json.RawMessage(DefaultOutput)))
	case h.Woke, h.TimedOut:
		return failed(runner.CodeStepTimeout)
	}
	return Verdict{Status: orchestrator.StepRunning, Attempts: 1}
}

func completed(output any) Verdict {
	return Verdict{Status: orchestrator.StepCompleted, Attempts: 1, Output: output}
}

func failed(code string) Verdict {
	return Verdict{Status: orchestrator.StepFailed, Attempts: 1, Code: code}
}

// loopItem is what an item of a LOOP sees.
type loopItem struct {
	value any
	index int
}

// items gives what a LOOP goes over, or the code of why there is nothing.
func (w *World) items(l *Loop) (items []any, code string) {
	switch l.Form {
	case NoArray:
		return nil, runner.CodeInvalidInput
	case Literal:
		for n := range l.Count {
			items = append(items, float64(10*n))
		}
	case Templated:
		for _, r := range l.Over {
			v, ok := w.value(r)
			if !ok {
				return nil, runner.CodeTemplate
			}
			items = append(items, v)
		}
	case Computed:
		for _, r := range l.Over {
			if r.Part == OutputText {
				r.Part = OutputValue
			}
			v, ok := w.value(r)
			if !ok {
				v = nil
			}
			items = append(items, v)
		}
	}
	if most := l.Most; most > 0 && len(items) > most {
		return nil, runner.CodeLoopLimit
	}
	return items, ""
}

// item judges an item of step i.
func (w *World) item(i, n int, input map[string]any) Verdict {
	s, h := w.plan.Steps[i], History{}
	if items := w.happens[i].Items; n < len(items) {
		h = items[n]
	}
	salt := 0
	if n < len(s.Salts) {
		salt = s.Salts[n]
	}
	return s.attempts(s.Items[n], h, func() any { return ItemAnswer(i, n+1, input, salt) })
}

// ItemAnswer is the output of an item that completes, as AnswerTo is that of a step; iteration is from 1.
func ItemAnswer(i, iteration int, input map[string]any, salt int) map[string]any {
	return AnswerTo(i+1000*iteration, input, salt)
}

func (w *World) forEach(i int) Verdict {
	s := w.plan.Steps[i]
	items, code := w.items(s.Loop)
	if code != "" {
		return failed(code)
	}
	tolerated := max(s.Loop.Failures, int(float64(len(items))*s.Loop.Percent/100))
	if _, unresolved := w.resolve(s.Inputs, &loopItem{}); unresolved && w.plan.Strict {
		n := min(len(items), tolerated+1) // they fail as they begin
		return w.ended(i, Counts{Begun: n, Failed: n}, n > tolerated, runner.CodeTemplate, make([]any, n))
	}
	counts, outputs := Counts{}, make([]any, len(items))
	for n, item := range items {
		input, _ := w.resolve(s.Inputs, &loopItem{item, n})
		switch v := w.item(i, n, input); v.Status {
		case orchestrator.StepCompleted:
			counts.Completed++
			outputs[n] = v.Output
		case orchestrator.StepFailed:
			counts.Failed++
			if n+1 == w.happens[i].Last {
				code = v.Code
			}
		}
	}
	over := counts.Completed + counts.Failed
	broken := counts.Failed > tolerated
	counts.Begun = min(len(items), over+max(1, s.Loop.Concurrency))
	switch {
	case w.held:
		counts.Begun = w.before.Of(i).Items.Begun
	case broken: // nobody takes the room of the last
		counts.Begun = w.happens[i].Begun
	}
	if over < len(items) && !broken {
		return w.unfinished(i, counts)
	}
	return w.ended(i, counts, broken, code, outputs)
}

func (w *World) while(i int) Verdict {
	s := w.plan.Steps[i]
	counts, outputs, last := Counts{}, []any{}, any(nil)
	most := s.Loop.Most
	if most == 0 {
		most = 1000
	}
	for n := 0; ; n++ {
		output, _ := last.(map[string]any)
		if v, _ := output["v"].(float64); n >= s.Loop.Count || v >= WhileBelow {
			return w.ended(i, counts, false, "", outputs)
		}
		if n >= most {
			return w.ended(i, counts, true, runner.CodeLoopLimit, nil)
		}
		if w.held && n >= w.before.Of(i).Items.Begun {
			return w.unfinished(i, counts)
		}
		counts.Begun++
		input, unresolved := w.resolve(s.Inputs, &loopItem{last, n})
		v := w.item(i, n, input)
		if unresolved && w.plan.Strict {
			v = failed(runner.CodeTemplate)
		}
		switch v.Status {
		case orchestrator.StepRunning:
			return w.unfinished(i, counts)
		case orchestrator.StepCompleted:
			counts.Completed++
			last = v.Output
			outputs = append(outputs, v.Output)
		default:
			outputs = append(outputs, nil)
			if counts.Failed++; counts.Failed > s.Loop.Failures {
				return w.ended(i, counts, true, v.Code, nil)
			}
		}
	}
}

func (w *World) parallel(i int) Verdict {
	s := w.plan.Steps[i]
	counts, outputs, code := Counts{}, map[string]any{}, ""
	needed, all := s.needed(), len(s.Branches)
	inputs := make([]map[string]any, all)
	for n, b := range s.Branches { // some fail as they begin
		counts.Begun++
		var unresolved bool
		if inputs[n], unresolved = w.resolve(b.Inputs, nil); unresolved && w.plan.Strict {
			inputs[n] = nil
			if counts.Failed++; all-counts.Failed < needed {
				return w.ended(i, counts, true, runner.CodeTemplate, nil)
			}
		}
	}
	for n := range s.Branches {
		if inputs[n] == nil {
			continue
		}
		switch v := w.item(i, n, inputs[n]); v.Status {
		case orchestrator.StepCompleted:
			counts.Completed++
			outputs[BranchKey(n)] = v.Output
		case orchestrator.StepFailed:
			counts.Failed++
			if n+1 == w.happens[i].Last {
				code = v.Code
			}
		}
	}
	broken := all-counts.Failed < needed
	if counts.Completed < needed && !broken {
		return w.unfinished(i, counts)
	}
	return w.ended(i, counts, broken, code, outputs)
}

// unfinished is the verdict about a step some of whose items have not ended.
func (w *World) unfinished(i int, counts Counts) Verdict {
	v := Verdict{Status: orchestrator.StepRunning, Attempts: 1, Items: counts}
	if w.happens[i].TimedOut {
		v = failed(runner.CodeStepTimeout)
		v.Items = counts
		v.Items.Begun = w.happens[i].Begun
	}
	return v
}

// ended is the verdict about a step whose items have all ended.
func (w *World) ended(i int, counts Counts, broken bool, code string, outputs any) Verdict {
	v := Verdict{Status: orchestrator.StepRunning, Attempts: 1, Gathers: true}
	switch h := w.happens[i]; {
	case broken:
		v = failed(code)
	case h.GatherFailed:
		v = failed(runner.CodeOutputLimit)
	case h.Gathered:
		v = completed(outputs)
	case h.TimedOut:
		v = failed(runner.CodeStepTimeout)
	}
	v.Items = counts
	return v
}

func decoded(raw json.RawMessage) any {
	var v any
	if len(raw) > 0 && json.Unmarshal(raw, &v) != nil {
		panic("a plan's payloads are JSON")
	}
	return v
}
