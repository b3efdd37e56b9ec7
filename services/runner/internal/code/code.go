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
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/python"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
)

// Config says how sandboxes are started.
type Config struct {
	// Program is the absolute path of a program whose main begins with Main; this one when empty.
	Program string
	// Client is what code fetches with, to be one of guard.NewClient.
	Client *http.Client
	// Host is how the processes of code stand among others.
	Host jail.Host
	// MaxMemoryMb is the most that an agent's memoryMb may be here; 0 for what any may have.
	MaxMemoryMb int64
	// Python is the path of an interpreter; the one at a usual place when empty.
	Python string
}

var errTimeUp = errors.New("the code's time is up")

// Executor runs attempts of CODE agents. It is safe for concurrent use.
type Executor struct {
	client        *http.Client
	maxMemoryMb   uint64   // 0 for no bound
	scripts       *nursery // of JavaScript and TypeScript
	missing       error    // why this host can not jail, if so
	python        *nursery
	pythonMissing error // why it can not run Python, if so
}

// New gives an Executor, and tries once whether this host can jail code, and has a Python to be jailed; Available and PythonAvailable tell.
// It fails only for a wrong Config.
func New(cfg Config) (*Executor, error) {
	program := "/proc/self/exe"
	if cfg.Program != "" {
		if !filepath.IsAbs(cfg.Program) {
			return nil, fmt.Errorf("code.Config.Program: %q is no absolute path; give one, or leave it empty", cfg.Program)
		}
		program = cfg.Program
	}
	e := &Executor{client: cfg.Client, maxMemoryMb: uint64(max(cfg.MaxMemoryMb, 0))}
	e.scripts = newNursery(func() (*jail.Child, error) { return cfg.Host.Start(program, sandboxWord) })
	if e.missing = e.scripts.probe(limits(config{memoryMb: 128})); e.missing != nil {
		e.pythonMissing = e.missing
		return e, nil
	}
	e.pythonMissing = e.findPython(cfg, program)
	return e, nil
}

// findPython makes the nursery of Python, or tells why there is none.
func (e *Executor) findPython(cfg Config, program string) error {
	found, err := python.Find(cfg.Python, python.Bounds{
		MaxLine: script.MaxLine, MaxLines: maxLines, MaxOutput: runner.MaxOutput,
		MaxFetches: script.MaxFetches, MaxFetchesAtOnce: script.MaxFetchesAtOnce, MaxFetchBody: script.MaxFetchBody,
	})
	if err != nil {
		return err
	}
	e.python = newNursery(func() (*jail.Child, error) { return cfg.Host.StartProgram(program, found) })
	return e.python.probe(limits(config{runtime: catalog.RuntimePython, memoryMb: minMemoryMb}))
}

// Available gives nil, or why this host can not run CODE.
func (e *Executor) Available() error { return e.missing }

// PythonAvailable gives nil, or why this host can not run Python.
func (e *Executor) PythonAvailable() error { return e.pythonMissing }

// nurseryOf gives where the sandboxes of a runtime come from, or a *runner.StepError.
func (e *Executor) nurseryOf(runtime string) (*nursery, error) {
	missing, what, from := e.missing, "code", e.scripts
	if runtime == catalog.RuntimePython {
		missing, what, from = e.pythonMissing, "Python", e.python
	}
	if missing != nil {
		return nil, &runner.StepError{
			Code: runner.CodeNoSandbox, Retryable: true,
			Message: "this runner can not jail " + what + ", so it runs none: " + missing.Error(),
		}
	}
	return from, nil
}

// Run implements executor.Interface.
func (e *Executor) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	c, faults := parse(task.Config)
	if err := faults.Err("CODE"); err != nil {
		return nil, err
	}
	if e.maxMemoryMb > 0 && c.memoryMb > e.maxMemoryMb {
		return nil, &runner.StepError{Code: runner.CodeInvalidConfig, Message: fmt.Sprintf("memoryMb is %d, and this runner gives code at most %d; lower it, or name a pool of larger runners in config.runner", c.memoryMb, e.maxMemoryMb)}
	}
	from, err := e.nurseryOf(c.runtime)
	if err != nil {
		return nil, err
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
	s, err := from.take(ctx, limits(c))
	if err != nil {
		return nil, err
	}
	defer from.replace(s)
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
	case exit.Starved:
		return nil, outOfMemory()
	case c.runtime == catalog.RuntimePython:
		return nil, ended(err, exit)
	default:
		return nil, crash(errors.Join(err, errWrite), exit)
	}
}

// ended tells of an interpreter that ended without an answer, or wrote something else where answers go. It runs nothing but the code, which can do both.
func ended(err error, exit jail.Exit) error {
	message := "the code ended its process: " + exit.Reason
	if errors.Is(err, frame.ErrBroken) {
		message = "the code wrote to a descriptor that is not its own: " + err.Error()
	}
	if said := strings.TrimSpace(exit.Stderr); said != "" {
		message += ": " + said
	}
	return &runner.StepError{Code: runner.CodeError, Message: strings.ToValidUTF8(message, "\uFFFD"), Retryable: true}
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
		return outOfMemory()
	case says("stack overflow"):
		return &runner.StepError{
			Code: runner.CodeError, Type: "RangeError", Retryable: true,
			Message: "the code or its data is nested too deep",
		}
	default:
		return died("the sandbox died", err, exit)
	}
}

func outOfMemory() error {
	return &runner.StepError{Code: runner.CodeMemoryLimit, Message: "the code ran out of memory; use less, or raise config.memoryMb"}
}

func died(what string, err error, exit jail.Exit) error {
	return fmt.Errorf("%s: %s: %w: %s", what, exit.Reason, err, strings.TrimSpace(exit.Stderr))
}
