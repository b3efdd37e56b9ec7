package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/redact"
)

var (
	errTimeUp   = errors.New("the step's time is up")
	errStopping = errors.New("the runner stops")
)

// Config wires a Pool.
type Config struct {
	AgentType   string
	Executor    executor.Interface
	Concurrency int           // how many attempts run at once
	Drain       time.Duration // how long running attempts may go on once the pool stops
	Attempts    *Attempts

	// Report has a report stored; stored, when given, is called once it is. It may block while
	// too much is on its way, until ctx ends and the report is dropped.
	Report func(ctx context.Context, r Report, stored func())
	// AwaitWatch returns nil when every cancellation so far is known, or ctx's error.
	AwaitWatch func(ctx context.Context) error
	Ledger     Ledger
	Vault      Vault
	Calls      Calls
	// Logger gives where the lines of an attempt go, and what waits until they are stored, for a
	// moment at most.
	Logger func(*Step) (log executor.Logger, flush func(context.Context))
	// Tokens gives where what an attempt's models write goes, which never blocks, and what has it sent.
	Tokens func(*Step) (write func(call int, text string), flush func())
	Log    zerolog.Logger

	Metrics *Metrics
	Tracing *observe.Tracing // nil records nothing
}

// Ledger is where results are recorded, as far as an attempt needs it. Each asks until it is answered, or gives ctx's error.
type Ledger interface {
	// Awaited tells whether the attempt has no recorded result yet.
	Awaited(ctx context.Context, s *Step) (bool, error)
	// Body gives the body of a step that came without one, or why there is none; neither when its result would no longer count.
	Body(ctx context.Context, s *Step) (body []byte, failure *runner.StepError, err error)
	// Store keeps an output that is too large to be reported as it is. Safe to repeat. An error that is not ctx's is a refusal.
	Store(ctx context.Context, s *Step, output []byte) error
}

// Pool runs the attempts of one agent type with as many goroutines as may run at once.
type Pool struct {
	Config
	queue    chan *attempt
	measured measured
	schemas  *schemas
	spanName string
	running  atomic.Int64

	places   chan struct{} // has an entry for each attempt that runs and does not stand aside
	asides   atomic.Int64  // attempts that stand aside
	surplus  atomic.Int64  // workers that are to go because others have come back from standing aside
	workers  sync.WaitGroup
	work     func()         // what a worker does
	settling sync.WaitGroup // calls whose attempts have ended
}

// Capacity is how many attempts the pool runs at once, and how many run now. One that stands aside takes no place of others, neither here
// nor of those that the orchestrator deals.
func (p *Pool) Capacity() runner.Capacity {
	asides := int(p.asides.Load())
	return runner.Capacity{AgentType: p.AgentType, Slots: p.Concurrency + asides, Running: int(p.running.Load())}
}

// Places is how many deliveries a pool of this concurrency should be given before it has
// freed one. A few more may be on their way from consumers that were asked before.
func Places(concurrency int) int { return 2 * concurrency }

// onTheirWay bounds those few more: one part of the places of each of the pools of steps, and what a connection that broke has sent still.
func onTheirWay(places int) int { return 2*places + 1<<catalog.MaxLabels }

// NewPool makes a pool that runs nothing before Run.
func NewPool(cfg Config) *Pool {
	return &Pool{
		Config: cfg, queue: make(chan *attempt, Places(cfg.Concurrency)+onTheirWay(Places(cfg.Concurrency))), measured: cfg.Metrics.of(cfg.AgentType), schemas: newSchemas(), spanName: "attempt " + cfg.AgentType,
		places: make(chan struct{}, cfg.Concurrency),
	}
}

// Take takes a delivery in. It blocks only when more are given than there are places.
func (p *Pool) Take(d *Delivery) {
	if d.Count > 1 {
		p.Metrics.redelivered.Inc()
	}
	if a := p.Attempts.admit(d); a != nil {
		p.queue <- a
	}
}

// Run works until ctx ends, gives back what has not begun, and lets what runs go on for
// Drain before it is stopped and given back too.
func (p *Pool) Run(ctx context.Context) {
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	p.work = func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case a := <-p.queue:
				if p.turn(ctx, running, a); p.dismissed() {
					return
				}
			}
		}
	}
	for range p.Concurrency {
		p.workers.Go(p.work)
	}
	<-ctx.Done()
	timer := time.AfterFunc(p.Drain, func() { stop(errStopping) })
	defer timer.Stop()
	p.workers.Wait()
	p.settling.Wait()
	for {
		select {
		case a := <-p.queue:
			p.Attempts.giveBack(a)
		default:
			return
		}
	}
}

// turn has an attempt handled once it has a place.
func (p *Pool) turn(intake, running context.Context, a *attempt) {
	select {
	case p.places <- struct{}{}:
		a.place.taken = true
	case <-intake.Done():
		p.Attempts.giveBack(a)
		a.free()
		return
	}
	p.handle(intake, running, a)
	if a.place.taken {
		<-p.places
	}
}

// handle brings one attempt to its end. intake ends when nothing new may begin, running when
// nothing may go on.
func (p *Pool) handle(intake, running context.Context, a *attempt) {
	defer a.free()
	step := a.step
	switch {
	case step.Fault != nil:
		p.finished(outcomeFailed)
		p.fail(running, a, step.Fault, 0)
		return
	case a.overrun:
		p.finished(outcomeLost)
		p.fail(running, a, lost(), 0)
		return
	}
	if p.AwaitWatch(intake) != nil {
		p.Attempts.giveBack(a)
		return
	}
	// A runner that died after its answer and before its ack leaves the step to us: what is
	// recorded is not run again.
	if p.Attempts.redelivered(a) {
		switch awaited, err := p.Ledger.Awaited(intake, step); {
		case err != nil:
			p.Attempts.giveBack(a)
			return
		case !awaited:
			p.Attempts.drop(a)
			return
		}
	}
	// The attempt's span stands in everything that is said of it, beginning with its start.
	traced, span := p.trace(running, step)
	defer span.End()
	ctx, cancel := context.WithCancelCause(traced)
	defer cancel(nil)
	if !p.Attempts.begin(running, a, cancel) {
		return
	}
	p.measured.running.Inc()
	p.running.Add(1)
	begin := time.Now()
	bounded, release := context.WithTimeoutCause(ctx, step.Timeout, errTimeUp)
	output, err := p.execute(bounded, a)
	cause := context.Cause(bounded)
	release()
	took := time.Since(begin)
	p.Attempts.end(a)
	step.Body = nil // the report needs it no more
	p.measured.running.Dec()
	p.running.Add(-1)
	p.measured.seconds.Observe(took.Seconds())
	outcome := outcomeOf(cause, err)
	p.finished(outcome)
	mark(span, outcome)

	switch outcome {
	case outcomeCancelled:
		p.Attempts.drop(a)
	case outcomeGivenBack:
		p.Attempts.giveBack(a)
	case outcomeTakenOver:
		p.Attempts.forget(a) // its message is another's by now, or soon
	case outcomeTimedOut:
		p.fail(running, a, timedOut(step.Timeout), took)
	case outcomeFailed, outcomeInternal:
		p.fail(running, a, p.blame(ctx, err), took)
	default:
		p.complete(running, a, output, took)
	}
}

// complete has an output reported, by its reference when it is large.
func (p *Pool) complete(ctx context.Context, a *attempt, output json.RawMessage, took time.Duration) {
	if len(output) > runner.MaxInline {
		switch err := p.Ledger.Store(ctx, a.step, output); {
		case err == nil:
			output = runner.ReferTo(output).Payload()
		case ctx.Err() != nil:
			p.Attempts.giveBack(a)
			return
		default:
			p.fail(ctx, a, p.blame(ctx, err), took)
			return
		}
	}
	p.Report(ctx, Report{Type: runner.TypeStepCompleted, Step: a.step, Body: output, Duration: took}, func() { p.Attempts.settle(a) })
}

// execute runs an attempt and gives its output, checked.
func (p *Pool) execute(ctx context.Context, a *attempt) (output json.RawMessage, err error) {
	step := a.step
	var mask *redact.Redactor
	defer func() {
		if r := recover(); r != nil {
			output, err = nil, fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		output, err = mask.JSON(output), mask.Error(err)
	}()
	body, err := p.bodyOf(ctx, step)
	if err != nil {
		return nil, err
	}
	secrets, err := p.open(ctx, step, &body)
	if err != nil {
		return nil, err
	}
	mask = redact.New(secrets)
	ctx = guard.Masked(ctx, mask.Text)
	if err := p.schemas.check(ctx, runner.CodeInvalidInput, "input", body.InputSchema, body.Input); err != nil {
		return nil, err
	}
	log, flush := p.Logger(step)
	// Who sees the result finds the lines that led to it.
	defer flush(context.WithoutCancel(ctx))
	if mask != nil {
		bare := log
		log = func(level, source, message string) { bare(level, source, mask.Text(message)) }
	}
	tell, sent := p.Tokens(step)
	live := newLive(tell, mask)
	defer sent()
	defer live.end()
	output, err = p.Executor.Run(ctx, executor.Task{
		ExecutionID: step.ExecutionID, StepKey: step.StepKey, Attempt: step.Attempt, IdempotencyKey: step.IdempotencyKey,
		UserID: step.UserID, WorkflowID: step.WorkflowID, AgentID: step.AgentID, Config: body.Config, Input: body.Input, Secrets: secrets, Log: log,
		Tokens: live.write,
		Ours:   func() bool { return p.Attempts.ours(a) },
		Calls:  &callsOf{pool: p, a: a, run: uuid.NewString(), mask: mask},
	})
	if err == nil {
		err = checkOutput(output)
	}
	if err != nil {
		return nil, err
	}
	return output, p.schemas.check(ctx, runner.CodeInvalidOutput, "output", body.OutputSchema, output)
}

// bodyOf gives the body of a step, which the ledger has when its message had none.
func (p *Pool) bodyOf(ctx context.Context, step *Step) (runner.StepBody, error) {
	if len(step.Body) == 0 {
		return p.fetchBody(ctx, step)
	}
	body, ok := readBody(step.Body)
	if !ok {
		return body, &runner.StepError{Code: runner.CodeInternal, Message: "the ready step's body does not decode"}
	}
	return body, nil
}

func (p *Pool) fetchBody(ctx context.Context, step *Step) (runner.StepBody, error) {
	body, failure, err := p.Ledger.Body(ctx, step)
	switch {
	case err != nil:
		return runner.StepBody{}, err
	case failure != nil:
		return runner.StepBody{}, failure
	case len(body) == 0:
		return runner.StepBody{}, executor.ErrObsolete
	}
	step.Body = body
	return p.bodyOf(ctx, step)
}

// outcomeOf tells what became of an attempt that ran, by why its context ended and its error.
func outcomeOf(cause, err error) string {
	switch {
	case errors.Is(cause, errCancelled) || errors.Is(err, executor.ErrObsolete):
		return outcomeCancelled
	case err == nil:
		return outcomeCompleted
	case errors.Is(err, executor.ErrNotOurs):
		return outcomeTakenOver
	case errors.Is(cause, errStopping):
		return outcomeGivenBack
	case errors.Is(cause, errTimeUp):
		return outcomeTimedOut
	case faultOf(err).Code == runner.CodeInternal:
		return outcomeInternal
	}
	return outcomeFailed
}

// blame gives err as a StepError and logs what is not the agent's fault.
func (p *Pool) blame(ctx context.Context, err error) *runner.StepError {
	fault := faultOf(err)
	if fault.Code == runner.CodeInternal {
		p.Log.Error().EmbedObject(observe.IDsOf(ctx)).Err(err).Msg("step not run")
	}
	return fault
}

func (p *Pool) finished(outcome string) {
	p.measured.finished[outcome].Inc()
}

func (p *Pool) fail(ctx context.Context, a *attempt, fault *runner.StepError, took time.Duration) {
	body, err := json.Marshal(fault)
	if err != nil {
		body = []byte(`{"code":"` + runner.CodeInternal + `","message":"the runner failed","retryable":true}`) // strings always encode
	}
	p.Report(ctx, Report{Type: runner.TypeStepFailed, Step: a.step, Body: body, Duration: took}, func() { p.Attempts.settle(a) })
}
