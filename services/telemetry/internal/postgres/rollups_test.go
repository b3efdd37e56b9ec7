package postgres_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/telemetry/internal/analytics"
	"turbocat.io/services/telemetry/internal/feed"
	"turbocat.io/services/telemetry/internal/postgres"
)

// BenchmarkOverview counts 1,000,000 executions of 20 users and 50 workflows within 30 days, and reads the figures of one user and of everybody, by day
// and by hour, as the overview does. It is to take less than 100 ms at p95.
func BenchmarkOverview(b *testing.B) {
	const executions, together = 1_000_000, 4096
	db := pgtest.New(b, telemetry.Service, migrations.Of(telemetry.Service))
	store := postgres.NewRollups(db)
	to := time.Now().UTC().Truncate(24 * time.Hour)
	from := to.Add(-30 * 24 * time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	users, workflows := make([]string, 20), make([]string, 50)
	for _, ids := range [][]string{users, workflows} {
		for i := range ids {
			ids[i] = uuid.NewString()
		}
	}
	idAt := func(at time.Time) string {
		id := uuid.Must(uuid.NewV7())
		var ms [8]byte
		binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
		copy(id[:6], ms[:6])
		return id.String()
	}
	owner := uuid.NewString()
	numbers, held, err := store.Hold(b.Context(), owner)
	if err != nil || !held {
		b.Fatal(held, err)
	}
	began, events := time.Now(), make([]feed.Event, 0, together)
	flush := func() {
		if len(events) == 0 {
			return
		}
		if _, err := store.Append(b.Context(), owner, numbers, events); err != nil {
			b.Fatal(err)
		}
		numbers[0] = events[len(events)-1].N
		events = events[:0]
	}
	n := numbers[0]
	for i := range executions {
		at := from.Add(time.Duration(float64(to.Sub(from)) * float64(i) / executions))
		ms := int64(random.ExpFloat64() * 900)
		fact := feed.Fact{UserID: users[random.IntN(len(users))], WorkflowID: workflows[random.IntN(len(workflows))], ExecutionID: idAt(at)}
		ended := orchestrator.EventCompleted.String()
		if i%20 == 0 {
			ended = orchestrator.EventFailed.String()
		}
		for _, kind := range []string{orchestrator.EventCreated.String(), ended} {
			n++
			e := feed.Event{N: n, ID: fact.ExecutionID, Type: kind, Fact: fact}
			if kind == ended {
				e.DurationMs = &ms
			}
			events = append(events, e)
		}
		if len(events) == together {
			flush()
		}
	}
	flush()
	b.Logf("%.0f events counted a second", 2*executions/time.Since(began).Seconds())
	metrics := analytics.NewMetrics(store, func() time.Time { return to })
	admin := rpc.Caller{UserID: users[0], Role: rpc.RoleAdmin}
	b.ResetTimer()
	for name, req := range map[string]telemetry.MetricsRequest{
		"everybody, days": {Of: telemetry.MetricsOfExecutions}, "a user, days": {Of: telemetry.MetricsOfExecutions, UserID: users[3]},
		"everybody, hours": {Of: telemetry.MetricsOfExecutions, Interval: telemetry.IntervalHour}, "a workflow, days": {Of: telemetry.MetricsOfWorkflow, ID: workflows[7]},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				got, err := metrics.Read(b.Context(), admin, req)
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				if name == "everybody, days" && got.Totals.Total != executions {
					b.Fatalf("%d executions are counted", got.Totals.Total)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}
