package natsapi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// bucketCheck is how often it is looked whether the bucket is still the one that is watched.
const bucketCheck = time.Second

// Cancels watches the bucket of cancelled attempts. It is safe for concurrent use.
type Cancels struct {
	conn   *bus.Conn
	cancel func(token string)
	log    zerolog.Logger
	state  atomic.Pointer[watchState]
}

// watchState is what is known of the watch; changed is closed when another state replaces it.
type watchState struct {
	caughtUp bool
	link     uint64 // the connection it was made on, by number
	changed  chan struct{}
}

// NewCancels makes a watch that tells cancel every token.
func NewCancels(conn *bus.Conn, cancel func(token string), log zerolog.Logger) *Cancels {
	c := &Cancels{conn: conn, cancel: cancel, log: log}
	c.state.Store(&watchState{changed: make(chan struct{})})
	return c
}

// Await returns nil as soon as every cancellation that the bucket holds is told, over the
// connection as it stands now, or ctx's error.
func (c *Cancels) Await(ctx context.Context) error {
	for {
		s := c.state.Load()
		if c.live(s) {
			return ctx.Err()
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Check tells whether the watch has caught up; it is a health check.
func (c *Cancels) Check(context.Context) error {
	if c.live(c.state.Load()) {
		return nil
	}
	return fmt.Errorf("bucket %s is not watched; the orchestrator makes it", subject.CancelBucket)
}

// live compares the number of the connection, for a message may come over a new one before
// anybody is told that it is new.
func (c *Cancels) live(s *watchState) bool {
	nc := c.conn.NATS()
	return s.caughtUp && nc.IsConnected() && nc.Stats().Reconnects == s.link
}

func (c *Cancels) set(caughtUp bool, link uint64) {
	old := c.state.Swap(&watchState{caughtUp: caughtUp, link: link, changed: make(chan struct{})})
	close(old.changed)
}

// Run watches until ctx ends, whatever happens to the connection and the bucket.
func (c *Cancels) Run(ctx context.Context) {
	c.conn.Keep(ctx, c.log, "cancellations are not watched, so no steps are taken; waiting for the bucket", c.watch)
}

// watch is a bus.Session that tells every token of one bucket.
func (c *Cancels) watch(ctx context.Context, works func()) error {
	defer c.set(false, 0)
	link := c.conn.NATS().Stats().Reconnects
	made, err := c.made(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked, done := context.WithTimeout(ctx, apiTimeout)
	bucket, err := c.conn.JetStream().KeyValue(asked, subject.CancelBucket)
	done()
	if err != nil {
		return fmt.Errorf("open the bucket: %w", err)
	}
	watcher, err := bucket.WatchAll(ctx, jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return fmt.Errorf("watch the bucket: %w", err)
	}
	defer func() {
		_ = watcher.Stop() // it may have ended by itself
		for range watcher.Updates() {
		}
	}()
	ticker := time.NewTicker(bucketCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("the watch ended")
			case entry == nil:
				c.set(true, link)
				works()
			default:
				c.cancel(entry.Key())
			}
		case <-ticker.C:
			now, err := c.made(ctx)
			if err != nil {
				if !c.conn.NATS().IsConnected() {
					continue // the reconnect ends this watch
				}
				return err
			}
			if !now.Equal(made) {
				return nil // it was made anew
			}
		}
	}
}

// made gives when the bucket was made.
func (c *Cancels) made(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := c.conn.JetStream().Stream(ctx, "KV_"+subject.CancelBucket)
	if err != nil {
		return time.Time{}, fmt.Errorf("find bucket %s: %w", subject.CancelBucket, err)
	}
	return stream.CachedInfo().Created, nil
}
