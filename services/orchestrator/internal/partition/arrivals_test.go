package partition

import (
	"strconv"
	"testing"

	"github.com/rs/zerolog"

	"turbocat.io/services/orchestrator/internal/engine"
)

func TestArrivals(t *testing.T) {
	t.Parallel()
	x := &engine.Execution{ID: "x"}
	var a arrivals
	a.expect("x")(x)
	if a.take("x") != x || a.take("x") != nil {
		t.Error("what has arrived is to be taken once")
	}
	late := a.expect("x")
	if a.take("x") != nil {
		t.Error("it has not arrived yet")
	}
	if late(x); a.take("x") != nil || len(a.expected) != 0 {
		t.Error("what was read meanwhile is to arrive no more")
	}
	if a.expect("x")(nil); len(a.expected) != 0 {
		t.Error("what is not accepted is to be forgotten")
	}
	if a.expect("x")(&engine.Execution{ID: "x", Inputs: make([]byte, maxArrival+1)}); len(a.expected) != 0 {
		t.Error("what is large is to be forgotten")
	}
	for n := range maxArrivals {
		a.expect(strconv.Itoa(n))(x)
	}
	if a.expect("x")(x); a.take("x") != nil || len(a.expected) != maxArrivals {
		t.Error("more than maxArrivals are kept")
	}
}

// An execution that came into memory by another way, such as the ledger, is not to be taken again for one that has just been accepted.
func TestWhatIsReadArrivesNoMore(t *testing.T) {
	t.Parallel()
	r := newRun(shell{log: zerolog.Nop()}, Position{}, nil, nil, nil)
	x := engine.New(engine.Execution{ID: "x"}, &engine.Definition{})
	r.arrivals.expect("x")(x)
	r.admit(t.Context(), Loaded{Execution: x})
	if r.arrivals.take("x") != nil {
		t.Error("it has still arrived")
	}
}
