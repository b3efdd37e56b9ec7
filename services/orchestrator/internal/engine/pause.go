package engine

import "turbocat.io/contracts/orchestrator"

// pause keeps steps from starting. What runs goes on, and clocks do.
func (a *applier) pause() {
	if s := a.x.Status; s != orchestrator.ExecutionRunning && s != orchestrator.ExecutionPending {
		return
	}
	a.created()
	a.x.Status = orchestrator.ExecutionPaused
	a.emit(orchestrator.EventPaused, orchestrator.ExecutionEvent{Status: a.x.Status})
}

// resume starts what came due meanwhile.
func (a *applier) resume() {
	x := a.x
	if x.Status != orchestrator.ExecutionPaused {
		return
	}
	if x.StartedAt == 0 {
		x.Status = orchestrator.ExecutionPending
		a.emit(orchestrator.EventResumed, orchestrator.ExecutionEvent{Status: x.Status})
		if x.Slot != SlotWaiting {
			a.submitted()
		}
		return
	}
	x.Status = orchestrator.ExecutionRunning
	a.emit(orchestrator.EventResumed, orchestrator.ExecutionEvent{Status: x.Status})
	for i := range x.Steps {
		switch s := &x.Steps[i]; {
		case s.Status == orchestrator.StepPending && s.waiting == 0:
			a.queue = append(a.queue, i)
		case s.Status == orchestrator.StepRunning && x.Definition.Steps[i].FansOut():
			a.fans = append(a.fans, i)
		}
	}
	a.timerDue()
}
