package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/telemetry/internal/feed"
)

const (
	renewEvery = feed.Lease / 4
	// compareEvery is how often it is asked whether there are events that were never heard of.
	compareEvery = 5 * time.Second
	// maxHeard is how many batches wait in memory, and maxTogether how many events are taken in together.
	maxHeard, maxTogether = 256, 4096
	pageOfEvents          = 1000
)

// Feeder takes the public events into a store, as long as no other process does.
type Feeder struct {
	conn   *bus.Conn
	taker  *feed.Taker
	log    zerolog.Logger
	failed string                      // what is said while it does not
	linger time.Duration               // how long events wait for others, to be taken in together
	also   func(context.Context) error // what is done beside, every compareEvery; nil for nothing
}

// NewFeeder makes a feeder that takes nothing before Run, tells heard, which does not wait, of whose feeds there is news, and is measured by what it registers with r; nil registers nothing.
func NewFeeder(conn *bus.Conn, store feed.Store, heard func(users []string), log zerolog.Logger, r prometheus.Registerer) *Feeder {
	taken := promauto.With(r).NewCounter(prometheus.CounterOpts{
		Name: "feed_events_taken_total", Help: "Public events that this process has taken into the feeds of their users.",
	})
	f := &Feeder{conn: conn, log: log, failed: "events are not taken into the feeds; trying again"}
	f.taker = feed.NewTaker(store, source{conn}, func(n int, ends map[string]uint64) {
		taken.Add(float64(n))
		heard(slices.Collect(maps.Keys(ends)))
		Tell(conn, log, ends)
	}, func(err error) {
		log.Error().Err(err).Msg("an event that can be in nobody's feed is left out")
	})
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "feed_events_behind", Help: "How many public events the feeds lacked when they were compared with the ledger last; 0 in a process that does not take them.",
	}, func() float64 { return float64(f.taker.Behind()) })
	return f
}

// Run takes events in until ctx ends, whatever happens to the connection, the stream and other processes.
func (f *Feeder) Run(ctx context.Context) {
	f.conn.Keep(ctx, f.log, f.failed, f.session)
}

// session is a bus.Session: it waits for its turn, catches up, and goes on with what it hears.
func (f *Feeder) session(ctx context.Context, works func()) error {
	for held := false; !held; {
		var err error
		if held, err = f.taker.Hold(ctx); err != nil {
			return err
		}
		if !held {
			works()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(renewEvery):
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard, tailed := make(chan []json.RawMessage, maxHeard), make(chan error, 1)
	var tail sync.WaitGroup
	tail.Go(func() {
		tailed <- f.conn.Tail(ctx, subject.EventsStream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject.EventsAll}, DeliverPolicy: jetstream.DeliverNewPolicy},
			func(m jetstream.Msg) {
				events, err := event.Split(m.Data())
				if err != nil {
					f.log.Error().Err(err).Msg("a message in the stream of events that is none")
					return
				}
				select {
				case heard <- events:
				case <-ctx.Done():
				}
			}, func() {})
	})
	err := f.take(ctx, heard, tailed, works)
	cancel()
	tail.Wait()
	if errors.Is(err, feed.ErrLost) { // the other one does it now
		return nil
	}
	return err
}

func (f *Feeder) take(ctx context.Context, heard <-chan []json.RawMessage, tailed <-chan error, works func()) error {
	// What is heard from now on waits meanwhile, and is known by then.
	if err := f.compare(ctx); err != nil {
		return err
	}
	works()
	renew, compare := time.NewTicker(renewEvery), time.NewTicker(compareEvery)
	defer renew.Stop()
	defer compare.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-tailed:
			return fmt.Errorf("the stream of events is not heard: %w", err)
		case events := <-heard:
			err = f.taker.Take(ctx, f.gather(ctx, events, heard))
		case <-renew.C:
			var held bool
			if held, err = f.taker.Hold(ctx); err == nil && !held {
				err = feed.ErrLost
			}
		case <-compare.C:
			err = f.compare(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// compare makes sure that nothing is missing.
func (f *Feeder) compare(ctx context.Context) error {
	if err := f.taker.Compare(ctx); err != nil || f.also == nil {
		return err
	}
	return f.also(ctx)
}

// gather takes along what waits behind a batch, or comes while it waits for more.
func (f *Feeder) gather(ctx context.Context, events []json.RawMessage, heard <-chan []json.RawMessage) []json.RawMessage {
	over := make(<-chan time.Time)
	if f.linger > 0 {
		over = time.After(f.linger)
	}
	for len(events) < maxTogether {
		select {
		case more := <-heard:
			events = append(events, more...)
			continue
		default:
		}
		if f.linger == 0 {
			break
		}
		select {
		case more := <-heard:
			events = append(events, more...)
		case <-over:
			return events
		case <-ctx.Done():
			return events
		}
	}
	return events
}

// Tell says where feeds end now. Who does not hear it looks again by itself.
func Tell(conn *bus.Conn, log zerolog.Logger, ends map[string]uint64) {
	announce(conn, log, subject.FeedNews, telemetry.FeedNews{Ends: ends})
}

// announce says that there is news. Who does not hear it looks again by itself.
func announce(conn *bus.Conn, log zerolog.Logger, on string, news any) {
	body, err := json.Marshal(news)
	if err == nil {
		err = conn.NATS().Publish(on, body)
	}
	if err != nil {
		log.Debug().Err(err).Str("subject", on).Msg("readers are not told of news; they look again")
	}
}

// source is the orchestrator; it implements feed.Source.
type source struct{ conn *bus.Conn }

// Events implements feed.Source.
func (s source) Events(ctx context.Context, p int, after uint64) ([]feed.Numbered, error) {
	got, err := bus.Call(ctx, s.conn, orchestrator.PartitionEvents, rpc.System(telemetry.Service), orchestrator.PartitionEventsRequest{Partition: p, After: after, Limit: pageOfEvents})
	events := make([]feed.Numbered, len(got.Events))
	for i, e := range got.Events {
		events[i] = feed.Numbered{N: e.N, Body: e.Body}
	}
	return events, err
}

// Numbers implements feed.Source.
func (s source) Numbers(ctx context.Context) ([]uint64, error) {
	got, err := bus.Call(ctx, s.conn, orchestrator.EventNumbers, rpc.System(telemetry.Service), rpc.Empty{})
	return got.Last, err
}
