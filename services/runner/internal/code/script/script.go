// Package script runs the JavaScript of one attempt in this process. It bounds neither
// time nor memory and trusts nothing of the code: it belongs inside a jail.
package script

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/sobek"

	"turbocat.io/contracts/runner"
)

// maxCalls is how deep functions may call each other; about what other engines allow.
const maxCalls = 10_000

// Job is one call of one function.
type Job struct {
	Context
	Files      []File `json:"-"`
	Input      []byte `json:"-"`          // JSON
	Main       string `json:"main"`       // the file that has the function
	TypeScript bool   `json:"typescript"` // of a file whose name does not tell
	Entry      string `json:"entry"`
}

// File is one of the files of the code.
type File struct {
	Name string
	Text []byte
}

// Context is what the function learns of the attempt it runs in.
type Context struct {
	ExecutionID    string `json:"executionId"`
	StepKey        string `json:"stepKey"`
	Attempt        int    `json:"attempt"`
	IdempotencyKey string `json:"idempotencyKey"`
	// Secrets that the config names, by name.
	Secrets map[string]string `json:"secrets"`
}

// Logger takes what the code writes to the console, a line a call, in order.
type Logger func(level, message string)

// Run runs the job to its end and gives the function's result as JSON, or why there is none.
func Run(job Job, log Logger, network Network) (output []byte, fault *runner.StepError) {
	defer func() {
		if cause := recover(); cause != nil {
			output, fault = nil, engineFault(cause)
		}
	}()
	h := newHost(log, network)
	input, err := h.decode(job.Input)
	if err != nil {
		return nil, h.thrown(err)
	}
	handler, fault := h.load(job)
	if fault != nil {
		return nil, fault
	}
	result, err := handler(sobek.Undefined(), input, h.context(job.Context))
	if err == nil {
		result, err = h.settle(result)
	}
	h.warnOfRejections()
	if err != nil {
		return nil, h.thrown(err)
	}
	return h.encode(result)
}

// encode gives v as JSON. Undefined is null; in objects, functions are left out, as JavaScript has it.
func (h *host) encode(v sobek.Value) ([]byte, *runner.StepError) {
	if sobek.IsUndefined(v) {
		return []byte("null"), nil
	}
	text, err := h.stringify(sobek.Undefined(), v)
	if err != nil {
		fault := h.thrown(err)
		fault.Code, fault.Retryable = runner.CodeInvalidOutput, false
		fault.Message = "the result is no JSON: " + fault.Message
		return nil, fault
	}
	if !sobek.IsString(text) {
		return nil, &runner.StepError{Code: runner.CodeInvalidOutput, Message: fmt.Sprintf("the result is a %s, which is no JSON; return data", typeName(v))}
	}
	output := []byte(text.String())
	if len(output) > runner.MaxOutput {
		return nil, &runner.StepError{
			Code:    runner.CodeOutputLimit,
			Message: fmt.Sprintf("the output has %d bytes of JSON, more than %d; return less", len(output), runner.MaxOutput),
		}
	}
	if !json.Valid(output) {
		return nil, &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the result is no JSON, or nested deeper than 10000; return flatter data"}
	}
	return output, nil
}
