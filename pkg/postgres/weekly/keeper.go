package weekly

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/postgres"
)

const (
	// keepEvery is how often weeks are made and dropped.
	keepEvery = time.Hour
	// againAfter is when a round that has failed is tried again.
	againAfter = 10 * time.Second
)

// Keeper makes the weeks of tables before they begin, and drops those whose time is over. Every instance of a service has
// one; they do no harm to one another.
type Keeper struct {
	tables Tables
	rules  Rules
	log    zerolog.Logger
	clock  func(context.Context) (time.Time, error)

	dropped, bytes, rows, failures prometheus.Counter
	oldest, last                   prometheus.Gauge
}

// Rules say what of the tables is over.
type Rules struct {
	Period time.Duration // how long what has ended is kept
	// Sweep deletes what stands outside the weeks and had ended before the given time, a bounded number of rows, and tells how many they
	// were; it is called until there are none.
	Sweep func(ctx context.Context, before time.Time) (rows int64, err error)
	// Over tells whether nothing of a week is needed any more that had not ended before the given time.
	Over func(ctx context.Context, q sqlx.QueryerContext, w Week, before time.Time) (bool, error)
}

// NewKeeper makes a keeper that is measured by what it registers with r; nil registers nothing.
func NewKeeper(tables Tables, rules Rules, log zerolog.Logger, r prometheus.Registerer) *Keeper {
	counter := func(name, help string) prometheus.Counter {
		return promauto.With(r).NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return promauto.With(r).NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	k := &Keeper{
		tables: tables, rules: rules, log: log,
		dropped:  counter("retention_drops_total", "Weeks of finished work that this process has dropped."),
		bytes:    counter("retention_dropped_bytes_total", "What the weeks had on disk that this process has dropped."),
		rows:     counter("retention_rows_deleted_total", "Rows outside the weeks that this process has deleted because their time was over."),
		failures: counter("retention_failures_total", "Rounds of retention that were not wholly done; each is tried again."),
		oldest:   gauge("retention_oldest_timestamp_seconds", "When the oldest week that is kept ended, in Unix time."),
		last:     gauge("retention_last_run_timestamp_seconds", "When retention was last wholly done by this process, in Unix time."),
	}
	k.clock = k.now
	return k
}

// WithClock gives a keeper that takes its time from elsewhere.
func (k *Keeper) WithClock(clock func(context.Context) (time.Time, error)) *Keeper {
	k.clock = clock
	return k
}

// now is the earlier one of the database's time and ours: a clock that is ahead must drop nothing too early.
func (k *Keeper) now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := k.tables.DB.GetContext(ctx, &now, `SELECT clock_timestamp()`); err != nil {
		return now, postgres.Translate(err)
	}
	if ours := time.Now(); ours.Before(now) {
		now = ours
	}
	return now, nil
}

// Run keeps the tables until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		next := keepEvery
		if err := k.Keep(ctx); err != nil && ctx.Err() == nil {
			k.failures.Inc()
			k.log.Warn().Err(err).Msg("retention is not wholly done; trying again")
			next = againAfter
		}
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

// Keep does one round.
func (k *Keeper) Keep(ctx context.Context) error {
	now, err := k.clock(ctx)
	if err != nil {
		return err
	}
	made, err := k.tables.Make(ctx, now)
	if made > 0 {
		k.log.Info().Int("partitions", made).Msg("weeks made ahead")
	}
	if err != nil {
		return err
	}
	before := now.Add(-k.rules.Period)
	for ctx.Err() == nil {
		n, err := k.rules.Sweep(ctx, before)
		if err != nil {
			return err
		}
		if k.rows.Add(float64(n)); n == 0 {
			break
		}
	}
	oldest, err := k.drop(ctx, before)
	if err != nil {
		return err
	}
	k.oldest.Set(float64(oldest.Unix()))
	k.last.SetToCurrentTime()
	return ctx.Err()
}

// drop drops the weeks that are over, and gives the end of the oldest one that is not.
func (k *Keeper) drop(ctx context.Context, before time.Time) (oldest time.Time, err error) {
	weeks, err := k.tables.Weeks(ctx)
	if err != nil {
		return oldest, err
	}
	for _, w := range weeks {
		dropped, bytes := false, int64(0)
		if !w.To.After(before) { // else what began in it can not have ended long enough ago
			dropped, bytes, err = k.tables.Drop(ctx, w, func(ctx context.Context, q sqlx.QueryerContext, w Week) (bool, error) {
				return k.rules.Over(ctx, q, w, before)
			})
			if err != nil {
				return oldest, err
			}
		}
		switch {
		case dropped:
			k.dropped.Inc()
			k.bytes.Add(float64(bytes))
			k.log.Info().Time("from", w.From).Time("to", w.To).Int64("bytes", bytes).Msg("a week of finished work is dropped")
		case oldest.IsZero():
			oldest = w.To
		}
	}
	return oldest, nil
}
