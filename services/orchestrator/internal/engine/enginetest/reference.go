package enginetest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// History is what has happened to a step so far.
type History struct {
	Heard   int // attempts whose end has come, in time
	Retries int // attempts that were begun again

	Items        []History            // of a LOOP or PARALLEL: of iteration 1, 2, ...
	Last         int                  // the iteration whose end has come last
	Begun        int                  // of the items, when what happened last to the step came
	Gathered     bool                 // the outputs of the items were put together
	GatherFailed bool                 // or were too large for that
	Woke         bool                 // the time of a WAIT is up
	TimedOut     bool                 // the time of a step is up that no runner works on
	Signal       *orchestrator.Signal // that a WAIT has heard
}

// Verdict is what the semantics say about a step.
type Verdict struct {
	Status   string
	Attempts int
	Output   any
	Code     string // of the last failure, unless it completed
	Items    Counts // of a LOOP or PARALLEL
	Gathers  bool   // all its items have ended, and nothing else is missing
}

// Counts are those of items.
type Counts struct{ Begun, Completed, Failed int }

// World is the whole workflow under one history, worked out afresh by recursion over the
// graph, from the semantics as the product describes them.
type World struct {
	plan    Plan
	happens []History
	known   map[int]Verdict
	held    bool
	before  *World // when it was held; nil: before the beginning
}

// WorldOf gives the world in which h has happened to the steps of p.
func WorldOf(p Plan, h []History) *World {
	return &World{plan: p, happens: h, known: map[int]Verdict{}}
}

// Held gives the world of an execution that is paused since it was as in before, nil when it had not begun: nothing has
// begun since.
func (w *World) Held(before *World) *World {
	w.held, w.before = true, before
	return w
}

// Of gives the verdict about step i.
func (w *World) Of(i int) Verdict {
	v, ok := w.known[i]
	if !ok {
		v = w.judge(i)
		w.known[i] = v
	}
	return v
}

// Fatal tells whether the failure of a step ends the execution.
func (w *World) Fatal(i int) bool {
	return w.Of(i).Status == orchestrator.StepFailed && w.plan.Steps[i].OnError != catalog.OnErrorContinue
}

func (w *World) judge(i int) Verdict {
	s := w.plan.Steps[i]
	if w.held && (w.before == nil || w.before.Of(i).Status == orchestrator.StepPending) {
		return Verdict{Status: orchestrator.StepPending}
	}
	for _, d := range s.Deps {
		if !StepTerminal(w.Of(d).Status) || w.Fatal(d) {
			return Verdict{Status: orchestrator.StepPending}
		}
	}
	if !w.taken(i) || !w.ruleHolds(s) {
		return Verdict{Status: orchestrator.StepSkipped}
	}
	switch s.Type {
	case catalog.StepCondition:
		return w.condition(s)
	case catalog.StepWait:
		return w.wait(i)
	case catalog.StepLoop:
		if s.Loop.Form == While {
			return w.while(i)
		}
		return w.forEach(i)
	case catalog.StepParallel:
		return w.parallel(i)
	}
	input, unresolved := w.resolve(s.Inputs, nil)
	if s.Undoes {
		input, unresolved = s.Given, s.Given == nil
	}
	if unresolved && w.plan.Strict {
		return Verdict{Status: orchestrator.StepFailed, Attempts: 1, Code: runner.CodeTemplate}
	}
	return s.attempts(s.Script, w.happens[i], func() any {
		if s.Child != nil {
			return s.Child.Output
		}
		return AnswerTo(i, input, s.Salt)
	})
}

// attempts judges a step, or an item of one, by the answers that were heard.
func (s Step) attempts(script []Answer, h History, answer func() any) Verdict {
	code := ""
	for n := range h.Heard {
		again := false
		switch script[n] {
		case Succeeds:
			return Verdict{Status: orchestrator.StepCompleted, Attempts: n + 1, Output: answer()}
		case FailsForNow:
			code, again = Retryable.Code, true
		case StaysSilent:
			code, again = runner.CodeStepTimeout, true
		case LosesRunner:
			code, again = runner.CodeRunnerLost, true
		case FailsForGood:
			code = Final.Code
		default:
			code, again = answerOfChild[script[n]].code, answerOfChild[script[n]].again
		}
		if !again || s.OnError != catalog.OnErrorRetry || n >= s.Retries {
			return Verdict{Status: orchestrator.StepFailed, Attempts: n + 1, Code: code}
		}
	}
	return Verdict{Status: orchestrator.StepRunning, Attempts: 1 + h.Retries, Code: code}
}

func (w *World) ruleHolds(s Step) bool {
	if len(s.Deps) == 0 {
		return true
	}
	var completed, failed int
	for _, d := range s.Deps {
		switch w.Of(d).Status {
		case orchestrator.StepCompleted:
			completed++
		case orchestrator.StepFailed:
			failed++
		}
	}
	return map[string]bool{
		catalog.TriggerNoneFailed: completed+failed >= 1, // what failed did so under CONTINUE
		catalog.TriggerAllSuccess: completed == len(s.Deps),
		catalog.TriggerOneSuccess: completed >= 1,
		catalog.TriggerAllDone:    true,
	}[s.Rule]
}

// resolve gives the members as decoded JSON, and whether one stays as it is written. item is what a LOOP is at; nil for none.
func (w *World) resolve(refs []Reference, item *loopItem) (map[string]any, bool) {
	members, unresolved := map[string]any{}, false
	for n, r := range refs {
		v, ok := w.value(r)
		switch r.Part {
		case LoopItem:
			v, ok = item.value, true
		case LoopIndex:
			v, ok = float64(item.index), true
		}
		if !ok {
			v, unresolved = r.text(w.plan), true
		}
		members[fmt.Sprintf("f%d", n)] = v
	}
	return members, unresolved
}

func (w *World) value(r Reference) (any, bool) {
	of := func() Verdict { return w.Of(r.Step) }
	switch r.Part {
	case WholeOutput:
		return of().Output, true
	case OutputValue, OutputText:
		output, ok := of().Output.(map[string]any)
		v, there := output["v"]
		if !ok || !there {
			return nil, false
		}
		if r.Part == OutputText {
			return fmt.Sprintf("v is %v.", v), true
		}
		return v, true
	case StepStatus:
		return of().Status, true
	case ErrorCode:
		return of().Code, of().Status == orchestrator.StepFailed
	case ExecutionInput:
		return float64(20), true
	default:
		return nil, false
	}
}

// AnswerTo is the output of a step that completes: it depends on all of its input, and on the run.
func AnswerTo(i int, input map[string]any, salt int) map[string]any {
	raw, err := json.Marshal(input)
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	h := fnv.New32a()
	h.Write(raw)
	h.Write(strconv.AppendInt(nil, int64(salt), 10))
	return map[string]any{"v": float64(h.Sum32() % 1000), "of": float64(i)}
}

// Ends gives the status of an execution that nobody interferes with, its outputs and the code
// of its error.
func (w *World) Ends() (status string, outputs any, code string) {
	settled := true
	byKey := map[string]any{}
	for i := range w.plan.Steps {
		v := w.Of(i)
		if w.Fatal(i) {
			return orchestrator.ExecutionFailed, nil, v.Code
		}
		settled = settled && StepTerminal(v.Status)
		if v.Status == orchestrator.StepCompleted {
			byKey[w.plan.Key(i)] = v.Output
		}
	}
	if !settled {
		return orchestrator.ExecutionRunning, nil, ""
	}
	if w.plan.Outputs == nil {
		return orchestrator.ExecutionCompleted, byKey, ""
	}
	mapped, unresolved := w.resolve(w.plan.Outputs, nil)
	if unresolved && w.plan.Strict {
		return orchestrator.ExecutionFailed, nil, runner.CodeTemplate
	}
	return orchestrator.ExecutionCompleted, mapped, ""
}

// Cut is what the end of the execution makes of a step: of one that has not begun, pending.
func (v Verdict) Cut(pending string) Verdict {
	switch v.Status {
	case orchestrator.StepPending:
		v.Status = pending
	case orchestrator.StepRunning:
		v.Status, v.Gathers = orchestrator.StepCancelled, false
	}
	return v
}
