// Package code runs CODE agents. Each attempt runs in a process of its own that is jailed
// before it reads a byte of the job and killed when it has answered, or its time is up:
// what code does to its process ends with it. Some of these processes are started before
// there is a job, as that takes longer than most jobs do. The parent believes the sandbox nothing; it
// bounds and checks every frame. Where a jail can not be made, nothing is run.
package code

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/code/jail"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/executor"
)

// Config says how sandboxes are started.
type Config struct {
	// Program is the absolute path of a program whose main begins with Main; this one when empty.
	Program string
	// Client is what code fetches with, to be one of guard.NewClient.
	Client *http.Client
}

var errTimeUp = errors.New("the code's time is up")

// Executor runs attempts of CODE agents. It is safe for concurrent use.
type Executor struct {
	program string
	client  *http.Client
	missing error         // why this host can not jail, if so
	idle    chan *sandbox // sandboxes without a job
	room    chan struct{} // has an entry for each that is missing
}

// New gives an Executor, and tries once whether this host can jail code; Available tells.
// It fails only for a wrong Config.
func New(cfg Config) (*Executor, error) {
	e := &Executor{program: "/proc/self/exe", client: cfg.Client, idle: make(chan *sandbox, maxIdle), room: make(chan struct{}, maxIdle)}
	if cfg.Program != "" {
		if !filepath.IsAbs(cfg.Program) {
			return nil, fmt.Errorf("code.Config.Program: %q is no absolute path; give one, or leave it empty", cfg.Program)
		}
		e.program = cfg.Program
	}
	e.missing = e.probe()
	return e, nil
}

// Available gives nil, or why this host can not run CODE.
func (e *Executor) Available() error { return e.missing }

func (e *Executor) probe() error {
	s, err := e.start(context.Background())
	if err != nil {
		return err
	}
	defer s.child.Close()
	return s.close(context.Background(), limits(config{memoryMb: 128}))
}

// Run implements executor.Interface.
func (e *Executor) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	c, faults := parse(task.Config)
	if err := faults.Err("CODE"); err != nil {
		return nil, err
	}
	if c.unsupported != "" {
		return nil, &runner.StepError{Code: runner.CodeUnsupported, Message: c.unsupported}
	}
	if e.missing != nil {
		return nil, &runner.StepError{
			Code: runner.CodeNoSandbox, Retryable: true,
			Message: "this runner can not jail code, so it runs none: " + e.missing.Error(),
		}
	}
	if len(task.Input) > runner.MaxInput {
		return nil, &runner.StepError{Code: runner.CodeInputLimit, Message: fmt.Sprintf("the input has %d bytes, more than %d", len(task.Input), runner.MaxInput)}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	secrets := make(map[string]string, len(c.secrets))
	for _, name := range c.secrets {
		secrets[name] = task.Secrets[name]
	}
	s, err := e.take(ctx, limits(c))
	if err != nil {
		return nil, err
	}
	defer e.replace(s)
	return s.run(ctx, c, script.Job{
		Context: script.Context{
			ExecutionID: task.ExecutionID, StepKey: task.StepKey,
			Attempt: task.Attempt, IdempotencyKey: task.IdempotencyKey, Secrets: secrets,
		},
		Files: c.files, Input: task.Input, Main: c.main, Entry: c.entry, TypeScript: c.runtime == catalog.RuntimeTypeScript,
	}, task, e.client)
}

// run has the sandbox do the job, and leaves nothing of it.
func (s *sandbox) run(ctx context.Context, c config, job script.Job, task executor.Task, client *http.Client) (json.RawMessage, error) {
	lasting, end := context.WithCancelCause(ctx)
	defer end(nil)
	bounded, cancel := context.WithTimeoutCause(lasting, c.timeout, errTimeUp)
	defer cancel()
	defer context.AfterFunc(bounded, s.child.Kill)()

	// A sandbox that dies early ends both pipes; what it said last is worth more than that
	// the job could not be written.
	errWrite := writeJob(s.child.Job, job)
	calls := newCalls(bounded, client, c.hosts, task.Ours, func() { end(executor.ErrNotOurs) }, s.child.Job)
	output, err := converse(s.frames, task.Log, calls)
	cause := context.Cause(bounded)
	exit := s.child.Close()
	end(nil)
	calls.wait()

	var fault *runner.StepError
	switch {
	case errors.Is(cause, executor.ErrNotOurs):
		return nil, cause
	case err == nil || errors.As(err, &fault):
		return output, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(cause, errTimeUp):
		return nil, &runner.StepError{
			Code: runner.CodeStepTimeout, Retryable: true,
			Message: fmt.Sprintf("%s ran longer than %d ms", job.Entry, c.timeout.Milliseconds()),
		}
	default:
		return nil, crash(errors.Join(err, errWrite), exit)
	}
}

// crash tells what a sandbox that died without an answer died of.
func crash(err error, exit jail.Exit) error {
	says := func(signs ...string) bool {
		for _, sign := range signs {
			if strings.Contains(exit.Stderr, sign) {
				return true
			}
		}
		return false
	}
	switch {
	// As the Go runtime says it, the race detector, which has ENOMEM by its number, and the
	// collector, which does not check all that it allocates.
	case says("out of memory", "cannot allocate memory", "errno=12", "errno: 12", "SIGSEGV: segmentation violation\nPC="):
		return &runner.StepError{Code: runner.CodeMemoryLimit, Message: "the code ran out of memory; use less, or raise config.memoryMb"}
	case says("stack overflow"):
		return &runner.StepError{
			Code: runner.CodeError, Type: "RangeError", Retryable: true,
			Message: "the code or its data is nested too deep",
		}
	default:
		return died("the sandbox died", err, exit)
	}
}

func died(what string, err error, exit jail.Exit) error {
	return fmt.Errorf("%s: %s: %w: %s", what, exit.Reason, err, strings.TrimSpace(exit.Stderr))
}
