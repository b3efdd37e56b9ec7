package code

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/executor"
)

const (
	maxLines   = 10_000 // log lines of an attempt
	maxFailure = 1 << 20
)

// answers are the frames a sandbox may send.
var answers = frame.Limits{
	frame.Ready:   0,
	frame.Jailed:  0,
	frame.Log:     1 + script.MaxLine,
	frame.Output:  runner.MaxOutput,
	frame.Failure: maxFailure,
	frame.Fetch:   headSize + maxRequestHead + script.MaxFetchBody,
	frame.Abort:   4,
}

// faults are the codes that a sandbox may give.
var faults = []string{
	runner.CodeError, runner.CodeSyntax, runner.CodeInvalidConfig,
	runner.CodeInvalidOutput, runner.CodeOutputLimit, runner.CodeMemoryLimit,
}

// await reads the next frame, which is to be of the kind.
func await(frames *frame.Reader, kind frame.Kind) ([]byte, error) {
	got, body, err := frames.Next()
	if err == nil && got != kind {
		err = fmt.Errorf("%w: kind %q instead of %q", frame.ErrBroken, byte(got), byte(kind))
	}
	return body, err
}

// converse hands on the log lines of a sandbox, and has fetched what it asks for, until it ends with an output
// or a *runner.StepError. Any other error means that the sandbox died or breaks the rules.
func converse(frames *frame.Reader, log executor.Logger, made *calls) (json.RawMessage, error) {
	lines := 0
	for {
		kind, body, err := frames.Next()
		if err != nil {
			return nil, err
		}
		switch kind {
		case frame.Log:
			lines++
			if err := logLine(body, lines, log); err != nil {
				return nil, err
			}
		case frame.Fetch:
			if err := made.begin(body); err != nil {
				return nil, err
			}
		case frame.Abort:
			if err := made.abort(body); err != nil {
				return nil, err
			}
		case frame.Output:
			if !json.Valid(body) {
				return nil, fmt.Errorf("%w: the output is no JSON", frame.ErrBroken)
			}
			return body, nil
		case frame.Failure:
			return nil, failure(body)
		default:
			return nil, fmt.Errorf("%w: kind %q while it ran", frame.ErrBroken, byte(kind))
		}
	}
}

func logLine(body []byte, number int, log executor.Logger) error {
	if len(body) == 0 || levels[body[0]] == "" {
		return fmt.Errorf("%w: a log line has no level", frame.ErrBroken)
	}
	switch {
	case number <= maxLines:
		log(levels[body[0]], "console", strings.ToValidUTF8(string(body[1:]), "\uFFFD"))
		return nil
	case number == maxLines+1:
		log("WARN", "engine", fmt.Sprintf("the code wrote more than %d lines; the rest of this attempt is dropped", maxLines))
		return nil
	default:
		return fmt.Errorf("%w: more log lines than it may send", frame.ErrBroken)
	}
}

func failure(body []byte) error {
	var fault runner.StepError
	if err := json.Unmarshal(body, &fault); err != nil {
		return errors.Join(frame.ErrBroken, err)
	}
	if !slices.Contains(faults, fault.Code) {
		return fmt.Errorf("%w: a failure has the code %q", frame.ErrBroken, fault.Code)
	}
	fault.StepKey = ""
	return &fault
}
