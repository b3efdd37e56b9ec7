package logline

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/telemetry"
)

// ErrRefused says that lines can not be stored, however often it is tried.
var ErrRefused = errors.New("the store refuses the data")

// Store keeps lines.
type Store interface {
	// Insert stores all lines or none; lines that are there already change nothing. An error
	// that is ErrRefused blames the lines; any other may be gone the next time.
	Insert(ctx context.Context, lines []telemetry.LogLine) error
}

// Keeper stores lines and drops, with a word in the log, those that can not be stored.
type Keeper struct {
	store Store
	log   zerolog.Logger

	batches, stored, dropped, failures prometheus.Counter
}

// NewKeeper makes a Keeper that is measured by what it registers with r; nil registers nothing.
func NewKeeper(store Store, log zerolog.Logger, r prometheus.Registerer) *Keeper {
	counter := func(name, help string) prometheus.Counter {
		return promauto.With(r).NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &Keeper{
		store: store, log: log,
		batches:  counter("log_batches_stored_total", "Batches of log lines that were stored, each in one insert as a rule."),
		stored:   counter("log_lines_stored_total", "Log lines that were stored, also those that were there already."),
		dropped:  counter("log_lines_dropped_total", "Log lines that can not be stored and were dropped."),
		failures: counter("log_store_failures_total", "Batches of log lines that the database did not take; each is tried again."),
	}
}

// Keep returns nil when every line is stored or known never to be. Safe to repeat.
func (k *Keeper) Keep(ctx context.Context, lines []telemetry.LogLine) error {
	err := k.keep(ctx, lines)
	if err != nil {
		k.failures.Inc()
		return err
	}
	k.batches.Inc()
	return nil
}

func (k *Keeper) keep(ctx context.Context, lines []telemetry.LogLine) error {
	clean := make([]telemetry.LogLine, 0, len(lines))
	for _, line := range lines {
		c, err := Clean(line)
		if err != nil {
			k.drop(line, err)
			continue
		}
		clean = append(clean, c)
	}
	return k.insert(ctx, clean)
}

// insert finds the lines that the store refuses by halving.
func (k *Keeper) insert(ctx context.Context, lines []telemetry.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	err := k.store.Insert(ctx, lines)
	switch {
	case err == nil:
		k.stored.Add(float64(len(lines)))
		return nil
	case !errors.Is(err, ErrRefused):
		return fmt.Errorf("store %d log lines: %w", len(lines), err)
	case len(lines) == 1:
		k.drop(lines[0], err)
		return nil
	}
	half := len(lines) / 2
	if err := k.insert(ctx, lines[:half]); err != nil {
		return err
	}
	return k.insert(ctx, lines[half:])
}

func (k *Keeper) drop(line telemetry.LogLine, err error) {
	k.dropped.Inc()
	k.log.Error().Err(err).Str("executionId", line.ExecutionID).Str("lineId", line.ID).Msg("log line dropped")
}
