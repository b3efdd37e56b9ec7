package script

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/grafana/sobek"

	"turbocat.io/contracts/runner"
)

// Longest texts of a fault, in bytes.
const (
	maxMessage = 8 << 10
	maxType    = 256
	maxStack   = 16 << 10
)

const cutMark = "... (cut)"

// thrown gives what the code threw, or what the engine threw at the code, as a fault.
func (h *host) thrown(err error) *runner.StepError {
	var (
		overflow  *sobek.StackOverflowError
		exception *sobek.Exception
		rejected  rejection
	)
	switch {
	case errors.As(err, &overflow):
		return &runner.StepError{
			Code: runner.CodeError, Type: "RangeError", Retryable: true,
			Message: fmt.Sprintf("functions called each other more than %d deep; recursion that does not end?", maxCalls),
			Stack:   clip("RangeError\n"+frames(overflow.Stack()), maxStack, cutMark),
		}
	case errors.As(err, &exception):
		fault := h.describe(exception.Value())
		if fault.Stack == "" {
			fault.Stack = clip(frames(exception.Stack()), maxStack, cutMark)
		}
		return fault
	case errors.As(err, &rejected):
		return h.describe(rejected.reason)
	case errors.Is(err, errNeverSettles):
		return &runner.StepError{Code: runner.CodeError, Type: "Error", Message: err.Error()}
	default:
		return &runner.StepError{Code: runner.CodeError, Type: "Error", Message: clip(err.Error(), maxMessage, cutMark), Retryable: true}
	}
}

// describe reads a thrown value. What the value's own getters throw counts as absent.
func (h *host) describe(v sobek.Value) *runner.StepError {
	fault := &runner.StepError{Code: runner.CodeError, Retryable: true, Type: typeName(v)}
	object, ok := v.(*sobek.Object)
	if !ok {
		fault.Message = clip(v.String(), maxMessage, cutMark)
		return fault
	}
	fault.Message = h.text(object, "message")
	if fault.Message == "" && object.ClassName() != "Error" {
		fault.Message = h.show(v)
	}
	if constructor, ok := h.property(object, "constructor").(*sobek.Object); ok {
		fault.Type = h.text(constructor, "name")
	}
	if fault.Type == "" {
		fault.Type = "Error"
	}
	fault.Message = clip(fault.Message, maxMessage, cutMark)
	fault.Type = clip(fault.Type, maxType, cutMark)
	fault.Stack = clip(cleanStack(h.text(object, "stack")), maxStack, cutMark)
	if retryable := h.property(object, "retryable"); retryable != nil && retryable.StrictEquals(h.vm.ToValue(false)) {
		fault.Retryable = false
	}
	return fault
}

func (h *host) property(object *sobek.Object, name string) (v sobek.Value) {
	_ = h.vm.Try(func() { v = object.Get(name) })
	return v
}

// text gives a property as text, and "" for one that is absent or no text: the engine
// keeps the 1 of new Error(1) as a number.
func (h *host) text(object *sobek.Object, name string) string {
	v := h.property(object, name)
	if v != nil && (sobek.IsString(v) || sobek.IsNumber(v)) {
		return v.String()
	}
	return ""
}

func typeName(v sobek.Value) string {
	switch {
	case sobek.IsUndefined(v):
		return "undefined"
	case sobek.IsNull(v):
		return "null"
	case sobek.IsString(v):
		return "string"
	case sobek.IsNumber(v):
		return "number"
	case sobek.IsBigInt(v):
		return "bigint"
	}
	switch v := v.(type) {
	case *sobek.Symbol:
		return "symbol"
	case *sobek.Object:
		if _, ok := sobek.AssertFunction(v); ok {
			return "function"
		}
		return "object"
	default:
		return "boolean"
	}
}

// offset is where in the engine's code a line of its stacks stands: the 12 of
// "\tat f (handler.js:3:9(12))". It tells the author nothing.
var offset = regexp.MustCompile(`(:\d+:\d+)\(\d+\)`)

func cleanStack(stack string) string {
	stack = offset.ReplaceAllString(stack, "$1")
	return strings.TrimSpace(strings.ReplaceAll(stack, "\n\tat ", "\n    at "))
}

func frames(stack []sobek.StackFrame) string {
	var lines strings.Builder
	for _, frame := range stack {
		if position := frame.Position(); position.Line > 0 {
			fmt.Fprintf(&lines, "    at %s (%s:%d:%d)\n", frame.FuncName(), position.Filename, position.Line, position.Column)
		}
	}
	return strings.TrimRight(lines.String(), "\n")
}

// engineFault gives a panic of the engine as a fault. Asking for more elements than any
// memory holds is one; it comes before the limit of the jail is reached.
func engineFault(cause any) *runner.StepError {
	message := fmt.Sprint(cause)
	for _, sign := range []string{"makeslice", "out of memory", "too large", "Repeat"} {
		if strings.Contains(message, sign) {
			return &runner.StepError{Code: runner.CodeMemoryLimit, Message: "the code asked for a single value larger than any memory"}
		}
	}
	return &runner.StepError{Code: runner.CodeError, Type: "InternalError", Retryable: true, Message: clip("the JavaScript engine failed: "+message, maxMessage, cutMark)}
}
