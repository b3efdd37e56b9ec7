// Package data runs DATA agents: filter, map, sort, group, aggregate, pick, join and
// pipelines of them over the rows of input.data.
//
// A row stays the raw JSON it came as for as long as nothing of it changes: numbers, key
// order and spelling survive, and only the fields that an operation names are decoded.
package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/agent"
	"turbocat.io/services/runner/internal/form"
)

// maxBytes bounds what the operations of one run may make, so that a join of everything
// with everything ends as an error and not in memory.
const maxBytes = 64 << 20

// Executor runs DATA agents.
type Executor struct{}

var _ agent.Executor = Executor{}

// Run applies the operations of the config to input.data and gives {"data":...,"count":n}.
func (Executor) Run(ctx context.Context, task agent.Task) (json.RawMessage, error) {
	p, faults := parse(task.Config)
	if err := faults.Err("DATA"); err != nil {
		return nil, err
	}
	if !json.Valid(task.Input) {
		return nil, dataError("the input is not valid JSON")
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
	if len(p.steps) == 0 && !data.IsArray() {
		return object(data.Raw, 1), nil
	}
	rows, ok := elements(data)
	if !ok {
		return nil, dataError("%s: input.data must be an array of rows, not %s", p.steps[0].where, form.Kind(data))
	}
	for _, s := range p.steps {
		var err error
		if rows, err = s.apply(w, rows); err != nil {
			return nil, s.explain(err)
		}
	}
	if p.scalar {
		return object(rows[0], 1), nil
	}
	size := 2
	for _, row := range rows {
		size += len(row) + 1
	}
	var all bytes.Buffer
	all.Grow(size)
	writeArray(&all, rows)
	return object(all.String(), len(rows)), nil
}

func object(data string, count int) json.RawMessage {
	b := make([]byte, 0, len(data)+32)
	b = append(b, `{"data":`...)
	b = append(b, data...)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, int64(count), 10)
	return append(b, '}')
}

func writeArray(b *bytes.Buffer, rows []string) {
	b.WriteByte('[')
	for i, row := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(row)
	}
	b.WriteByte(']')
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
	read  int // bytes since ctx was looked at
	made  int // bytes of new rows
}

// named gives a field of the step's input.
func (w *work) named(name string) (gjson.Result, bool) {
	if !w.input.IsObject() {
		return gjson.Result{}, false
	}
	return member(w.input, name)
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
