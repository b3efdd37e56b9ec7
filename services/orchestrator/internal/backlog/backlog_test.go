package backlog_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/orchestrator/internal/backlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is seen is shown, and for a while only: a figure that nobody can look up any more is none.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away error
		registry := prometheus.NewRegistry()
		w := backlog.New(func(context.Context) (backlog.Overdue, error) {
			return backlog.Overdue{Timers: 90 * time.Second, Schedules: time.Second, Commands: 2 * time.Second, Orphans: 3}, away
		}, func(context.Context) (map[string]backlog.Queue, error) {
			return map[string]backlog.Queue{catalog.AgentAPI: {Pending: 7, AckPending: 8}}, nil
		}, registry)
		value := func(name string) float64 {
			t.Helper()
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() != name {
					continue
				}
				sum := 0.0
				for _, m := range f.GetMetric() {
					sum += m.GetGauge().GetValue()
				}
				return sum
			}
			t.Fatalf("there is no %s", name)
			return 0
		}
		if got := value("timers_overdue_seconds"); !math.IsNaN(got) {
			t.Errorf("before the first look it is %v", got)
		}
		w.Look(t.Context())
		for name, want := range map[string]float64{"timers_overdue_seconds": 90, "schedules_overdue_seconds": 1, "commands_overdue_seconds": 2, "partitions_orphaned": 3, "steps_pending": 7, "steps_ack_pending": 8} {
			if got := value(name); got != want {
				t.Errorf("%s is %v, not %v", name, got, want)
			}
		}
		away = errors.New("away")
		for range 6 {
			<-time.After(backlog.LookEvery) // of the bubble's clock
			w.Look(t.Context())
		}
		if got := value("timers_overdue_seconds"); !math.IsNaN(got) {
			t.Errorf("after a long time without an answer it is %v", got)
		}
		if got := value("steps_pending"); got != 7 {
			t.Errorf("the other source is away, and this one is %v", got)
		}
	})
}
