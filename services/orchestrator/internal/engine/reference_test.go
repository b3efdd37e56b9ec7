package engine_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// plan is a workflow with everything that its runners will ever answer.
type plan struct {
	steps     []planned
	strict    bool
	outputs   []reference // nil: not given
	timeoutMs int64
}

type planned struct {
	deps    []int
	rule    string
	onError string
	retries int
	delayMs int64
	inputs  []reference
	script  []answer // of attempt 1, 2, ...
}

// answer is how an attempt ends.
type answer int

const (
	succeeds answer = iota
	failsForNow
	failsForGood
	staysSilent // begins, and is never heard of again
)

// reference is one member of a step's inputs, or of the outputs.
type reference struct {
	step int
	part part
}

type part int

const (
	wholeOutput part = iota
	outputValue
	outputText
	missingPath
	stepStatus
	errorCode
	executionInput
	unknownInput
)

func (p plan) key(i int) string { return fmt.Sprintf("s%d", i) }

func (r reference) text(p plan) string {
	key := p.key(r.step)
	switch r.part {
	case wholeOutput:
		return "{{" + key + ".output}}"
	case outputValue:
		return "{{" + key + ".output.v}}"
	case outputText:
		return "v is {{ " + key + ".output.v }}."
	case missingPath:
		return "{{" + key + ".output.w[2]}}"
	case stepStatus:
		return "{{" + key + ".status}}"
	case errorCode:
		return "{{" + key + ".error.code}}"
	case executionInput:
		return "{{inputs.n}}"
	default:
		return "{{inputs.m}}"
	}
}

func (p plan) template(refs []reference) json.RawMessage {
	members := map[string]string{}
	for n, r := range refs {
		members[fmt.Sprintf("f%d", n)] = r.text(p)
	}
	raw, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return raw
}

func (p plan) definition() catalog.Definition {
	steps := make([]catalog.Step, len(p.steps))
	for i, s := range p.steps {
		var deps []string
		for _, d := range s.deps {
			deps = append(deps, p.key(d))
		}
		steps[i] = step(p.key(i), deps, rule(s.rule), retry(s.retries, s.delayMs), onError(s.onError), inputs(string(p.template(s.inputs))))
	}
	d := workflow(steps...)
	d.StrictTemplates, d.TimeoutMs = p.strict, p.timeoutMs
	if p.outputs != nil {
		d.Outputs = p.template(p.outputs)
	}
	return d
}

// history is what has happened to a step so far.
type history struct {
	heard   int // attempts whose end has come, in time
	retries int // attempts that were begun again
}

// verdict is what the semantics say about a step.
type verdict struct {
	status   string
	attempts int
	output   any
	code     string // of the last failure, unless it completed
}

func (v verdict) settled() bool { return terminalStep(v.status) }

// world is the whole workflow under one history, worked out afresh by recursion over the
// graph, from the semantics as the product describes them.
type world struct {
	plan    plan
	happens []history
	known   map[int]verdict
}

func worldOf(p plan, h []history) *world {
	return &world{plan: p, happens: h, known: map[int]verdict{}}
}

func (w *world) of(i int) verdict {
	v, ok := w.known[i]
	if !ok {
		v = w.judge(i)
		w.known[i] = v
	}
	return v
}

// fatal tells whether the failure of a step ends the execution.
func (w *world) fatal(i int) bool {
	return w.of(i).status == orchestrator.StepFailed && w.plan.steps[i].onError != catalog.OnErrorContinue
}

func (w *world) judge(i int) verdict {
	s := w.plan.steps[i]
	for _, d := range s.deps {
		if !w.of(d).settled() || w.fatal(d) {
			return verdict{status: orchestrator.StepPending}
		}
	}
	if !w.ruleHolds(s) {
		return verdict{status: orchestrator.StepSkipped}
	}
	input, unresolved := w.resolve(s.inputs)
	if unresolved && w.plan.strict {
		return verdict{status: orchestrator.StepFailed, attempts: 1, code: runner.CodeTemplate}
	}
	code := ""
	for n := range w.happens[i].heard {
		again := false
		switch s.script[n] {
		case succeeds:
			return verdict{status: orchestrator.StepCompleted, attempts: n + 1, output: answerTo(i, input)}
		case failsForNow:
			code, again = retryable.Code, true
		case staysSilent:
			code, again = runner.CodeStepTimeout, true
		case failsForGood:
			code = final.Code
		}
		if !again || s.onError != catalog.OnErrorRetry || n >= s.retries {
			return verdict{status: orchestrator.StepFailed, attempts: n + 1, code: code}
		}
	}
	return verdict{status: orchestrator.StepRunning, attempts: 1 + w.happens[i].retries, code: code}
}

func (w *world) ruleHolds(s planned) bool {
	if len(s.deps) == 0 {
		return true
	}
	var completed, failed int
	for _, d := range s.deps {
		switch w.of(d).status {
		case orchestrator.StepCompleted:
			completed++
		case orchestrator.StepFailed:
			failed++
		}
	}
	return map[string]bool{
		catalog.TriggerNoneFailed: completed+failed >= 1, // what failed did so under CONTINUE
		catalog.TriggerAllSuccess: completed == len(s.deps),
		catalog.TriggerOneSuccess: completed >= 1,
		catalog.TriggerAllDone:    true,
	}[s.rule]
}

// resolve gives the members as decoded JSON, and whether one stays as it is written.
func (w *world) resolve(refs []reference) (map[string]any, bool) {
	members, unresolved := map[string]any{}, false
	for n, r := range refs {
		v, ok := w.value(r)
		if !ok {
			v, unresolved = r.text(w.plan), true
		}
		members[fmt.Sprintf("f%d", n)] = v
	}
	return members, unresolved
}

func (w *world) value(r reference) (any, bool) {
	of := func() verdict { return w.of(r.step) }
	switch r.part {
	case wholeOutput:
		return of().output, true
	case outputValue, outputText:
		output, ok := of().output.(map[string]any)
		if !ok {
			return nil, false
		}
		if r.part == outputText {
			return fmt.Sprintf("v is %v.", output["v"]), true
		}
		return output["v"], true
	case stepStatus:
		return of().status, true
	case errorCode:
		return of().code, of().status == orchestrator.StepFailed
	case executionInput:
		return float64(20), true
	default:
		return nil, false
	}
}

// answerTo is the output of a step that completes: it depends on all of its input.
func answerTo(i int, input map[string]any) map[string]any {
	raw, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	h := fnv.New32a()
	h.Write(raw)
	return map[string]any{"v": float64(h.Sum32() % 1000), "of": float64(i)}
}

// ends gives the status of an execution that nobody interferes with, its outputs and the code
// of its error.
func (w *world) ends() (status string, outputs any, code string) {
	settled := true
	byKey := map[string]any{}
	for i := range w.plan.steps {
		v := w.of(i)
		if w.fatal(i) {
			return orchestrator.ExecutionFailed, nil, v.code
		}
		settled = settled && v.settled()
		if v.status == orchestrator.StepCompleted {
			byKey[w.plan.key(i)] = v.output
		}
	}
	if !settled {
		return orchestrator.ExecutionRunning, nil, ""
	}
	if w.plan.outputs == nil {
		return orchestrator.ExecutionCompleted, byKey, ""
	}
	mapped, unresolved := w.resolve(w.plan.outputs)
	if unresolved && w.plan.strict {
		return orchestrator.ExecutionFailed, nil, runner.CodeTemplate
	}
	return orchestrator.ExecutionCompleted, mapped, ""
}

// String shows a plan the way one reads it after a failed check.
func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "strict %v, outputs %s, timeoutMs %d\n", p.strict, p.template(p.outputs), p.timeoutMs)
	for i, s := range p.steps {
		fmt.Fprintf(&b, "  %s after %v %s, %s x%d, inputs %s, answers %v\n", p.key(i), s.deps, s.rule, s.onError, s.retries, p.template(s.inputs), s.script)
	}
	return b.String()
}
