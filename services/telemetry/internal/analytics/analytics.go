// Package analytics counts executions and runs of steps, so that figures of any time are read from few rows, however many they are of.
//
// A row of counts is of a subject, of who started what it counts, and of a time: a quarter of an hour, an hour or a day in UTC. What is
// counted belongs to the time in the id of its execution, when that was created; so what is counted of a time is what a list of its executions has.
package analytics

import (
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/telemetry/internal/feed"
)

// Kind is what a subject is.
type Kind int16

// The kinds.
const (
	OfExecutions Kind = iota // all; its subject is Everybody
	OfWorkflow               // executions of a workflow
	OfSteps                  // runs of the steps of a workflow
	OfAgent                  // runs of steps that are an agent's work
)

// Everybody stands for the user of rows that count what all users have started, and for the subject of OfExecutions.
const Everybody = "00000000-0000-0000-0000-000000000000"

// Grain is how long the time of a row is.
type Grain int16

// The grains. Each is a multiple of the one before, and begins where one of that begins.
const (
	Quarter Grain = iota
	Hour
	Day
)

var grains = []Grain{Quarter, Hour, Day}

// Length of the grain.
func (g Grain) Length() time.Duration {
	return [...]time.Duration{15 * time.Minute, time.Hour, 24 * time.Hour}[g]
}

// Key names a row.
type Key struct {
	Kind    Kind
	Subject string
	UserID  string
	StepKey string // of OfSteps
	Grain   Grain
	At      int64 // when its time begins, in seconds of Unix
}

// Counts are sums, so that two of them add up.
type Counts struct {
	Total        int64 `db:"total"`
	Completed    int64 `db:"completed"`
	Failed       int64 `db:"failed"`
	Cancelled    int64 `db:"cancelled"`
	TimedOut     int64 `db:"timed_out"`
	Skipped      int64 `db:"skipped"`
	Retries      int64 `db:"retries"`
	DurationMs   int64 `db:"duration_ms"` // of those that completed
	Calls        int64 `db:"calls"`
	InputTokens  int64 `db:"input_tokens"`
	OutputTokens int64 `db:"output_tokens"`
	CostMicros   int64 `db:"cost_micros"`
}

// Add adds others.
func (c *Counts) Add(o Counts) {
	c.Total += o.Total
	c.Completed += o.Completed
	c.Failed += o.Failed
	c.Cancelled += o.Cancelled
	c.TimedOut += o.TimedOut
	c.Skipped += o.Skipped
	c.Retries += o.Retries
	c.DurationMs += o.DurationMs
	c.Calls += o.Calls
	c.InputTokens += o.InputTokens
	c.OutputTokens += o.OutputTokens
	c.CostMicros += o.CostMicros
}

// Change is what comes to a row.
type Change struct {
	Counts
	Durations []int64 // of those that completed, in ms
}

// Changes are what comes to rows.
type Changes map[Key]*Change

// Of counts events.
func Of(events []feed.Event) Changes {
	changes := Changes{}
	for _, e := range events {
		changes.event(e)
	}
	return changes
}

// types has what an event counts as.
var types = map[string]func(c *Change){
	orchestrator.EventCreated.String():       func(c *Change) { c.Total++ },
	orchestrator.EventCompleted.String():     func(c *Change) { c.Completed++ },
	orchestrator.EventFailed.String():        func(c *Change) { c.Failed++ },
	orchestrator.EventCancelled.String():     func(c *Change) { c.Cancelled++ },
	orchestrator.EventTimedOut.String():      func(c *Change) { c.TimedOut++ },
	orchestrator.EventStepCompleted.String(): func(c *Change) { c.Total++; c.Completed++ },
	orchestrator.EventStepFailed.String():    func(c *Change) { c.Total++; c.Failed++ },
	orchestrator.EventStepSkipped.String():   func(c *Change) { c.Total++; c.Skipped++ },
	orchestrator.EventStepCancelled.String(): func(c *Change) { c.Total++; c.Cancelled++ },
}

func (changes Changes) event(e feed.Event) {
	count, counts := types[e.Type]
	if !counts || e.UserID == "" {
		return
	}
	var c Change
	count(&c)
	if e.StepKey != "" && e.Attempt > 1 {
		c.Retries = int64(e.Attempt - 1)
	}
	if c.Completed > 0 && e.DurationMs != nil {
		ms := max(0, *e.DurationMs)
		c.DurationMs, c.Durations = ms, []int64{ms}
	}
	at := createdAt(e.ExecutionID, e.ID)
	if e.StepKey == "" {
		changes.add(at, e.UserID, OfExecutions, Everybody, "", c)
		changes.add(at, e.UserID, OfWorkflow, e.WorkflowID, "", c)
		return
	}
	changes.add(at, e.UserID, OfSteps, e.WorkflowID, e.StepKey, c)
	changes.add(at, e.UserID, OfAgent, e.AgentID, "", c)
}

// OfCalls counts what calls of models have used.
func OfCalls(calls []orchestrator.SettledCall) Changes {
	changes := Changes{}
	for _, call := range calls {
		c := Change{Counts: Counts{Calls: 1, InputTokens: call.InputTokens, OutputTokens: call.OutputTokens, CostMicros: call.CostMicros}}
		at := createdAt(call.ExecutionID, call.ID)
		changes.add(at, call.UserID, OfExecutions, Everybody, "", c)
		changes.add(at, call.UserID, OfWorkflow, call.WorkflowID, "", c)
		changes.add(at, call.UserID, OfSteps, call.WorkflowID, call.StepKey, c)
		changes.add(at, call.UserID, OfAgent, call.AgentID, "", c)
	}
	return changes
}

// add counts a change for a user and for everybody, in each grain.
func (changes Changes) add(at int64, user string, kind Kind, subject, step string, c Change) {
	if uuid.Validate(subject) != nil || uuid.Validate(user) != nil {
		return // there is nothing that could be asked for
	}
	for _, of := range [...]string{user, Everybody} {
		for _, g := range grains {
			key := Key{Kind: kind, Subject: subject, UserID: of, StepKey: step, Grain: g, At: at - at%int64(g.Length()/time.Second)}
			sum := changes[key]
			if sum == nil {
				sum = &Change{}
				changes[key] = sum
			}
			sum.Add(c.Counts)
			sum.Durations = append(sum.Durations, c.Durations...)
		}
	}
}

// createdAt gives the time in the id of an execution, in seconds; when that has none, in the id of what happened to it.
func createdAt(execution, otherwise string) int64 {
	for _, text := range [...]string{execution, otherwise} {
		if id, err := uuid.Parse(text); err == nil && id.Version() == 7 {
			var ms int64
			for _, b := range id[:6] {
				ms = ms<<8 | int64(b)
			}
			return ms / 1000
		}
	}
	return 0
}
