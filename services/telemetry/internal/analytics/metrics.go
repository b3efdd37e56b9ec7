package analytics

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
)

// Series are the rows of a subject that count what one user has started, or everybody.
type Series struct {
	Kind            Kind
	Subject, UserID string
}

// Store has the rows.
type Store interface {
	// Rows gives the rows that parts of a time are made of.
	Rows(ctx context.Context, of Series, parts []Part, add func(bucket int, stepKey string, r Row) error) error
}

// Metrics answers with figures.
type Metrics struct {
	store Store
	now   func() time.Time
}

// NewMetrics makes one that reads from a store.
func NewMetrics(store Store, now func() time.Time) *Metrics { return &Metrics{store: store, now: now} }

// Read gives what a request asks for; VALIDATION_ERROR with every fault of it.
func (m *Metrics) Read(ctx context.Context, caller rpc.Caller, req telemetry.MetricsRequest) (telemetry.Metrics, error) {
	var faults form.Faults
	span := ParseSpan(req, m.now(), &faults)
	of := Series{Subject: req.ID, UserID: req.UserID}
	switch req.Of {
	case telemetry.MetricsOfExecutions:
		of.Kind, of.Subject = OfExecutions, Everybody
	case telemetry.MetricsOfWorkflow:
		of.Kind = OfWorkflow
	case telemetry.MetricsOfAgent:
		of.Kind = OfAgent
	default:
		faults.Add("of", errs.BadEnum, "is %s; give EXECUTIONS, WORKFLOW or AGENT", form.Quote(req.Of))
	}
	if uuid.Validate(of.Subject) != nil {
		faults.Add("id", errs.BadValue, "is no UUID; give the id of what the figures are of")
	}
	if of.UserID == "" {
		of.UserID = Everybody
	}
	if uuid.Validate(of.UserID) != nil {
		faults.Add("userId", errs.BadValue, "is no UUID; give the id of a user")
	}
	if err := faults.Err("query"); err != nil {
		return telemetry.Metrics{}, err
	}
	if caller.Role != rpc.RoleAdmin && of.Kind == OfExecutions && of.UserID != caller.UserID {
		return telemetry.Metrics{}, errs.New(errs.Forbidden, "only an ADMIN may see figures of what others have started; leave userId out")
	}
	return m.read(ctx, of, span)
}

func (m *Metrics) read(ctx context.Context, of Series, span Span) (telemetry.Metrics, error) {
	out := telemetry.Metrics{
		From: span.From, To: span.To, Interval: span.Interval, TimeZone: span.Zone.String(), Series: make([]telemetry.Bucket, len(span.Buckets)),
	}
	executions := of.Kind != OfAgent
	sums, all := make([]sum, len(span.Buckets)), sum{}
	if err := m.store.Rows(ctx, of, span.Parts(), func(bucket int, _ string, r Row) error {
		if err := all.add(r); err != nil {
			return err
		}
		return sums[bucket].add(r)
	}); err != nil {
		return out, err
	}
	out.Totals = all.figures(executions)
	for i := range sums {
		from, to := span.bounds(i)
		out.Series[i] = telemetry.Bucket{From: from, To: to, Figures: sums[i].figures(executions)}
	}
	if of.Kind != OfWorkflow {
		return out, nil
	}
	of.Kind = OfSteps
	steps := map[string]*sum{}
	if err := m.store.Rows(ctx, of, span.Whole(), func(_ int, key string, r Row) error {
		if steps[key] == nil {
			steps[key] = &sum{}
		}
		return steps[key].add(r)
	}); err != nil {
		return out, err
	}
	for _, key := range slices.Sorted(maps.Keys(steps)) {
		out.Steps = append(out.Steps, telemetry.StepFigures{StepKey: key, Figures: steps[key].figures(false)})
	}
	return out, nil
}
