package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// A world has a few workflows that steps of others run. Each runs only those after it, but for the last, which has one step and
// runs itself: that ends at the depth that is allowed.
const (
	childWorkflows = 4
	itself         = childWorkflows - 1
)

// childID names a workflow that steps run; one that there is not has a number below 0.
func childID(n int) string {
	return uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "child workflow %d", n)).String()
}

// childWorkflow is a workflow that steps run.
type childWorkflow struct {
	plan    enginetest.Plan
	def     catalog.Definition
	refuses bool // its inputs make no key for its limit
}

// childWorkflow draws the n-th workflow that steps run; it is the same each time.
func (w *world) childWorkflow(n int) childWorkflow {
	r := w.chance.Same(fmt.Sprintf("child workflow %d", n))
	c := childWorkflow{plan: w.drawFamily(r, n+1)}
	if n == itself {
		c.plan = enginetest.Plan{Steps: []enginetest.Step{{
			Rule: catalog.TriggerNoneFailed, OnError: []string{catalog.OnErrorFail, catalog.OnErrorContinue}[r.IntN(2)], TimeoutMs: 120_000,
			Child: &enginetest.Child{Workflow: childID(itself), Detached: r.IntN(3) == 0},
		}}}
	}
	c.def = c.plan.Definition()
	c.def.WorkflowID = childID(n)
	if r.IntN(2) == 0 {
		c.def.Concurrency = &catalog.Concurrency{
			Max: 1 + r.IntN(2), Key: []string{"", "{{inputs.n}}", "{{inputs.m}}"}[r.IntN(3)],
			OnLimit: []string{catalog.OnLimitQueue, catalog.OnLimitDrop, catalog.OnLimitCancelOldest}[r.IntN(3)],
		}
		c.refuses = c.plan.Strict && c.def.Concurrency.Key == "{{inputs.m}}"
	}
	return c
}

// limitOf gives the limit that counts an execution of the workflow that a client submits.
func (c childWorkflow) limitOf() *execution.Limit {
	l := c.def.Concurrency
	if l == nil {
		return nil
	}
	key := l.Key
	if key == "{{inputs.n}}" {
		key = "20"
	}
	return &execution.Limit{Max: l.Max, Key: key, OnLimit: l.OnLimit}
}

// drawFamily draws a plan, some of whose steps run workflows from the n-th on.
func (w *world) drawFamily(r *rand.Rand, from int) enginetest.Plan {
	p := w.drawPlan(r)
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Script != nil && r.Float64() < w.profile.children {
			s.Script, s.TimeoutMs = nil, []int64{20_000, 60_000, 120_000}[r.IntN(3)]
			n := from + r.IntN(max(1, childWorkflows-from))
			if r.IntN(12) == 0 || n >= childWorkflows {
				n = -1
			}
			s.Child = &enginetest.Child{Workflow: childID(n), Detached: r.IntN(4) == 0}
		}
	}
	return p
}

// families is the catalog of a process.
type families struct {
	w    *world
	name string
}

// Resolve implements execution.Catalog.
func (f families) Resolve(_ context.Context, _ rpc.Caller, req catalog.ResolveRequest) (catalog.Resolution, error) {
	if !f.w.healthy.Load() && f.w.chance.Draw("resolve", f.name).Float64() < f.w.profile.transport.Fail {
		f.w.witness.fault("the catalog does not answer %s", f.name)
		return catalog.Resolution{}, errs.New(errs.DependencyUnavailable, "the catalog is away")
	}
	for n := range childWorkflows {
		if req.ID == childID(n) {
			return catalog.Resolution{Definition: f.w.childWorkflow(n).def}, nil
		}
	}
	return catalog.Resolution{}, errs.New(errs.NotFound, "workflow not found")
}

// accepting is a ledger as far as children need it.
type accepting struct {
	execution.Store
	ledger partitiontest.Store
}

func (a accepting) Accept(ctx context.Context, executions []execution.Accepted) ([]execution.Outcome, []partition.Control, error) {
	return a.ledger.Accept(ctx, executions)
}

func (a accepting) Ending(ctx context.Context, id string) (execution.Ending, bool, error) {
	return a.ledger.Ending(ctx, id)
}

// acceptor runs what accepts the children of a process.
func (w *world) acceptor(ctx context.Context, o *owner, log zerolog.Logger) execution.Children {
	a := execution.NewAcceptor(accepting{ledger: o.process.Ledger(w.ledger)}, o.process.Transport(w.server.Connect()), families{w, o.name}, log)
	w.running.Go(func() { _ = a.Run(ctx) })
	return execution.Children{Acceptor: a}
}

// birth is a child that was accepted.
type birth struct {
	parent   placeOf
	attempt  int
	detached bool
}

// accepted notes an execution as it is accepted.
func (w *world) accepted(x execution.Accepted) {
	w.witness.mu.Lock()
	w.witness.accepts[x.ID] = len(w.witness.accepts)
	w.witness.mu.Unlock()
	if x.Parent != nil {
		w.born(x)
	}
}

// born notes a child, and all that will happen to it. There is one for an attempt, and somebody waits for it.
func (w *world) born(x execution.Accepted) {
	n := 0
	for ; n < childWorkflows && childID(n) != x.Definition.WorkflowID; n++ {
	}
	def, err := engine.Compile(x.Definition)
	if err != nil || n == childWorkflows {
		panic(fmt.Sprint(x.Definition.WorkflowID, err))
	}
	c := w.childWorkflow(n)
	known := &scripted{id: x.ID, plan: c.plan, def: def, accepted: time.Now(), limit: x.Limit, priority: x.Priority, depth: x.Depth}
	if x.Limit != nil {
		known.group = x.Definition.WorkflowID + " " + x.Limit.Key
	}
	w.mu.Lock()
	w.defs[x.ID] = known
	w.mu.Unlock()
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	parent := placeOf{x.Parent.ExecutionID, x.Parent.Place}
	t := v.account(parent.execution).tasks[parent.Place]
	v.w.trace.note("%s is accepted, attempt %d of %s of %s, detached %t\n%s", short(x.ID), t.Attempt, w.name(parent), short(parent.execution), x.Detached, known.plan)
	switch of := w.scripted(parent.execution); {
	case t.Child != x.ID || t.Token != x.Parent.Token || t.Status != orchestrator.StepRunning:
		v.failed("execution %s is accepted for %s of %s, which is %+v", x.ID, w.name(parent), parent.execution, t)
	case x.Depth != of.depth+1 || x.Depth > catalog.MaxDepth:
		v.failed("execution %s has the depth %d, and its parent %s %d", x.ID, x.Depth, of.id, of.depth)
	}
	for id, b := range v.births {
		if b.parent == parent && b.attempt == t.Attempt {
			v.failed("attempt %d of %s of %s has the children %s and %s", t.Attempt, w.name(parent), parent.execution, id, x.ID)
		}
	}
	v.births[x.ID] = birth{parent, t.Attempt, x.Detached}
	name := "child " + x.ID
	w.running.Go(func() { w.command(name, []string{x.ID}) })
	w.also(known, name+" cancels", func(name string, r *rand.Rand) {
		if r.Float64() < w.profile.cancels/2 && pause(w.ending, time.Duration(r.Int64N(int64(20*time.Second)))) == nil {
			w.cancel(name, r, x.ID)
		}
	})
}

// unawaited tells since when nobody waits for a child; false when somebody does, or nobody ever did. v.mu is held.
func (v *witness) unawaited(id string) (time.Time, bool) {
	b, born := v.births[id]
	if !born || b.detached {
		return time.Time{}, false
	}
	a := v.account(b.parent.execution)
	if at, over := a.settled[b.parent.Place][b.attempt]; over {
		return at, true
	}
	at, over := a.cancelled[b.parent.Place]
	return at, over
}

// hearTime is within which a child ends that nobody waits for, and a parent hears of the end of its child, when nothing goes wrong.
const hearTime = 25 * time.Second

// checkChild holds that a child which nobody waits for any more has ended soon.
func (w *world) checkChild(x *scripted) error {
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	since, unwanted := v.unawaited(x.id)
	if !unwanted {
		return nil
	}
	over := v.account(x.id).over
	for _, later := range []time.Time{w.healed, x.accepted} {
		if later.After(since) {
			since = later
		}
	}
	if late := over.Sub(since); late > hearTime+time.Duration(w.clockWentBack.Load()) {
		return fmt.Errorf("it ended %v after nobody waited for it", late)
	}
	return nil
}

// toldChildren gives the ends that the attempts of a step had which were children, and holds them against the children.
func (w *world) toldChildren(x *scripted, i int, end *engine.Step, a *account) ([]enginetest.Answer, *enginetest.Child, error) {
	p, child := engine.Place{Step: i}, *x.plan.Steps[i].Child
	var answers []enginetest.Answer
	for n, code := range a.ends[p] {
		if code == runner.CodeTemplate {
			break
		}
		id, status := w.childOf(placeOf{x.id, p}, n+1)
		answer, err := w.answerOf(child, code, id, status)
		if err != nil {
			return nil, nil, fmt.Errorf("attempt %d of %s: %w", n+1, x.plan.Key(i), err)
		}
		if answer == enginetest.StaysSilent {
			if err := w.checkHeardInTime(x, p, n+1, id, a); err != nil {
				return nil, nil, err
			}
		}
		answers = append(answers, answer)
	}
	if end.Status == orchestrator.StepCompleted {
		loaded, err := w.ledger.Load(context.Background(), []string{end.Child})
		if err != nil || len(loaded) != 1 {
			return nil, nil, fmt.Errorf("%s has completed, and its child %s is not there: %w", x.plan.Key(i), end.Child, err)
		}
		w.unfold(context.Background(), loaded[0].Execution)
		if child.Output = decoded(loaded[0].Execution.OutputsByKey()); child.Detached {
			child.Output = map[string]any{"executionId": end.Child}
		}
	}
	return answers, &child, nil
}

// childOf gives the child that an attempt was, and how it has ended; "" when there was none.
func (w *world) childOf(parent placeOf, attempt int) (id, status string) {
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, b := range v.births {
		if b.parent == parent && b.attempt == attempt {
			return id, v.account(id).row.Status
		}
	}
	return "", ""
}

// answerOf gives the end of an attempt with a code, which must be that of its child.
func (w *world) answerOf(c enginetest.Child, code, id, status string) (enginetest.Answer, error) {
	type end struct {
		status string
		answer enginetest.Answer
	}
	ends := map[string]end{
		"": {orchestrator.ExecutionCompleted, enginetest.Succeeds}, runner.CodeChildFailed: {orchestrator.ExecutionFailed, enginetest.ChildFails},
		runner.CodeChildTimeout: {orchestrator.ExecutionTimeout, enginetest.ChildRunsOut}, runner.CodeChildStopped: {orchestrator.ExecutionCancelled, enginetest.ChildStopped},
	}
	e, known := ends[code]
	switch {
	case code == runner.CodeStepTimeout:
		return enginetest.StaysSilent, nil
	case code == runner.CodeDepth && id == "":
		return enginetest.ChildTooDeep, nil
	case code == runner.CodeChildFailed && id == "" && w.refused(c.Workflow):
		return enginetest.ChildRefused, nil
	case !known || id == "" || !c.Detached && e.status != status || c.Detached && code != "":
		return 0, fmt.Errorf("it ended with %q, and its child %s is %s", code, id, status)
	}
	return e.answer, nil
}

// refused tells whether no execution of a workflow can begin.
func (w *world) refused(workflow string) bool {
	for n := range childWorkflows {
		if childID(n) == workflow {
			return w.childWorkflow(n).refuses
		}
	}
	return true
}

// checkHeardInTime holds that no attempt ran out of time whose child had ended, or had yet to begin, while nothing went wrong.
func (w *world) checkHeardInTime(x *scripted, p engine.Place, attempt int, child string, a *account) error {
	v := w.witness
	v.mu.Lock()
	defer v.mu.Unlock()
	since := a.begun[p][attempt]
	if child != "" {
		if since = v.account(child).over; since.IsZero() || v.births[child].detached {
			since = v.w.scripted(child).accepted
		}
		if !v.births[child].detached && v.account(child).over.IsZero() {
			return nil // it went on
		}
	}
	if w.healed.After(since) {
		since = w.healed
	}
	if late := a.settled[p][attempt].Sub(since); late > hearTime+time.Duration(w.clockWentBack.Load()) {
		return fmt.Errorf("attempt %d of %s ran out of time %v after it could have ended, by the child %q", attempt, x.plan.Key(p.Step), late, child)
	}
	return nil
}

// sameChild holds that what a step says is its child is one that was accepted for it.
func (v *witness) sameChild(r partition.StepRow, before engine.Task) {
	if r.Child == "" || before.Token != r.Token || before.Child == "" {
		return
	}
	if before.Child != r.Child {
		v.failed("attempt %d of %s of %s was the child %s and is %s", r.Attempt, v.w.name(placeOf{r.ExecutionID, r.Place}), r.ExecutionID, before.Child, r.Child)
	}
}
