package webhook

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// sweepEvery is how often it is looked for webhooks that are behind their feeds without anybody having heard of it.
const sweepEvery = 2 * time.Second

// MaxPending is how many deliveries of a webhook may wait. What comes behind them stays in the feed, where it has its place.
const MaxPending = 10_000

// Source tells which webhooks are behind their feeds, and makes deliveries of what is there.
type Source interface {
	// Behind gives the webhooks that have events before them, of some users; of all when there are none.
	Behind(ctx context.Context, users []string) ([]string, error)
	// Expand makes deliveries of the next events of a webhook's feed, and moves its cursor; nothing when it is switched off, or too many
	// wait. more says that there are events left that there is room for.
	Expand(ctx context.Context, id string) (made int, more bool, err error)
}

// Expander makes deliveries of what comes into feeds. Any number of them may run.
type Expander struct {
	source  Source
	courier *Courier
	log     zerolog.Logger

	mu    sync.Mutex
	heard map[string]bool // users of whose feeds there is news
	news  chan struct{}
}

// NewExpander makes an expander that wakes a courier.
func NewExpander(source Source, courier *Courier, log zerolog.Logger) *Expander {
	return &Expander{source: source, courier: courier, log: log, heard: map[string]bool{}, news: make(chan struct{}, 1)}
}

// Heard tells that there is something new in the feeds of users. It does not wait.
func (x *Expander) Heard(users []string) {
	x.mu.Lock()
	for _, user := range users {
		x.heard[user] = true
	}
	x.mu.Unlock()
	select {
	case x.news <- struct{}{}:
	default:
	}
}

// Run makes deliveries until ctx ends.
func (x *Expander) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	failing := false
	for all := true; ; {
		x.mu.Lock()
		users := slices.Collect(maps.Keys(x.heard))
		clear(x.heard)
		x.mu.Unlock()
		var err error
		if all || len(users) > 0 {
			if all {
				users = nil
			}
			err = x.expand(ctx, users)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			x.log.Warn().Err(err).Msg("no deliveries are made of new events; trying again")
		case err == nil && failing:
			x.log.Info().Msg("deliveries are made of events again")
		}
		failing, all = err != nil, false
		select {
		case <-ctx.Done():
			return
		case <-x.news:
		case <-sweep.C:
			all = true
		}
	}
}

// expand makes the deliveries of all webhooks that are behind, each some at a time, by turns.
func (x *Expander) expand(ctx context.Context, users []string) error {
	behind, err := x.source.Behind(ctx, users)
	for err == nil && len(behind) > 0 {
		var left []string
		for _, id := range behind {
			made, more, err := x.source.Expand(ctx, id)
			if err != nil {
				return err
			}
			if made > 0 {
				x.courier.Wake()
			}
			if more {
				left = append(left, id)
			}
		}
		behind = left
	}
	return err
}
