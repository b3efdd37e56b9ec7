package work

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/rawjson"
)

// maxErrorText bounds the message and the stack of a StepError, in bytes.
const maxErrorText = 64 << 10

// faultOf gives err, of whatever kind, as the StepError that is reported.
func faultOf(err error) *runner.StepError {
	var fault *runner.StepError
	if !errors.As(err, &fault) {
		return &runner.StepError{Code: runner.CodeInternal, Message: "the runner failed while it ran the step; try again", Retryable: true}
	}
	bounded := *fault
	bounded.Message, bounded.Stack = cut(fault.Message), cut(fault.Stack)
	return &bounded
}

func timedOut(timeout time.Duration) *runner.StepError {
	return &runner.StepError{
		Code: runner.CodeStepTimeout, Retryable: true,
		Message: fmt.Sprintf("the step ran longer than %d ms", timeout.Milliseconds()),
	}
}

func lost() *runner.StepError {
	return &runner.StepError{
		Code: runner.CodeRunnerLost, Retryable: true,
		Message: fmt.Sprintf("%d runners took the step and none answered; it may be what ends them", MaxDeliveries-1),
	}
}

// checkOutput tells whether an executor's output may be a step's result.
func checkOutput(output []byte) error {
	if len(output) > runner.MaxOutput {
		return &runner.StepError{
			Code:    runner.CodeOutputLimit,
			Message: fmt.Sprintf("the output has %d bytes, more than %d; return less", len(output), runner.MaxOutput),
		}
	}
	if fault := rawjson.FaultBy(valid, output); fault != "" {
		return &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the output " + fault}
	}
	return nil
}

// cut shortens s to maxErrorText without splitting a character.
func cut(s string) string {
	if len(s) <= maxErrorText {
		return s
	}
	end := maxErrorText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
