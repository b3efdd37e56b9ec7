package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/runner/internal/executor"
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
	// Awaited tells whether the attempt has no recorded result yet; it asks until it knows, or
	// gives ctx's error.
	Awaited func(ctx context.Context, s *Step) (bool, error)
	// Logger gives where the lines of an attempt go, and what waits until they are stored, for a
	// moment at most.
	Logger func(*Step) (log executor.Logger, flush func(context.Context))
	Log    zerolog.Logger

	Metrics *Metrics
	Tracing *observe.Tracing // nil records nothing
}

// Pool runs the attempts of one agent type with as many goroutines as may run at once.
type Pool struct {
	Config
	queue   chan *attempt
	schemas *schemas
}

// Places is how many deliveries a pool of this concurrency should be given before it has
// freed one.
func Places(concurrency int) int { return 2 * concurrency }

// NewPool makes a pool that runs nothing before Run.
func NewPool(cfg Config) *Pool {
	return &Pool{Config: cfg, queue: make(chan *attempt, 2*Places(cfg.Concurrency)), schemas: newSchemas()}
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
	var workers sync.WaitGroup
	for range p.Concurrency {
		workers.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case a := <-p.queue:
					p.handle(ctx, running, a)
				}
			}
		})
	}
	<-ctx.Done()
	timer := time.AfterFunc(p.Drain, func() { stop(errStopping) })
	defer timer.Stop()
	workers.Wait()
	for {
		select {
		case a := <-p.queue:
			p.Attempts.giveBack(a)
		default:
			return
		}
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
		switch awaited, err := p.Awaited(intake, step); {
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
	atWork := p.Metrics.running.WithLabelValues(p.AgentType)
	atWork.Inc()
	begin := time.Now()
	bounded, release := context.WithTimeoutCause(ctx, step.Timeout, errTimeUp)
	output, err := p.execute(bounded, a)
	cause := context.Cause(bounded)
	release()
	took := time.Since(begin)
	p.Attempts.end(a)
	step.Body = nil // the report needs it no more
	atWork.Dec()
	p.Metrics.seconds.WithLabelValues(p.AgentType).Observe(took.Seconds())
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
		p.Report(running, Report{Type: runner.TypeStepCompleted, Step: step, Body: output, Duration: took}, func() { p.Attempts.settle(a) })
	}
}

// execute runs an attempt and gives its output, checked.
func (p *Pool) execute(ctx context.Context, a *attempt) (output json.RawMessage, err error) {
	step := a.step
	defer func() {
		if r := recover(); r != nil {
			output, err = nil, fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	var body runner.StepBody
	if err := json.Unmarshal(step.Body, &body); err != nil {
		return nil, &runner.StepError{Code: runner.CodeInternal, Message: "the ready step's body does not decode"}
	}
	if err := p.schemas.check(ctx, runner.CodeInvalidInput, "input", body.InputSchema, body.Input); err != nil {
		return nil, err
	}
	log, flush := p.Logger(step)
	// Who sees the result finds the lines that led to it.
	defer flush(context.WithoutCancel(ctx))
	output, err = p.Executor.Run(ctx, executor.Task{
		ExecutionID: step.ExecutionID, StepKey: step.StepKey, Attempt: step.Attempt, IdempotencyKey: step.IdempotencyKey,
		UserID: step.UserID, WorkflowID: step.WorkflowID, Config: body.Config, Input: body.Input, Log: log,
		Ours: func() bool { return p.Attempts.ours(a) },
	})
	if err == nil {
		err = checkOutput(output)
	}
	if err != nil {
		return nil, err
	}
	return output, p.schemas.check(ctx, runner.CodeInvalidOutput, "output", body.OutputSchema, output)
}

// outcomeOf tells what became of an attempt that ran, by why its context ended and its error.
func outcomeOf(cause, err error) string {
	switch {
	case errors.Is(cause, errCancelled):
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
	p.Metrics.finished.WithLabelValues(p.AgentType, outcome).Inc()
}

func (p *Pool) fail(ctx context.Context, a *attempt, fault *runner.StepError, took time.Duration) {
	body, err := json.Marshal(fault)
	if err != nil {
		body = []byte(`{"code":"` + runner.CodeInternal + `","message":"the runner failed","retryable":true}`) // strings always encode
	}
	p.Report(ctx, Report{Type: runner.TypeStepFailed, Step: a.step, Body: body, Duration: took}, func() { p.Attempts.settle(a) })
}
