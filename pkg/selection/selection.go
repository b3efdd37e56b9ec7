// Package selection says which events somebody wants: those of some types for which a filter holds.
package selection

import (
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/form"
)

const (
	maxTypes = 50
	maxType  = 200
)

// Events are the events that somebody wants, as they are written.
type Events struct {
	EventTypes []string // of which an event is one; beginnings of types end in *; none for all
	Filter     string   // an expression over the event; "" for all
}

// Read reads the fields eventTypes and filter, and notes what is wrong with them. possible tells whether there can be events of a type, or of types that begin so.
func (e *Events) Read(o form.Object, possible func(wanted string) bool, faults *form.Faults) {
	var types []string
	if o.Strings("eventTypes", &types, maxTypes, 1, maxType); o.Has("eventTypes") && types != nil {
		e.EventTypes = types
		for i, t := range types {
			if !possible(t) {
				faults.Add(form.At("eventTypes", i), errs.BadEnum, "is %s, of which no event is; give a type of GET /event-types, or its beginning with * at the end, or a type of your own events, which begins in another way", form.Quote(t))
			}
		}
	}
	if o.String("filter", &e.Filter, "", 0, expr.MaxLength); e.Filter != "" {
		if _, err := expr.CompileEvent(e.Filter); err != nil {
			faults.Add("filter", errs.BadExpression, "%s", err)
		}
	}
}

// Selector tells which events are wanted. It is immutable.
type Selector struct {
	types  []string
	filter *expr.Expression
}

// Compile makes a selector. The filter of what Read has read compiles.
func (e Events) Compile() (Selector, error) {
	s := Selector{types: e.EventTypes}
	if e.Filter == "" {
		return s, nil
	}
	var err error
	s.filter, err = expr.CompileEvent(e.Filter)
	return s, err
}

// Wants tells whether an event is wanted; it is not when the filter can not be computed for it.
func (s Selector) Wants(eventType string, body json.RawMessage) (bool, error) {
	wanted := len(s.types) == 0
	for _, t := range s.types {
		wanted = wanted || event.Matches(t, eventType)
	}
	if !wanted || s.filter == nil {
		return wanted, nil
	}
	holds, err := s.filter.Holds(expr.OfEvent(body))
	if err != nil {
		return false, fmt.Errorf("%s: %w", eventType, err)
	}
	return holds, nil
}
