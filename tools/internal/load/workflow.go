package load

import (
	"encoding/json"
	"fmt"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/promises"
)

// object is a JSON object.
type object = map[string]any

// Workflow is what a load executes. Its inputs are n, the number of the execution, and fail, whether it is meant to.
type Workflow struct {
	name      string
	lines     []line
	outputs   object
	gives     func(n int) string // what the outputs must be
	timeoutMs int64
	mayFail   bool // some executions are meant to fail
}

// line is a step with what must become of it.
type line struct {
	key    string
	agent  *agent // nil: what it does stands in more
	after  []string
	inputs object
	more   object // of the step
	calls  bool
	ends   ends
}

// ends are the statuses that a step must end with when the execution completes, and when it is meant to fail.
type ends [2]string

var (
	always  = ends{orchestrator.StepCompleted, orchestrator.StepCompleted}
	passed  = ends{orchestrator.StepFailed, orchestrator.StepFailed}
	failing = ends{orchestrator.StepCompleted, orchestrator.StepFailed}
	behind  = ends{orchestrator.StepCompleted, orchestrator.StepSkipped}
)

type agent struct {
	kind   string
	config object
}

func code(source string) *agent {
	return &agent{"CODE", object{"runtime": "javascript", "source": source}}
}

func data(config object) *agent { return &agent{"DATA", config} }

// call calls the book, which takes so long to answer.
func call(book string, takes time.Duration) *agent {
	return &agent{"API", object{
		"method": "POST", "url": fmt.Sprintf("%s/{{execution}}/{{step}}?delayMs=%d", book, takes.Milliseconds()), "body": "{{n}}", "timeoutMs": 300_000,
	}}
}

// caller gives the inputs of a step that calls.
func caller(key, n string) object {
	return object{"execution": "{{metadata.executionId}}", "step": key, "n": n}
}

var retry = object{"onError": "RETRY", "retryDelayMs": 50}

// Diamond fans out from one step to calls, code and data, and joins them again. One of its twelve steps needs a second
// attempt, one fails and is passed over, and one fails for good when the execution is meant to. A step type that is to
// be under load has a line here.
func Diamond(book string) Workflow {
	quick, slower := call(book, 20*time.Millisecond), call(book, 250*time.Millisecond)
	sum := object{"operation": "aggregate", "aggregations": object{"sum": object{"function": "sum", "field": "v"}}}
	keep := object{"operation": "filter", "conditions": []object{{"field": ".", "operator": "exists", "value": true}}}
	return Workflow{
		name: "diamond", timeoutMs: 10 * 60_000, mayFail: true,
		lines: []line{
			{key: "begin", agent: code(`function handler(input) { return {n: input.n, rows: [1, 2, 3].map(k => ({k, v: input.n * k}))} }`), inputs: object{"n": "{{inputs.n}}"}, ends: always},
			{key: "call_a", agent: quick, after: []string{"begin"}, inputs: caller("call_a", "{{begin.output.n}}"), more: retry, calls: true, ends: always},
			{key: "call_b", agent: quick, after: []string{"begin"}, inputs: caller("call_b", "{{begin.output.n}}"), more: retry, calls: true, ends: always},
			{key: "call_c", agent: slower, after: []string{"begin"}, inputs: caller("call_c", "{{begin.output.n}}"), more: retry, calls: true, ends: always},
			{key: "sum", agent: data(sum), after: []string{"begin"}, inputs: object{"data": "{{begin.output.rows}}"}, ends: always},
			{key: "double", agent: code(`function handler(input) { return input.n * 2 }`), after: []string{"begin"}, inputs: object{"n": "{{begin.output.n}}"}, ends: always},
			{
				key: "second", agent: code(`function handler(input, context) { if (context.attempt < 2) throw new Error("not yet"); return input.n + 1 }`),
				after: []string{"double"}, inputs: object{"n": "{{double.output}}"}, more: object{"onError": "RETRY", "retryDelayMs": 100}, ends: always,
			},
			{key: "boom", agent: data(sum), after: []string{"sum"}, inputs: object{"data": "no rows"}, more: object{"onError": "CONTINUE"}, ends: passed},
			{
				key: "join", agent: code(`function handler(input) {
					if (input.fail) { const e = new Error("meant to fail"); e.retryable = false; throw e }
					return [input.a, input.b, input.c, input.sum, input.second]
				}`),
				after: []string{"call_a", "call_b", "call_c", "second", "boom"},
				inputs: object{
					"fail": "{{inputs.fail}}", "a": "{{call_a.output.body}}", "b": "{{call_b.output.body}}", "c": "{{call_c.output.body}}",
					"sum": "{{sum.output.data.sum}}", "second": "{{second.output}}",
				},
				ends: failing,
			},
			{key: "call_d", agent: quick, after: []string{"join"}, inputs: caller("call_d", "{{inputs.n}}"), more: retry, calls: true, ends: behind},
			{key: "keep", agent: data(keep), after: []string{"call_d"}, inputs: object{"data": "{{join.output}}"}, ends: behind},
			{key: "end", agent: data(keep), after: []string{"keep"}, inputs: object{"data": "{{keep.output.data}}"}, ends: behind},
		},
		outputs: object{"all": "{{end.output.data}}", "d": "{{call_d.output.body}}"},
		gives:   func(n int) string { return fmt.Sprintf(`{"all":[%d,%d,%d,%d,%d],"d":%d}`, n, n, n, 6*n, 2*n+1, n) },
	}
}

// Calls makes so many calls side by side, each of which takes so long.
func Calls(book string, many int, takes time.Duration) Workflow {
	w := Workflow{name: "calls", timeoutMs: 10 * 60_000}
	for i := range many {
		key := fmt.Sprintf("call_%d", i)
		w.lines = append(w.lines, line{key: key, agent: call(book, takes), inputs: caller(key, "{{inputs.n}}"), calls: true, ends: always})
	}
	return w
}

// body is what the API makes the workflow of. agents are the ids of its agents, in the order of its lines.
func (w Workflow) body(agents []string) object {
	steps := make([]object, len(w.lines))
	for i, l := range w.lines {
		s := object{"stepKey": l.key, "dependsOn": l.after}
		if l.after == nil {
			s["dependsOn"] = []string{}
		}
		if l.inputs != nil {
			s["inputs"] = l.inputs
		}
		if l.agent != nil {
			s["stepType"], s["agentId"] = "AGENT", agents[i]
		}
		for name, value := range l.more {
			s[name] = value
		}
		steps[i] = s
	}
	body := object{"name": w.name, "status": "ACTIVE", "timeoutMs": w.timeoutMs, "steps": steps}
	if w.outputs != nil {
		body["outputs"] = w.outputs
	}
	return body
}

// fails tells whether the n-th execution is meant to fail.
func (w Workflow) fails(n int) bool { return w.mayFail && n%10 == 9 }

func (w Workflow) inputs(n int) (json.RawMessage, error) {
	return json.Marshal(object{"n": n, "fail": w.fails(n)})
}

// meant is the n-th execution as it must become.
func (w Workflow) meant(n int) promises.Execution {
	x := promises.Execution{Status: orchestrator.ExecutionCompleted, TimeoutMs: w.timeoutMs}
	which := 0
	switch {
	case w.fails(n):
		x.Status, which = orchestrator.ExecutionFailed, 1
	case w.gives != nil:
		x.Outputs = w.gives(n)
	}
	for _, l := range w.lines {
		x.Plan = append(x.Plan, promises.Step{Key: l.key, DependsOn: l.after, Calls: l.calls, Status: l.ends[which]})
	}
	return x
}

func (w Workflow) String() string { return fmt.Sprintf("%s of %d steps", w.name, len(w.lines)) }
