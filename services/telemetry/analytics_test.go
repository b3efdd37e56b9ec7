package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

func (w world) metrics(req contract.MetricsRequest) contract.Metrics {
	w.t.Helper()
	got, err := bus.Call(context.Background(), w.conn, contract.ReadMetrics, rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// TestAnalyticsCountEachEventOnce has events that are told, told twice, never told, and that happen while nobody counts.
func TestAnalyticsCountEachEventOnce(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	ann, ben, workflow, agent := uuid.NewString(), uuid.NewString(), newID(), newID()
	ms := int64(40)
	var told []string
	run := func(user string, publish bool) {
		x := newID()
		told = append(told, x)
		data := orchestrator.ExecutionEvent{ExecutionID: x, UserID: user, WorkflowID: workflow}
		step := data
		step.StepKey, step.AgentID, step.Attempt, step.DurationMs = "a", agent, 2, &ms
		ended := data
		ended.DurationMs = &ms
		bodies := [][]byte{l.tell(orchestrator.EventCreated, data), l.tell(orchestrator.EventStarted, data), l.tell(orchestrator.EventStepCompleted, step), l.tell(orchestrator.EventCompleted, ended)}
		if publish {
			l.publish(x, bodies...)
			l.publish(x, bodies[:2]...)
		}
	}
	for i := range 10 {
		run([]string{ann, ben}[i%2], i%3 > 0)
	}
	l.mu.Lock()
	for i, x := range told[:5] {
		l.settled = append(l.settled, orchestrator.SettledCall{N: uint64(7 + 3*i), ID: newID(), ExecutionID: x, WorkflowID: workflow, UserID: ann, AgentID: agent, StepKey: "a", InputTokens: 10, OutputTokens: 2, CostMicros: 1500})
	}
	l.mu.Unlock()
	await := func(what string, n int64) {
		t.Helper()
		eventually(t, what, func() bool {
			all := w.metrics(contract.MetricsRequest{Of: contract.MetricsOfExecutions}).Totals
			return all.Completed >= n && all.Total >= n && all.Usage.Calls >= 5
		})
	}
	await("ten executions are counted", 10)
	w.stop()
	for range 3 {
		run(ann, false)
	}
	var stop func()
	w, stop = w.another()
	defer stop()
	await("what happened meanwhile is counted", 13)

	for name, c := range map[string]struct {
		req                   contract.MetricsRequest
		total, retries, calls int64
	}{
		"all":                  {contract.MetricsRequest{Of: contract.MetricsOfExecutions}, 13, 0, 5},
		"of a user":            {contract.MetricsRequest{Of: contract.MetricsOfExecutions, UserID: ann}, 8, 0, 5},
		"of another":           {contract.MetricsRequest{Of: contract.MetricsOfExecutions, UserID: ben}, 5, 0, 0},
		"of a workflow":        {contract.MetricsRequest{Of: contract.MetricsOfWorkflow, ID: workflow}, 13, 0, 5},
		"of a workflow, own":   {contract.MetricsRequest{Of: contract.MetricsOfWorkflow, ID: workflow, UserID: ben}, 5, 0, 0},
		"of an agent":          {contract.MetricsRequest{Of: contract.MetricsOfAgent, ID: agent}, 13, 13, 5},
		"of a stranger":        {contract.MetricsRequest{Of: contract.MetricsOfExecutions, UserID: newID()}, 0, 0, 0},
		"of a workflow's past": {contract.MetricsRequest{Of: contract.MetricsOfWorkflow, ID: workflow, To: &start}, 0, 0, 0},
	} {
		got := w.metrics(c.req)
		f := got.Totals
		if f.Total != c.total || f.Completed != c.total || f.Unended != 0 || f.Retries != c.retries || f.Usage.Calls != c.calls || f.Usage.InputTokens != 10*c.calls || f.Usage.OutputTokens != 2*c.calls ||
			f.Usage.CostUSD != 0.0015*float64(c.calls) {
			t.Errorf("%s: %+v", name, f)
		}
		if c.total > 0 && (*f.Duration.P99Ms != 40 || *f.Duration.AvgMs != 40 || *f.SuccessRate != 1) {
			t.Errorf("%s: %+v", name, f.Duration)
		}
		sum := int64(0)
		for _, b := range got.Series {
			sum += b.Total
		}
		if sum != c.total {
			t.Errorf("%s: the series has %d", name, sum)
		}
		if steps := c.req.Of == contract.MetricsOfWorkflow && c.total > 0; steps != (len(got.Steps) == 1) || steps && (got.Steps[0].StepKey != "a" || got.Steps[0].Total != c.total || got.Steps[0].Usage.Calls != c.calls) {
			t.Errorf("%s: %+v", name, got.Steps)
		}
	}
}

// TestOldRollupsAreDeleted has figures of executions of long ago.
func TestOldRollupsAreDeleted(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	const old = "0193b7f0-0000-7000-8000-000000000001" // of December 2024
	ann := uuid.NewString()
	l.tell(orchestrator.EventCreated, orchestrator.ExecutionEvent{ExecutionID: old, UserID: ann, WorkflowID: newID()})
	l.tell(orchestrator.EventCreated, orchestrator.ExecutionEvent{ExecutionID: newID(), UserID: ann, WorkflowID: newID()})
	rows := func() (n int) {
		if err := w.db.Get(&n, `SELECT count(*) FROM rollups`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "both are counted", func() bool { return rows() == 24 })
	from, to := time.Date(2024, 12, 1, 0, 0, 0, 0, time.UTC), time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := w.metrics(contract.MetricsRequest{Of: contract.MetricsOfExecutions, UserID: ann, From: &from, To: &to}); got.Totals.Total != 1 {
		t.Errorf("of the old one it counts %+v", got.Totals)
	}
	w.stop()
	w, stop := w.another() // which looks at once
	defer stop()
	eventually(t, "the old one is deleted", func() bool { return rows() == 12 })
}
