package engine

import "slices"

// Bare gives a copy of a state without what is only remembered of it, and without a difference between none and no list.
func Bare(x *Execution) *Execution {
	c := *x
	c.Payloads = nil // a function
	c.Steps = slices.Clone(x.Steps)
	for i := range c.Steps {
		s := &c.Steps[i]
		s.items = nil
		if len(s.Items) == 0 {
			s.Items = nil
		}
	}
	if len(c.Signals) == 0 {
		c.Signals = nil
	}
	return &c
}
