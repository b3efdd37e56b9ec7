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
	"net/url"
	"slices"
	"strconv"
	"time"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/guard"
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

// Run makes the call and gives {"status":...,"headers":{...},"body":...,"timing":{"dnsMs":n,"connectMs":n,"tlsMs":n,"firstByteMs":n,"totalMs":n}}.
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
	took := &timing{began: time.Now()}
	for left := c.retry.count; ; left-- {
		out, failure := e.once(limited, c, r, took, task.Ours)
		switch {
		case failure == nil:
			return out, nil
		case !task.Ours():
			return nil, executor.ErrNotOurs
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case limited.Err() != nil:
			return nil, c.timedOut(r)
		case left == 0 || !c.retry.covers(failure):
			return nil, failure.err
		}
		wait, ok := c.retry.wait(c.retry.count-left, failure.retryAfter)
		if deadline, _ := limited.Deadline(); !ok || time.Until(deadline) <= wait {
			return nil, failure.err
		}
		task.Log("WARN", "engine", fmt.Sprintf("%s; trying again in %v, %d of %d", failure.err.Message, wait, c.retry.count-left+1, c.retry.count))
		select {
		case <-time.After(wait):
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, c.timedOut(r)
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
func (e *Executor) once(ctx context.Context, c call, r *request, took *timing, ours func() bool) (json.RawMessage, *failure) {
	resp, failed := e.answer(ctx, r, took, ours)
	if failed != nil {
		return nil, failed
	}
	defer func() { _ = resp.Body.Close() }()
	if !slices.ContainsFunc(c.success, func(s status) bool { return s.matches(resp.StatusCode) }) {
		return nil, &failure{
			err:        r.badStatus(resp),
			status:     resp.StatusCode,
			retryAfter: resp.Header.Get("Retry-After"),
		}
	}
	out, err := e.output(ctx, resp, c.responseType, took)
	if err == nil {
		return out, nil
	}
	var stepError *runner.StepError
	if errors.As(err, &stepError) {
		stepError.Message = r.name() + ": " + stepError.Message
		return nil, &failure{err: stepError, status: resp.StatusCode}
	}
	return nil, &failure{err: r.noAnswer(err)}
}

// answer sends the request. When its token is refused, it does so once more with another one.
func (e *Executor) answer(ctx context.Context, r *request, took *timing, ours func() bool) (*http.Response, *failure) {
	authorization := ""
	for {
		refused := authorization
		if r.client != nil {
			var failed *failure
			if authorization, failed = e.grants.authorization(ctx, *r.client, refused, ours); failed != nil {
				return nil, failed
			}
		}
		resp, err := r.send(took.watch(ctx), e.client, authorization, ours)
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

func (r *request) name() string { return r.method + " " + r.shown }

// noAnswer says why there is no complete answer.
func (r *request) noAnswer(err error) *runner.StepError {
	var refused *guard.RefusedError
	switch {
	case errors.As(err, &refused):
		return &runner.StepError{Code: runner.CodeAddress, Message: r.name() + ": " + refused.Error()}
	case errors.Is(err, guard.ErrScheme), errors.Is(err, guard.ErrRedirects):
		return &runner.StepError{Code: runner.CodeHTTPError, Message: r.name() + ": " + reason(err)}
	default:
		return &runner.StepError{Code: runner.CodeHTTPError, Message: r.name() + ": " + reason(err), Retryable: true}
	}
}

// reason gives the text of an error without the URL that net/http and net/url put before it.
func reason(err error) string {
	var named *url.Error
	if errors.As(err, &named) {
		err = named.Err
	}
	return err.Error()
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
	asked, ok := parseRetryAfter(retryAfter, time.Now())
	if !ok {
		return backoff, true
	}
	return asked, asked <= maxRetryAfter
}

// parseRetryAfter reads the header, which holds seconds or a date.
func parseRetryAfter(text string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}
