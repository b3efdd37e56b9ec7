package load

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"turbocat.io/contracts/catalog"
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
	rerun     string // some executions are meant to fail, and then run again from this step on
	approval  string // the step that waits for one
	anyEnd    bool   // its executions, and their steps, may end in any way
}

// line is a step with what must become of it.
type line struct {
	key      string
	kind     string // of step; "" is an AGENT
	agent    *agent // nil for none
	branches []branch
	after    []string
	inputs   object
	config   object
	more     object // of the step
	calls    map[string]int
	waits    time.Duration
	items    int
	tries    int // attempts that it takes; 0 is one, none when it may be any
	ends     func(n int, fails bool) string
}

// branch is one of a PARALLEL.
type branch struct {
	key    string
	agent  *agent
	inputs object
}

// What a step must end with.
func completed(int, bool) string { return orchestrator.StepCompleted }

func passedOver(int, bool) string { return orchestrator.StepFailed }

func failing(_ int, fails bool) string { return either(!fails, orchestrator.StepFailed) }

func behind(_ int, fails bool) string { return either(!fails, orchestrator.StepSkipped) }

func taken(rest int) func(int, bool) string {
	return func(n int, _ bool) string { return either(n%2 == rest, orchestrator.StepSkipped) }
}

func either(completes bool, otherwise string) string {
	if completes {
		return orchestrator.StepCompleted
	}
	return otherwise
}

// agent is what a step runs: of a runner, or the executions of another workflow.
type agent struct {
	kind   string
	config object
	child  *Workflow // of a WORKFLOW agent
}

func code(source string) *agent {
	return &agent{kind: catalog.AgentCode, config: object{"runtime": "javascript", "source": source}}
}

func data(config object) *agent { return &agent{kind: catalog.AgentData, config: config} }

// call calls the book, which takes so long to answer, and refuses as many attempts as the step's input says.
func call(book string, takes time.Duration) *agent {
	return &agent{kind: catalog.AgentAPI, config: object{
		"method": "POST", "url": fmt.Sprintf("%s/{{execution}}/{{step}}?delayMs=%d&refuse={{refuse}}", book, takes.Milliseconds()), "body": "{{n}}", "timeoutMs": 300_000,
	}}
}

// caller gives the inputs of a step that calls under a name.
func caller(name, n string) object {
	return object{"execution": "{{metadata.executionId}}", "step": name, "n": n, "refuse": 0}
}

// refused is the same of a step whose first attempt is refused.
func refused(name, n string) object {
	inputs := caller(name, n)
	inputs["refuse"] = 1
	return inputs
}

// once names the call of a step that makes one.
func once(key string) map[string]int { return map[string]int{key: 0} }

var retry = object{"onError": "RETRY", "retryDelayMs": 50}

const (
	wait  = 2 * time.Second
	items = 5
)

// Diamond fans out from one step to steps of every type, and joins them again: calls, code, data, a WAIT for a time and one
// for an approval, a CONDITION with a branch that is not taken, a LOOP, a PARALLEL and a child. Some of them, and an item, need a
// second attempt, one fails and is passed over, and one fails for good when the execution is meant to.
// A step type that is to be under load has a line here.
func Diamond(book string) Workflow {
	quick, slower := call(book, 20*time.Millisecond), call(book, 250*time.Millisecond)
	sum := object{"operation": "aggregate", "aggregations": object{"sum": object{"function": "sum", "field": "v"}}}
	keep := object{"operation": "filter", "conditions": []object{{"field": ".", "operator": "exists", "value": true}}}
	double := code(`function handler(input) { return input.n * 2 }`)
	first := []string{"begin"}
	item := caller("each/{{index}}", "{{item.v}}")
	item["refuse"] = "{{item.refuse}}"
	calls := map[string]int{}
	for i := range items {
		calls[fmt.Sprintf("each/%d", i)] = i + 1
	}
	return Workflow{
		name: "diamond", timeoutMs: 10 * 60_000, rerun: "join", approval: "agree",
		lines: []line{
			{key: "begin", agent: code(`function handler(input) { console.log("begins", input.n); return {n: input.n, rows: [1, 2, 3, 4, 5].map(k => ({k, v: input.n * k, refuse: k == 3 ? 1 : 0}))} }`), inputs: object{"n": "{{inputs.n}}"}, ends: completed},
			{key: "call_a", agent: quick, after: first, inputs: caller("call_a", "{{begin.output.n}}"), more: retry, calls: once("call_a"), ends: completed},
			{key: "call_b", agent: quick, after: first, inputs: refused("call_b", "{{begin.output.n}}"), more: retry, calls: once("call_b"), tries: 2, ends: completed},
			{key: "call_c", agent: slower, after: first, inputs: caller("call_c", "{{begin.output.n}}"), more: retry, calls: once("call_c"), ends: completed},
			{key: "sum", agent: data(sum), after: first, inputs: object{"data": "{{begin.output.rows}}"}, ends: completed},
			{
				key: "second", agent: code(`function handler(input, context) { if (context.attempt < 2) throw new Error("not yet"); return 2 * input.n + 1 }`),
				after: first, inputs: object{"n": "{{begin.output.n}}"}, more: object{"onError": "RETRY", "retryDelayMs": 100}, tries: 2, ends: completed,
			},
			{key: "boom", agent: data(sum), after: []string{"sum"}, inputs: object{"data": "no rows"}, more: object{"onError": "CONTINUE"}, ends: passedOver},
			{key: "pause", kind: catalog.StepWait, after: first, config: object{"durationMs": wait.Milliseconds()}, waits: wait, ends: completed},
			{key: "agree", kind: catalog.StepWait, after: first, config: object{"approval": true}, ends: completed},
			{key: "check", kind: catalog.StepCondition, after: first, config: object{"expression": "begin.output.n % 2 == 0", "then": []string{"even"}, "else": []string{"odd"}}, ends: completed},
			{key: "even", agent: quick, after: []string{"check"}, inputs: caller("even", "{{inputs.n}}"), more: retry, calls: once("even"), ends: taken(0)},
			{key: "odd", agent: quick, after: []string{"check"}, inputs: caller("odd", "{{inputs.n}}"), more: retry, calls: once("odd"), ends: taken(1)},
			{
				key: "each", kind: catalog.StepLoop, agent: quick, after: first, inputs: item, config: object{"forEach": "{{begin.output.rows}}", "concurrency": 2},
				more: retry, calls: calls, items: items, ends: completed,
			},
			{
				key: "both", kind: catalog.StepParallel, after: first, more: retry, calls: map[string]int{"both/call": 1}, items: 2, ends: completed,
				branches: []branch{{"call", quick, caller("both/call", "{{inputs.n}}")}, {"double", double, object{"n": "{{inputs.n}}"}}},
			},
			{key: "kid", agent: &agent{kind: catalog.AgentWorkflow, child: child(quick, double)}, after: first, inputs: object{"n": "{{begin.output.n}}"}, ends: completed},
			{
				key: "join", agent: code(`function handler(input) {
					if (input.fail) { const e = new Error("meant to fail"); e.retryable = false; throw e }
					return [input.a, input.b, input.c, input.sum, input.second, input.agreed, input.both.call.body + input.both.double, input.kid].concat(input.each.map(e => e.body))
				}`),
				after: []string{"call_a", "call_b", "call_c", "second", "boom", "pause", "agree", "even", "odd", "each", "both", "kid"},
				inputs: object{
					"fail": "{{inputs.fail}}", "a": "{{call_a.output.body}}", "b": "{{call_b.output.body}}", "c": "{{call_c.output.body}}", "sum": "{{sum.output.data.sum}}",
					"second": "{{second.output}}", "agreed": "{{agree.output.payload}}", "both": "{{both.output}}", "kid": "{{kid.output.m}}", "each": "{{each.output}}",
				},
				ends: failing,
			},
			{key: "call_d", agent: quick, after: []string{"join"}, inputs: caller("call_d", "{{inputs.n}}"), more: retry, calls: once("call_d"), ends: behind},
			{key: "end", agent: data(keep), after: []string{"call_d"}, inputs: object{"data": "{{join.output}}"}, ends: behind},
		},
		outputs: object{"all": "{{end.output.data}}", "d": "{{call_d.output.body}}"},
		gives: func(n int) string {
			return fmt.Sprintf(`{"all":[%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d],"d":%d}`, n, n, n, 15*n, 2*n+1, n, 3*n, 2*n, n, 2*n, 3*n, 4*n, 5*n, n)
		},
	}
}

// child is the workflow whose executions are steps of a Diamond.
func child(quick, double *agent) *Workflow {
	return &Workflow{
		name: "kid", timeoutMs: 10 * 60_000,
		lines: []line{
			{key: "ask", agent: quick, inputs: caller("ask", "{{inputs.n}}"), more: retry, calls: once("ask"), ends: completed},
			{key: "double", agent: double, after: []string{"ask"}, inputs: object{"n": "{{ask.output.body}}"}, ends: completed},
		},
		outputs: object{"m": "{{double.output}}"},
		gives:   func(n int) string { return fmt.Sprintf(`{"m":%d}`, 2*n) },
	}
}

// Calls makes so many calls side by side, each of which takes so long.
func Calls(book string, many int, takes time.Duration) Workflow {
	w := Workflow{name: "calls", timeoutMs: 10 * 60_000}
	for i := range many {
		key := fmt.Sprintf("call_%d", i)
		w.lines = append(w.lines, line{key: key, agent: call(book, takes), inputs: caller(key, "{{inputs.n}}"), calls: once(key), ends: completed})
	}
	return w
}

// Quick makes one call, which takes a moment, and is done, if it is not cancelled before.
func Quick(book string, takes time.Duration) Workflow {
	return Workflow{name: "quick", timeoutMs: 10 * 60_000, anyEnd: true, lines: []line{
		{key: "call", agent: call(book, takes), inputs: caller("call", "{{inputs.n}}"), more: retry, calls: once("call")},
	}}
}

// Sleepers wait so long, and as long for another attempt, and then call.
func Sleepers(book string, nap time.Duration) Workflow {
	quick := call(book, 5*time.Millisecond)
	return Workflow{name: "sleepers", timeoutMs: 10 * 60_000, lines: []line{
		{key: "nap", kind: catalog.StepWait, config: object{"durationMs": nap.Milliseconds()}, waits: nap, ends: completed},
		{key: "after_nap", agent: quick, after: []string{"nap"}, inputs: caller("after_nap", "{{inputs.n}}"), more: retry, calls: once("after_nap"), ends: completed},
		{
			key: "again", agent: quick, inputs: refused("again", "{{inputs.n}}"), more: object{"onError": "RETRY", "retryDelayMs": nap.Milliseconds()},
			calls: once("again"), tries: 2, ends: completed,
		},
	}}
}

// AnyEnd is the workflow, whose executions may end in any way.
func (w Workflow) AnyEnd() Workflow {
	w.anyEnd = true
	return w
}

// Greedy takes all memory that its sandbox has.
func Greedy() Workflow {
	return Workflow{name: "greedy", timeoutMs: 10 * 60_000, anyEnd: true, lines: []line{
		{key: "greedy", agent: code(`function handler() { const all = []; for (;;) all.push("x".repeat(1 << 20) + all.length) }`)},
	}}
}

// Hanging makes so many calls that are not answered.
func Hanging(book string, many int) Workflow {
	w := Calls(book, many, 10*time.Minute).AnyEnd()
	w.name = "hanging"
	return w
}

// Crowded is how many steps each LOOP of a Crowd has ready.
const Crowded = 1000

// Crowd has so many LOOPs, each of whose calls are all ready at once and take so long.
func Crowd(book string, loops int, takes time.Duration) Workflow {
	w := Workflow{name: "crowd", timeoutMs: 60 * 60_000, anyEnd: true}
	slow := call(book, takes)
	for n := range loops {
		key := fmt.Sprintf("each_%d", n)
		calls := map[string]int{}
		for i := range Crowded {
			calls[fmt.Sprintf("%s/%d", key, i)] = i + 1
		}
		w.lines = append(w.lines, line{
			key: key, kind: catalog.StepLoop, agent: slow, inputs: caller(key+"/{{index}}", "{{index}}"), more: retry, calls: calls,
			config: object{"forEach": make([]int, Crowded), "concurrency": Crowded},
		})
	}
	return w
}

// Endless does not end before it is cancelled: calls that are not answered, of the first one an endless loop of code, a WAIT, a step that is refused again and again, a LOOP and a PARALLEL of calls, and a child that does the like.
func Endless(book string) Workflow {
	hang, quick := call(book, 10*time.Minute), call(book, 100*time.Millisecond)
	const many = 1000
	calls := map[string]int{}
	for i := range many {
		calls[fmt.Sprintf("each/%d", i)] = i + 1
	}
	each := line{
		key: "each", kind: catalog.StepLoop, agent: quick, inputs: caller("each/{{index}}", "{{index}}"), more: retry, calls: calls,
		config: object{"while": "true", "maxIterations": many},
	}
	kid := &Workflow{name: "endless kid", timeoutMs: 10 * 60_000, anyEnd: true, lines: []line{each, {key: "wait", kind: catalog.StepWait, config: object{"durationMs": 3_600_000}}}}
	w := Workflow{name: "endless", timeoutMs: 10 * 60_000, anyEnd: true, lines: []line{
		{key: "backoff", agent: quick, inputs: object{"execution": "{{metadata.executionId}}", "step": "backoff", "n": 1, "refuse": 100}, more: object{"onError": "RETRY", "retryDelayMs": 500, "retryCount": 20}, calls: once("backoff")},
		{key: "busy", agent: &agent{kind: catalog.AgentCode, config: object{"runtime": "javascript", "source": `function handler(input) { while (input.n == 1) {} return 0 }`, "timeoutMs": 600_000}}, inputs: object{"n": "{{inputs.n}}"}},
		{key: "wait", kind: catalog.StepWait, config: object{"durationMs": 3_600_000}},
		each,
		{
			key: "both", kind: catalog.StepParallel, more: retry, calls: map[string]int{"both/a": 1, "both/b": 2},
			branches: []branch{{"a", hang, caller("both/a", "1")}, {"b", hang, caller("both/b", "1")}},
		},
		{key: "kid", agent: &agent{kind: catalog.AgentWorkflow, child: kid}},
	}}
	return w
}

// body is what the API makes the workflow of. ids are those of its agents.
func (w Workflow) body(ids map[*agent]string) object {
	steps := make([]object, len(w.lines))
	for i, l := range w.lines {
		s := object{"stepKey": l.key, "stepType": catalog.StepAgent, "dependsOn": l.after}
		if l.kind != "" {
			s["stepType"] = l.kind
		}
		if l.after == nil {
			s["dependsOn"] = []string{}
		}
		if l.inputs != nil {
			s["inputs"] = l.inputs
		}
		if l.agent != nil {
			s["agentId"] = ids[l.agent]
		}
		if l.config != nil {
			s["config"] = l.config
		}
		if l.branches != nil {
			var branches []object
			for _, b := range l.branches {
				branches = append(branches, object{"key": b.key, "agentId": ids[b.agent], "inputs": b.inputs})
			}
			s["config"] = object{"branches": branches}
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

// agents are all that its steps run.
func (w Workflow) agents() []*agent {
	var all []*agent
	add := func(a *agent) {
		if a != nil && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, l := range w.lines {
		add(l.agent)
		for _, b := range l.branches {
			add(b.agent)
		}
	}
	return all
}

// child is the workflow whose executions are those of a step; nil when it is run by a runner.
func (w Workflow) child(key string) *Workflow {
	for _, l := range w.lines {
		if l.key == key && l.agent != nil {
			return l.agent.child
		}
	}
	return nil
}

// fails tells whether the n-th execution is meant to fail.
func (w Workflow) fails(n int) bool { return w.rerun != "" && n%10 == 9 }

func (w Workflow) inputs(n int, fail bool) (json.RawMessage, error) {
	return json.Marshal(object{"n": n, "fail": fail})
}

// meant is the n-th execution as it must become.
func (w Workflow) meant(n int, fails bool) promises.Execution {
	x := promises.Execution{Status: orchestrator.ExecutionCompleted, TimeoutMs: w.timeoutMs}
	switch {
	case w.anyEnd:
		x.Status = ""
	case fails:
		x.Status = orchestrator.ExecutionFailed
	case w.gives != nil:
		x.Outputs = w.gives(n)
	}
	for _, l := range w.lines {
		s := promises.Step{Key: l.key, DependsOn: l.after, Calls: l.calls, Waits: l.waits, Items: l.items, Child: w.child(l.key) != nil, Attempts: max(l.tries, 1)}
		if !w.anyEnd {
			s.Status = l.ends(n, fails)
		}
		x.Plan = append(x.Plan, s)
	}
	return x
}

// meantAgain is the n-th execution, which has failed, as it must become when it runs again.
func (w Workflow) meantAgain(n int, failed string) promises.Execution {
	x := w.meant(n, false)
	x.RerunOf = failed
	for i, s := range w.meant(n, true).Plan {
		x.Plan[i].Reused = s.Status == orchestrator.StepCompleted
	}
	return x
}

func (w Workflow) String() string { return fmt.Sprintf("%s of %d steps", w.name, len(w.lines)) }
