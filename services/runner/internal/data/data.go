// Package data runs DATA agents: operations over the rows of input.data, alone or one after
// the other. What they take and give stands in docs/agents/data.md.
//
// A row stays the raw JSON it came as for as long as nothing of it changes: numbers, key
// order and spelling survive, and only the fields that an operation names are decoded.
package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/compiled"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/form"
)

// maxBytes bounds what the operations of one run may make, so that a join of everything
// with everything ends as an error and not in memory.
const maxBytes = 64 << 20

// maxPlanText bounds the text of the configs whose plans are kept.
const maxPlanText = 1 << 20

// Executor runs DATA agents.
type Executor struct{ plans *compiled.Cache[plan] }

var _ executor.Interface = (*Executor)(nil)

// New makes an executor.
func New() *Executor {
	return &Executor{plans: compiled.NewCache(maxPlanText, func(config string) (plan, error) {
		p, faults := parse(json.RawMessage(config))
		return p, faults.Err("DATA")
	})}
}

// Run applies the operations of the config to input.data and gives {"data":...,"count":n}.
func (e *Executor) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	p, err := e.plans.Of(string(task.Config))
	if err != nil {
		return nil, err
	}
	limited := ctx
	if p.timeoutMs > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(p.timeoutMs)*time.Millisecond)
		defer cancel()
	}
	out, err := p.run(&work{ctx: limited, input: gjson.Parse(string(task.Input))})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, &runner.StepError{
			Code:      runner.CodeStepTimeout,
			Message:   fmt.Sprintf("the operations took longer than timeoutMs (%d); raise it or hand over fewer rows", p.timeoutMs),
			Retryable: true,
		}
	}
	return out, err
}

// run gives the output of the plan.
func (p plan) run(w *work) (json.RawMessage, error) {
	data, ok := w.named("data")
	if !ok {
		return nil, dataError(`the input has no "data"; give the step an input of that name`)
	}
	if len(p.steps) == 0 && !data.IsArray() && p.in.name == formatJSON && p.out.name == formatJSON {
		return one(data.Raw), nil
	}
	rows, err := p.in.read(w, data)
	if err != nil {
		return nil, err
	}
	for _, s := range p.steps {
		if rows, err = s.apply(w, rows); err != nil {
			return nil, s.explain(err)
		}
	}
	if p.out.name != formatJSON {
		text, err := p.out.write(w, rows)
		if err != nil {
			return nil, err
		}
		return output(len(text), len(rows), func(b []byte) []byte { return appendQuoted(b, text) }), nil
	}
	if p.scalar {
		return one(rows[0]), nil
	}
	size := 2
	for _, row := range rows {
		size += len(row) + 1
	}
	return output(size, len(rows), func(b []byte) []byte { return appendArray(b, rows) }), nil
}

// output gives the output of data that is about so large.
func output(size, count int, data func(b []byte) []byte) json.RawMessage {
	b := make([]byte, 0, size+32)
	b = data(append(b, `{"data":`...))
	b = strconv.AppendInt(append(b, `,"count":`...), int64(count), 10)
	return append(b, '}')
}

func one(data string) json.RawMessage {
	return output(len(data), 1, func(b []byte) []byte { return append(b, data...) })
}

func appendArray(b []byte, rows []string) []byte {
	b = append(b, '[')
	for i, row := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, row...)
	}
	return append(b, ']')
}

// elements gives the elements of an array as raw JSON; false when v is none.
func elements(v gjson.Result) ([]string, bool) {
	if !v.IsArray() {
		return nil, false
	}
	var rows []string
	v.ForEach(func(_, e gjson.Result) bool {
		rows = append(rows, e.Raw)
		return true
	})
	return rows, true
}

// work is one run: what bounds it, and the step's input.
type work struct {
	ctx   context.Context
	input gjson.Result
	found map[string]json.RawMessage // of the input, by what expressions call it; nil for what is not there
	read  int                        // bytes since ctx was looked at
	made  int                        // bytes of new rows
}

// named gives a field of the step's input.
func (w *work) named(name string) (gjson.Result, bool) {
	if !w.input.IsObject() {
		return gjson.Result{}, false
	}
	return member(w.input, name)
}

// others gives the rows of another input.
func (w *work) others(name string) ([]string, error) {
	with, ok := w.named(name)
	if !ok {
		return nil, dataError("the input has no %q; give the step an input of that name", name)
	}
	others, ok := elements(with)
	if !ok {
		return nil, dataError("input.%s must be an array of rows, not %s", name, form.Kind(with))
	}
	return others, nil
}

// reading fails when the run must end; it is called for every row that is looked at.
func (w *work) reading(row string) error {
	if w.read += len(row) + 64; w.read < 256<<10 {
		return nil
	}
	w.read = 0
	return w.ctx.Err()
}

// making fails when the run has made more than it may.
func (w *work) making(n int) error {
	if w.made += n; w.made <= maxBytes {
		return nil
	}
	return &runner.StepError{
		Code:    runner.CodeOutputLimit,
		Message: fmt.Sprintf("needs more than %d MiB for its rows; filter or aggregate before it", maxBytes>>20),
	}
}

// rowFault says which value of which row an operation can not work with.
type rowFault struct {
	of      string // the input that the row stands in, unless it is the rows at hand
	row     int
	field   string
	problem string
}

func (f *rowFault) Error() string {
	of := ""
	if f.of != "" {
		of = " of input." + f.of
	}
	if f.field == "" {
		return fmt.Sprintf("row %d%s: %s", f.row, of, f.problem)
	}
	return fmt.Sprintf("row %d%s field %q: %s", f.row, of, f.field, f.problem)
}

func notAnObject(row int, r gjson.Result) *rowFault {
	return &rowFault{row: row, problem: "the row is " + form.Kind(r) + ", not an object"}
}

// inInput says that the row of a fault stands in another input.
func inInput(name string, err error) error {
	var fault *rowFault
	if errors.As(err, &fault) {
		fault.of = name
	}
	return err
}

// inRow names the row of a fault that was found in it.
func inRow(row int, err error) error {
	var fault *rowFault
	if errors.As(err, &fault) {
		fault.row = row
	}
	return err
}

// explain puts the place of the step before an error of its operation.
func (s step) explain(err error) error {
	var fault *rowFault
	if errors.As(err, &fault) {
		return dataError("%s: %s", s.where, fault)
	}
	var stepError *runner.StepError
	if errors.As(err, &stepError) {
		return &runner.StepError{Code: stepError.Code, Message: s.where + ": " + stepError.Message}
	}
	return err
}

func dataError(format string, args ...any) *runner.StepError {
	return &runner.StepError{Code: runner.CodeDataError, Message: fmt.Sprintf(format, args...)}
}
