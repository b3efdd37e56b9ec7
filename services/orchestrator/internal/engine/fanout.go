package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/template"
)

// loop is a compiled catalog.LoopConfig.
type loop struct {
	array       *template.Template // of forEach; nil when it is an expression, or there is none
	expression  *expr.Expression   // of forEach; nil when there is none
	while       *expr.Expression   // nil for forEach
	concurrency int
	most        int // iterations
	failures    int
	percent     float64
}

func compileLoop(raw json.RawMessage) (*loop, error) {
	var c catalog.LoopConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	l := &loop{concurrency: max(c.Concurrency, 1), most: c.MaxIterations, failures: c.MaxFailures, percent: c.MaxFailurePercent}
	if l.most == 0 {
		l.most = catalog.DefaultIterations
	}
	var err error
	if c.While != "" {
		l.concurrency = 1
		l.while, err = expr.Compile(c.While)
		return l, wrap("config.while", err)
	}
	var text string
	if json.Unmarshal(c.ForEach, &text) == nil && !strings.Contains(text, "{{") {
		l.expression, err = expr.Compile(text)
		return l, wrap("config.forEach", err)
	}
	l.array, err = parseTemplate("config.forEach", c.ForEach)
	return l, err
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// parallel is a compiled catalog.ParallelConfig.
type parallel struct {
	branches []parallelBranch
	join     int // how many must complete
}

type parallelBranch struct {
	key  string
	work Work
}

func compileParallel(raw json.RawMessage, known agents) (*parallel, error) {
	var c catalog.ParallelConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	p := &parallel{join: len(c.Branches)}
	for i, b := range c.Branches {
		work, err := compileWork(&b.AgentID, b.Inputs, known)
		if err != nil {
			return nil, fmt.Errorf("config.branches[%d]: %w", i, err)
		}
		p.branches = append(p.branches, parallelBranch{b.Key, work})
	}
	switch join := strings.Trim(string(c.Join), `"`); join {
	case "", "null", catalog.JoinAll:
	case catalog.JoinAny:
		p.join = min(1, len(p.branches))
	default:
		n, err := strconv.Atoi(join)
		if err != nil || n < 1 || n > len(p.branches) {
			return nil, fmt.Errorf("config.join is %s", c.Join)
		}
		p.join = n
	}
	return p, nil
}

// itemsOf gives the items of a LOOP with forEach. They depend on the execution's inputs and on the results of the
// step's ancestors alone, so they are the same whenever they are asked for.
func (x *Execution) itemsOf(i int) ([]json.RawMessage, *runner.StepError) {
	s, l := &x.Steps[i], x.Definition.Steps[i].loop
	if s.items != nil {
		return s.items, nil
	}
	var raw json.RawMessage
	if l.expression != nil {
		value, err := l.expression.Evaluate(x.lookup)
		if err != nil {
			return nil, expressionError("forEach", err)
		}
		if raw = value; len(raw) > maxItems {
			return nil, itemsTooLarge()
		}
	} else {
		rendered, unresolved, err := l.array.RenderWithin(maxItems, x.lookup)
		switch {
		case err != nil:
			return nil, itemsTooLarge()
		case len(unresolved) > 0:
			return nil, &runner.StepError{Code: runner.CodeTemplate, Message: "in forEach " + unresolvedMessage(unresolved)}
		}
		raw = rendered
	}
	items := []json.RawMessage{}
	if err := json.Unmarshal(raw, &items); err != nil || items == nil {
		return nil, &runner.StepError{Code: runner.CodeInvalidInput, Message: "forEach gives no array; name one, or write an expression that gives one"}
	}
	if len(items) > l.most {
		return nil, &runner.StepError{Code: runner.CodeLoopLimit, Message: fmt.Sprintf("forEach has %d items, more than maxIterations of %d", len(items), l.most)}
	}
	s.items = items
	return items, nil
}

func itemsTooLarge() *runner.StepError {
	return &runner.StepError{Code: runner.CodeInputLimit, Message: fmt.Sprintf("the items are larger than %d bytes; loop over less, such as their ids", maxItems)}
}

// tolerated is how many items of a LOOP may fail.
func (x *Execution) tolerated(i int) int {
	l := x.Definition.Steps[i].loop
	if l.while != nil {
		return l.failures
	}
	items, _ := x.itemsOf(i) // one of them has begun, so they are there
	return max(l.failures, int(float64(len(items))*l.percent/100))
}

// more tells whether another item of a fan-out has yet to begin.
func (x *Execution) more(i int) (bool, *runner.StepError) {
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	switch {
	case def.parallel != nil:
		return s.Begun < len(def.parallel.branches) && s.Completed < def.parallel.join, nil
	case def.loop.while == nil:
		items, failure := x.itemsOf(i)
		return s.Begun < len(items), failure
	case len(s.Items) > 0:
		return true, nil // it is known when this one has ended
	}
	holds, err := def.loop.while.Holds(x.lookupAt(Place{i, s.Begun + 1}))
	switch {
	case err != nil:
		return false, expressionError("while", err)
	case holds && s.Begun >= def.loop.most:
		return false, &runner.StepError{Code: runner.CodeLoopLimit, Message: fmt.Sprintf("while still holds after maxIterations of %d", def.loop.most)}
	}
	return holds, nil
}

// fill begins items of a fan-out while there is room, and has their outputs gathered once all have ended.
func (a *applier) fill(i int) {
	x, s, def := a.x, &a.x.Steps[i], &a.x.Definition.Steps[i]
	room := catalog.MaxBranches
	if def.loop != nil {
		room = def.loop.concurrency
	}
	for s.Status == orchestrator.StepRunning {
		more, failure := x.more(i)
		switch {
		case failure != nil:
			a.stopItems(i)
			a.fail(i, failure)
			return
		case !more && len(s.Items) == 0:
			if !slices.Contains(a.out.Gather, i) { // two of its items may have ended at once
				a.out.Gather = append(a.out.Gather, i)
			}
			return
		case !more || len(s.Items) >= room || x.Status == orchestrator.ExecutionPaused:
			return
		}
		s.Begun++
		s.Items = append(s.Items, Item{Iteration: s.Begun})
		a.attempt(Place{i, s.Begun})
	}
}

// itemEnded takes the result of an item in, and decides whether the step goes on.
func (a *applier) itemEnded(p Place, status string) {
	x, s, def := a.x, &a.x.Steps[p.Step], &a.x.Definition.Steps[p.Step]
	t := x.Task(p)
	t.Status, t.Token, t.RetryAt, t.Backstop, t.CompletedAt = status, "", 0, 0, x.LastInput
	ended := *t
	a.forget(p)
	if status == orchestrator.StepCompleted {
		s.Completed++
		if def.Remembers() {
			s.Last = ended.Output
		}
		if def.parallel != nil && s.Completed >= def.parallel.join {
			a.stopItems(p.Step)
		}
	} else {
		s.Failed++
		name, tolerated := "item "+strconv.Itoa(p.Iteration-1), 0
		if def.loop != nil {
			tolerated = x.tolerated(p.Step)
		} else {
			branches := def.parallel.branches
			name, tolerated = "branch "+branches[p.Iteration-1].key, len(branches)-def.parallel.join
		}
		if s.Failed > tolerated {
			a.stopItems(p.Step)
			a.fail(p.Step, ofItem(name, ended.Error))
			return
		}
		a.out.Warnings = append(a.out.Warnings, Warning{p, ended.Attempt, name + " failed and is tolerated: " + ended.Error.Error()})
	}
	a.fans = append(a.fans, p.Step)
}

// ofItem is the error of a step whose item failed.
func ofItem(name string, failure *runner.StepError) *runner.StepError {
	failed := *failure
	failed.Message = name + ": " + failed.Message
	failed.Retryable = false // its attempts are used up
	return &failed
}

// stopItems ends all items of a step that have not ended.
func (a *applier) stopItems(i int) {
	for items := a.x.Steps[i].Items; len(items) > 0; items = a.x.Steps[i].Items {
		t := &items[len(items)-1]
		p := Place{i, t.Iteration}
		if t.AwaitsResult() {
			a.out.Stop = append(a.out.Stop, Stop{p, t.Token, t.Child})
		}
		t.Status, t.RetryAt, t.Backstop, t.CompletedAt = orchestrator.StepCancelled, 0, 0, a.x.LastInput // it keeps its token until its runner is told
		a.forget(p)
	}
}

// forget takes an item that has ended out of the state; its row tells what became of it.
func (a *applier) forget(p Place) {
	s := &a.x.Steps[p.Step]
	a.ended = append(a.ended, a.x.Row(p))
	s.Items = slices.DeleteFunc(s.Items, func(item Item) bool { return item.Iteration == p.Iteration })
}

// Gathers tells whether the items of a step have all ended, and what is missing is that their outputs are put together. For
// Outputs, it tells whether that is missing of the execution's.
func (x *Execution) Gathers(i int) bool {
	if i == Outputs {
		return x.open == 0 && x.StartedAt != 0 && !x.Terminal()
	}
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	if s.Status != orchestrator.StepRunning || !def.FansOut() || len(s.Items) > 0 {
		return false
	}
	more, failure := x.more(i)
	return !more && failure == nil
}

// Outputs stands for a step where it is the execution's outputs that are to be gathered.
const Outputs = -1

func (a *applier) gathered(in Input) {
	i, ok := a.x.Definition.byKey[in.Step]
	if in.Step == "" {
		i, ok = Outputs, true
	}
	switch {
	case !ok || in.Missing || !a.x.Gathers(i):
	case i == Outputs && in.Err != nil:
		a.finish(orchestrator.ExecutionFailed, in.Err, orchestrator.EventFailed)
	case i == Outputs:
		a.x.Outputs = in.Output
		a.finish(orchestrator.ExecutionCompleted, nil, orchestrator.EventCompleted)
	case in.Err != nil:
		a.fail(i, in.Err)
	default:
		a.x.Steps[i].Output = in.Output
		a.settle(i, orchestrator.StepCompleted, orchestrator.EventStepCompleted)
	}
}

// ItemOutput is the output of an item that completed.
type ItemOutput struct {
	Iteration int
	Output    json.RawMessage
}

// Gather puts the outputs of a step's items, in their order, together to that of the step; begun is how many have begun, and all
// outputs are whole. It fails when they are larger than runner.MaxOutput, and when tooLarge tells that they alone are.
func (d *StepDefinition) Gather(begun int, outputs []ItemOutput, tooLarge bool) (json.RawMessage, *runner.StepError) {
	open, closing := byte('['), byte(']')
	if d.parallel != nil {
		open, closing = '{', '}'
	}
	b := []byte{open}
	add := func(parts ...[]byte) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		for _, part := range parts {
			b = append(b, part...)
		}
	}
	for n, at := 1, 0; n <= begun && len(b) < runner.MaxOutput; n++ {
		ended := at < len(outputs) && outputs[at].Iteration == n
		switch {
		case ended && d.parallel != nil:
			add(strconv.AppendQuote(nil, d.parallel.branches[n-1].key), []byte{':'}, outputs[at].Output)
		case ended:
			add(outputs[at].Output)
		case d.loop != nil:
			add([]byte("null"))
		}
		if ended {
			at++
		}
	}
	if b = append(b, closing); tooLarge || len(b) > runner.MaxOutput {
		return nil, &runner.StepError{Code: runner.CodeOutputLimit, Message: fmt.Sprintf("the outputs of all items have more than %d bytes; return less of each", runner.MaxOutput)}
	}
	return b, nil
}
