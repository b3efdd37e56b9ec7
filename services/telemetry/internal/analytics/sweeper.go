package analytics

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// sweepEvery is how often rows are deleted that are over.
const sweepEvery = time.Hour

// Over has rows that can be deleted.
type Over interface {
	// Sweep deletes some rows of before a time, and tells how many.
	Sweep(ctx context.Context, before time.Time) (int64, error)
}

// Sweeper deletes rows that are kept for long enough. Any number of them may run.
type Sweeper struct {
	rows Over
	keep time.Duration
	now  func() time.Time
	log  zerolog.Logger
}

// NewSweeper makes one that keeps rows for a time.
func NewSweeper(rows Over, keep time.Duration, now func() time.Time, log zerolog.Logger) *Sweeper {
	return &Sweeper{rows, keep, now, log}
}

// Run deletes until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	every := time.NewTicker(sweepEvery)
	defer every.Stop()
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("rollups that are over are not deleted; trying again in an hour")
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (s *Sweeper) sweep(ctx context.Context) error {
	before := s.now().Add(-s.keep)
	for {
		n, err := s.rows.Sweep(ctx, before)
		if err != nil || n == 0 {
			return err
		}
	}
}
