// Package promises checks what Turbocat promises of every execution, whatever happened to its processes and
// servers. It computes with collected facts alone: tests collect them, from outside as clients do and, where they
// can, from the ledger, the streams and the processes themselves.
package promises

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/callbook"
)

// Facts is everything that is known after a load. What is nil or empty was not looked at.
type Facts struct {
	Executions []Execution
	Calls      []callbook.Call // made by their steps, in the order in which they came
	Faults     []Fault
	Gentle     bool           // none of them killed or cut off anything, so no attempt may be made in vain
	Totals     map[string]int // executions by status, as the API counts them; "" has all
	Counted    map[string]int // what analytics count of each of CountedTypes
	Ledger     *Ledger
	Streams    *Streams
	Feeds      []Told // of all users, in the order of each
	Processes  []Process
}

// Fault is something that was done to the installation.
type Fault struct {
	What     string
	From, To time.Time
}

// Execution is one that was accepted.
type Execution struct {
	ID         string
	AcceptedAt time.Time // when its client was told
	TimeoutMs  int64     // of its workflow
	Plan       []Step    // of its workflow
	ParentID   string    // the execution whose step it is an attempt of; "" for none
	RerunOf    string    // the execution whose results its reused steps have; "" for none
	Status     string    // that it must end with; "" for any
	Outputs    string    // that it must end with, as JSON; "" for any
	Readings   []Reading // from the first to the last; those without news may be left out
	Replay     []Event   // the history, read after the end
	Followed   []Event   // as a client was told while it ran; nil when none followed
}

// Step is a step as its workflow has it.
type Step struct {
	Key       string
	DependsOn []string
	Calls     map[string]int // what its attempts, or those of its items, call in the book; with the item, 0 for the step itself
	Waits     time.Duration  // that it takes at least
	Attempts  int            // that it takes when nothing fails for other reasons; 0 for any
	Items     int            // that must have completed when it has
	Child     bool           // its attempts are executions
	Reused    bool           // it has the result of another execution, and is not run
	Status    string         // that it must end with; "" for any
}

// Reading is an execution as the API showed it.
type Reading struct {
	At time.Time // when the answer was there
	orchestrator.Execution
}

// Event is a public event.
type Event struct {
	ID, Type  string
	Execution string
	Seq       uint64
	P         int
	N         uint64
	At        time.Time
	Status    string
	StepKey   string
	Attempt   int
	Iteration int       // of an item that is tried again
	Until     time.Time // when the next attempt begins, or the wait is over; zero for neither
}

// ParseEvent reads an event as it is stored, published and streamed.
func ParseEvent(body []byte) (Event, error) {
	var e struct {
		ID, Type, Subject string
		Time              time.Time
		P                 int
		N                 string
		Data              orchestrator.ExecutionEvent
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, fmt.Errorf("an event does not decode: %w: %s", err, body)
	}
	n, err := strconv.ParseUint(e.N, 10, 64)
	if err != nil || e.Subject != e.Data.ExecutionID {
		return Event{}, fmt.Errorf("an event without a number, or of two executions: %s", body)
	}
	found := Event{
		ID: e.ID, Type: e.Type, Execution: e.Subject, Seq: e.Data.Seq, P: e.P, N: n, At: e.Time,
		Status: e.Data.Status, StepKey: e.Data.StepKey, Attempt: e.Data.Attempt, Iteration: e.Data.Iteration,
	}
	if e.Data.Until != nil {
		found.Until = *e.Data.Until
	}
	return found, nil
}

// Told is an event in the feed of a user.
type Told struct {
	UserID string
	Cursor uint64
	Event
}

// Ledger is what the orchestrator's schema has after the end. That it agrees with itself is checked by package verify.
type Ledger struct {
	Statuses map[string]string // of all executions, by id
	Events   []Event           // of all, by partition and number
	Living   int               // orchestrators that say that they live
	Running  int               // that do
}

// Streams is what JetStream has after the end.
type Streams struct {
	Unacked   int     // steps that are with a runner
	Published []Event // in EVENTS, in their order there
	Lost      bool    // the store was lost, so that EVENTS lacks what came before
}

// Process is what a process of the installation holds, before the load and after its end.
type Process struct {
	Name         string
	Before, Then Figures
}

// Figures are of one process; -1 is not known.
type Figures struct {
	Goroutines  int
	Resident    int // bytes
	Descriptors int // but for these connections
	NATS        int
	Postgres    int
	Redis       int
}
