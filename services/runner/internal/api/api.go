// Package api runs API agents: one HTTP call per attempt, made from the config's templates
// and the step's input, over the guarded client.
//
// Errors and log lines name a call by its method and its URL without query and credentials.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
	"turbocat.io/services/runner/internal/executor"
)

// Executor runs API agents.
type Executor struct {
	client *http.Client
	grants *grants
	large  chan struct{} // has an entry for each large answer that is in memory
}

var _ executor.Interface = (*Executor)(nil)

// New makes an Executor that calls through client, which is to be one of guard.NewClient.
func New(client *http.Client) *Executor {
	return &Executor{client: client, grants: newGrants(client), large: make(chan struct{}, largeAtOnce)}
}

// Run makes the call and gives {"status":...,"headers":{...},"body":...,"timing":{"dnsMs":n,"connectMs":n,"tlsMs":n,"firstByteMs":n,"totalMs":n}};
// of pages the last one's, with the items of all as its body, and "pages":n,"more":bool behind it.
func (e *Executor) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	if task.Log == nil {
		task.Log = func(_, _, _ string) {}
	}
	c, faults := parse(task.Config)
	if err := faults.Err("API"); err != nil {
		return nil, err
	}
	r, err := c.resolve(task)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	a := &attempt{executor: e, task: task, call: c, took: &timing{began: time.Now()}}
	defer a.free()
	if c.pages == nil {
		got, err := a.retried(ctx, limited, r)
		if err != nil {
			return nil, err
		}
		out, err := got.output(a.took, nil)
		return out, r.named(err)
	}
	return a.allPages(ctx, limited, c.pages.first(r))
}

// allPages asks for page after page until there are no more, or as many as there may be.
func (a *attempt) allPages(ctx, limited context.Context, r *request) (json.RawMessage, error) {
	p := a.call.pages
	for all := (&joined{}); ; {
		got, err := a.retried(ctx, limited, r)
		if err != nil {
			return nil, err
		}
		all.asked++
		items, err := all.add(p, got.body)
		if err != nil {
			return nil, r.named(err)
		}
		if all.items.Len() > largeAnswer && a.roomForLarge(limited) != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, a.call.timedOut(r)
		}
		following, err := p.next(r, all, got.header, got.body, items)
		if err != nil {
			return nil, r.named(err)
		}
		if all.more = following != nil; !all.more || all.asked == p.most {
			if all.more {
				a.task.Log("WARN", "engine", fmt.Sprintf("there are more than %d pages; the output has these, raise pagination.maxPages (up to %d) for more", p.most, maxPages))
			}
			out, err := got.output(a.took, all)
			return out, r.named(err)
		}
		r = following
	}
}

// attempt is what the calls of one task have in common.
type attempt struct {
	executor *Executor
	task     executor.Task
	call     call
	took     *timing
	large    bool // it has one of the places for large answers
}

// roomForLarge waits for one of the places for large answers, which the attempt keeps: what it has read stays in memory.
func (a *attempt) roomForLarge(ctx context.Context) error {
	if a.large {
		return nil
	}
	select {
	case a.executor.large <- struct{}{}:
		a.large = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *attempt) free() {
	if a.large {
		<-a.executor.large
	}
}

// retried makes a call, and again as config.retry has it. limited is ctx within the time of the attempt.
func (a *attempt) retried(ctx, limited context.Context, r *request) (page, error) {
	c := a.call
	for left := c.retry.count; ; left-- {
		got, failure := a.once(limited, r)
		switch {
		case failure == nil:
			return got, nil
		case !a.task.Ours():
			return page{}, executor.ErrNotOurs
		case ctx.Err() != nil:
			return page{}, ctx.Err()
		case limited.Err() != nil:
			return page{}, c.timedOut(r)
		case left == 0 || !c.retry.covers(failure):
			return page{}, failure.err
		}
		wait, ok := c.retry.wait(c.retry.count-left, failure.retryAfter)
		if deadline, _ := limited.Deadline(); !ok || time.Until(deadline) <= wait {
			return page{}, failure.err
		}
		a.task.Log("WARN", "engine", fmt.Sprintf("%s; trying again in %v, %d of %d", failure.err.Message, wait, c.retry.count-left+1, c.retry.count))
		select {
		case <-time.After(wait):
		case <-limited.Done():
			if ctx.Err() != nil {
				return page{}, ctx.Err()
			}
			return page{}, c.timedOut(r)
		}
	}
}

// failure is why one call gave no output.
type failure struct {
	err        *runner.StepError
	status     int    // 0 when there was no answer
	retryAfter string // the header
}

// once makes one call.
func (a *attempt) once(ctx context.Context, r *request) (page, *failure) {
	resp, failed := a.answer(ctx, r)
	if failed != nil {
		return page{}, failed
	}
	defer func() { _ = resp.Body.Close() }()
	if !slices.ContainsFunc(a.call.success, func(s status) bool { return s.matches(resp.StatusCode) }) {
		return page{}, &failure{
			err:        r.badStatus(resp),
			status:     resp.StatusCode,
			retryAfter: resp.Header.Get("Retry-After"),
		}
	}
	got, err := a.read(ctx, resp)
	if err == nil {
		return got, nil
	}
	var stepError *runner.StepError
	if errors.As(r.named(err), &stepError) {
		return page{}, &failure{err: stepError, status: resp.StatusCode}
	}
	return page{}, &failure{err: r.noAnswer(err)}
}

// answer sends the request. When its token is refused, it does so once more with another one.
func (a *attempt) answer(ctx context.Context, r *request) (*http.Response, *failure) {
	e, ours := a.executor, a.task.Ours
	authorization := ""
	for {
		refused := authorization
		if r.client != nil {
			var failed *failure
			if authorization, failed = e.grants.authorization(ctx, *r.client, refused, ours); failed != nil {
				return nil, failed
			}
		}
		resp, err := r.send(a.took.watch(ctx), e.client, authorization, ours)
		switch {
		case err != nil:
			return nil, &failure{err: r.noAnswer(err)}
		case resp.StatusCode == http.StatusUnauthorized && r.client != nil && refused == "":
			_ = resp.Body.Close()
		default:
			return resp, nil
		}
	}
}

// named puts the request before the message of a StepError; any other error, and none, stays as it is.
func (r *request) named(err error) error {
	var stepError *runner.StepError
	if errors.As(err, &stepError) {
		stepError.Message = r.name() + ": " + stepError.Message
	}
	return err
}

func (r *request) name() string { return r.method + " " + r.shown }

// noAnswer says why there is no complete answer.
func (r *request) noAnswer(err error) *runner.StepError {
	var refused *guard.RefusedError
	switch {
	case errors.As(err, &refused):
		return &runner.StepError{Code: runner.CodeAddress, Message: r.name() + ": " + refused.Error()}
	case errors.Is(err, guard.ErrScheme), errors.Is(err, guard.ErrRedirects):
		return &runner.StepError{Code: runner.CodeHTTPError, Message: r.name() + ": " + guard.Reason(err)}
	default:
		return &runner.StepError{Code: runner.CodeHTTPError, Message: r.name() + ": " + guard.Reason(err), Retryable: true}
	}
}

func (c call) timedOut(r *request) *runner.StepError {
	return &runner.StepError{
		Code:      runner.CodeStepTimeout,
		Message:   fmt.Sprintf("%s: no complete answer within timeoutMs (%d)", r.name(), c.timeout.Milliseconds()),
		Retryable: true,
	}
}

// transient tells whether a status may be another one a little later.
func transient(code int) bool {
	return code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests || code >= 500
}

// covers tells whether the failure is one that config.retry is for.
func (r retry) covers(f *failure) bool {
	if f.status == 0 || len(r.on) == 0 {
		return f.err.Retryable
	}
	return f.err.Code == runner.CodeHTTPStatus && slices.Contains(r.on, f.status)
}

const (
	maxRetryAfter = 60 * time.Second
	maxBackoff    = 5 * time.Minute
)

// wait gives how long to wait before the next call: what the server asks for, else the
// delay, twice as long after each call. False when the server asks for longer than the
// runner waits; the failure then is the step's.
func (r retry) wait(done int, retryAfter string) (time.Duration, bool) {
	backoff := min(r.delay<<done, maxBackoff)
	asked, ok := guard.RetryAfter(retryAfter, time.Now())
	if !ok {
		return backoff, true
	}
	return asked, asked <= maxRetryAfter
}
