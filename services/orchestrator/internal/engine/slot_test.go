package engine_test

import (
	"testing"

	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

// stands gives an execution that has seen no input and stands so to its limit.
func stands(t *testing.T, slot engine.Slot) *flow {
	t.Helper()
	f := accept(t, workflow(step("a", nil), step("b", on("a"))))
	f.x.Slot, f.rows.accepted.Slot = slot, slot
	return f
}

// A queued execution can be paused and resumed, and begins only once it holds a slot.
func TestAQueuedExecutionBeginsWithItsSlot(t *testing.T) {
	f := stands(t, engine.SlotWaiting)
	f.signal("early", `1`)
	f.pause()
	f.expect("PAUSED: a PENDING, b PENDING")
	f.resume()
	f.expect("PENDING: a PENDING, b PENDING")
	f.expectReady("")
	f.apply(engine.Input{Kind: engine.TimerDue})
	f.expectNothing()
	f.apply(engine.Input{Kind: engine.Submitted})
	f.expect("RUNNING: a RUNNING, b PENDING")
	f.expectReady("a")
	f.expectEvents("created", "paused", "resumed", "started", "step_started a")
}

// One that gets its slot while it is paused begins when it is resumed.
func TestASlotThatComesDuringAPause(t *testing.T) {
	f := stands(t, engine.SlotWaiting)
	f.pause()
	f.apply(engine.Input{Kind: engine.Submitted})
	f.expect("PAUSED: a PENDING, b PENDING")
	f.expectEvents("created", "paused")
	f.apply(engine.Input{Kind: engine.Submitted})
	f.expectNothing()
	f.resume()
	f.expect("RUNNING: a RUNNING, b PENDING")
	f.apply(engine.Input{Kind: engine.Submitted})
	f.expectNothing()
}

func TestAQueuedExecutionIsCancelled(t *testing.T) {
	f := stands(t, engine.SlotWaiting)
	f.cancel()
	f.expect("CANCELLED: a CANCELLED, b CANCELLED")
	f.apply(engine.Input{Kind: engine.Submitted})
	f.expectNothing()
	if f.x.Error != nil {
		t.Errorf("it has the error %v", f.x.Error)
	}
}

// One that found no room ends by whatever comes first.
func TestADroppedExecutionEnds(t *testing.T) {
	for name, in := range map[string]engine.Input{
		"submitted": {Kind: engine.Submitted}, "cancel": {Kind: engine.Cancel, Command: "c"}, "pause": {Kind: engine.Pause, Command: "c"}, "timer": {Kind: engine.TimerDue},
	} {
		t.Run(name, func(t *testing.T) {
			f := stands(t, engine.SlotDropped)
			f.apply(in)
			f.expect("CANCELLED: a CANCELLED, b CANCELLED")
			f.expectEvents("created", "step_cancelled a", "step_cancelled b", "cancelled")
			if e := f.told(3).Error; f.x.Error == nil || f.x.Error.Code != runner.CodeConcurrency || e == nil || e.Code != runner.CodeConcurrency {
				t.Errorf("its error is %+v, its event's %+v", f.x.Error, e)
			}
			f.apply(engine.Input{Kind: engine.Submitted})
			f.expectNothing()
		})
	}
}
