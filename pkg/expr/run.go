package expr

import (
	"errors"

	"turbocat.io/pkg/template"
)

// eval computes a part of an expression. A list or object that it gives is never changed.
type eval func(*run) (any, error)

// run is one evaluation.
type run struct {
	lookup Lookup
	paths  []template.Path
	values []any  // of the paths
	known  []bool // which of them are looked up
	slots  []any  // of local variables
	left   int    // steps
}

var errTooCostly = errors.New("is too costly; let it work on less, or compute a part of it in a step")

// spend counts n steps before they are made. Once they are used up it always fails.
func (r *run) spend(n int) error {
	if n > r.left || n < 0 {
		r.left = 0
		return errTooCostly
	}
	r.left -= n
	return nil
}

// spendBytes counts text or JSON that is read or made.
func (r *run) spendBytes(n int) error { return r.spend(n/8 + 1) }

// value looks the path up.
func (r *run) value(path int) (any, error) {
	if r.known[path] {
		return r.values[path], nil
	}
	r.known[path] = true
	raw, ok := r.lookup(r.paths[path])
	if !ok {
		return nil, nil
	}
	v, err := r.decode(raw)
	if err != nil {
		return nil, err
	}
	r.values[path] = v
	return v, nil
}
