// Package script runs the JavaScript of one attempt in this process. It bounds neither
// time nor memory and trusts nothing of the code: it belongs inside a jail.
package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/grafana/sobek"
	"github.com/grafana/sobek/parser"

	"turbocat.io/contracts/runner"
)

// maxCalls is how deep functions may call each other; about what other engines allow.
const maxCalls = 10_000

// Job is one call of one function.
type Job struct {
	Context
	Source []byte `json:"-"`
	Input  []byte `json:"-"` // JSON
	File   string `json:"file"`
	Entry  string `json:"entry"`
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
func Run(job Job, log Logger) (output []byte, fault *runner.StepError) {
	defer func() {
		if cause := recover(); cause != nil {
			output, fault = nil, engineFault(cause)
		}
	}()
	program, fault := compile(job)
	if fault != nil {
		return nil, fault
	}
	h := newHost(log)
	input, err := h.decode(job.Input)
	if err != nil {
		return nil, h.thrown(err)
	}
	if _, err := h.vm.RunProgram(program); err != nil {
		return nil, h.thrown(err)
	}
	handler, fault := h.entry(job)
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

func compile(job Job) (*sobek.Program, *runner.StepError) {
	// Source maps would be read from files.
	tree, err := parser.ParseFile(nil, job.File, string(job.Source), 0, parser.WithDisableSourceMaps)
	if err == nil {
		var program *sobek.Program
		if program, err = sobek.CompileAST(tree, false); err == nil {
			return program, nil
		}
	}
	fault := &runner.StepError{Code: runner.CodeSyntax, Type: "SyntaxError", Message: err.Error()}
	var list parser.ErrorList
	var compiled *sobek.CompilerSyntaxError
	switch {
	case errors.As(err, &list) && len(list) > 0:
		p := list[0].Position
		fault.Message = at(list[0].Message, job.File, p.Line, p.Column)
	case errors.As(err, &compiled) && compiled.File != nil:
		p := compiled.File.Position(compiled.Offset)
		fault.Message = at(compiled.Message, job.File, p.Line, p.Column)
	}
	return nil, fault
}

func at(message, file string, line, column int) string {
	return fmt.Sprintf("%s, in %s line %d column %d", message, file, line, column)
}

var identifier = regexp.MustCompile(`^[\pL_$][\pL\pN_$]*$`)

// entry finds the function that the config names, declared in any way.
func (h *host) entry(job Job) (sobek.Callable, *runner.StepError) {
	found := sobek.Undefined()
	if identifier.MatchString(job.Entry) {
		// A const is no property of the global object: only code sees it.
		if v, err := h.vm.RunString("typeof " + job.Entry + " === 'undefined' ? undefined : " + job.Entry); err == nil {
			found = v
		}
	}
	if handler, ok := sobek.AssertFunction(found); ok {
		return handler, nil
	}
	return nil, &runner.StepError{
		Code:    runner.CodeInvalidConfig,
		Message: fmt.Sprintf("config.entry: %q is not a function of the source; declare function %s(input, context), or name one that is declared", job.Entry, job.Entry),
	}
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
