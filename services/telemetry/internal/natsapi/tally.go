package natsapi

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/telemetry/internal/feed"
)

// tallyLinger is how long events wait to be counted together: those of a second change a row once.
const tallyLinger = time.Second

const pageOfCalls = 1000

// Rollups count events, and what calls of models have used.
type Rollups interface {
	feed.Store
	// Calls gives the number of the last call that is counted.
	Calls(ctx context.Context) (uint64, error)
	// CountCalls counts calls, which go on from a number. feed.ErrLost when others are counted up to there.
	CountCalls(ctx context.Context, from uint64, calls []orchestrator.SettledCall) error
}

// NewTally makes a feeder that counts the public events, and what calls of models have used, as long as no other process does.
func NewTally(conn *bus.Conn, rollups Rollups, log zerolog.Logger, r prometheus.Registerer) *Feeder {
	counted := promauto.With(r).NewCounter(prometheus.CounterOpts{
		Name: "rollup_events_counted_total", Help: "Public events that this process has counted for analytics.",
	})
	f := &Feeder{conn: conn, log: log, failed: "events are not counted for analytics; trying again", linger: tallyLinger}
	f.taker = feed.NewTaker(rollups, source{conn}, func(n int, _ map[string]uint64) { counted.Add(float64(n)) }, func(err error) {
		log.Error().Err(err).Msg("an event that is nobody's is not counted")
	})
	f.also = func(ctx context.Context) error { return countCalls(ctx, conn, rollups) }
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollup_events_behind", Help: "How many public events were not counted yet when that was compared with the ledger last; 0 in a process that does not count them.",
	}, func() float64 { return float64(f.taker.Behind()) })
	return f
}

// countCalls counts the calls that it asks the orchestrator for.
func countCalls(ctx context.Context, conn *bus.Conn, rollups Rollups) error {
	from, err := rollups.Calls(ctx)
	if err != nil {
		return err
	}
	for {
		got, err := bus.Call(ctx, conn, orchestrator.SettledCalls, rpc.System(telemetry.Service), orchestrator.SettledCallsRequest{After: from, Limit: pageOfCalls})
		if err != nil || len(got.Calls) == 0 {
			return err
		}
		if err := rollups.CountCalls(ctx, from, got.Calls); err != nil {
			return err
		}
		from = got.Calls[len(got.Calls)-1].N
	}
}
