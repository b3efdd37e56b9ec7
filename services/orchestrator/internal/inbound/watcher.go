package inbound

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/expr"
	"turbocat.io/services/orchestrator/internal/due"
	"turbocat.io/services/orchestrator/internal/execution"
)

const (
	// lease is for how long a listener is one orchestrator's; who dies with it delays it by that.
	lease = 15 * time.Second
	// lookWithin ends a look while its lease lasts.
	lookWithin = lease - 5*time.Second
	// together is how many listeners look at once, and eventsTogether how many events of one become executions at once.
	together, eventsTogether = 16, 16
	// page is how many events a look reads.
	page = 200
	// lookAgain is after how long a watcher asks what is due, and a listener tries again what could not be done.
	lookAgain = time.Second
)

// Looked is what a look of a listener came to.
type Looked struct {
	Cursor    uint64
	Skipped   uint64
	LastError string
	Idle      bool          // look again when there is news, or after a while
	Again     time.Duration // else after that
}

// ListenerStore keeps listeners and what came in for them.
type ListenerStore interface {
	DeliveryStore
	// ClaimListeners gives listeners to look now, at most n, which nobody else is given before the lease is over.
	ClaimListeners(ctx context.Context, lease time.Duration, n int) ([]*Listener, error)
	// UntilNextListener tells after how long a listener is to look, at most the given time.
	UntilNextListener(ctx context.Context, most time.Duration) (time.Duration, error)
	// Looked moves a listener on and ends its lease. One that was changed meanwhile stays as it is.
	Looked(ctx context.Context, l *Listener, to Looked) error
	// Heard has the listeners of users look.
	Heard(ctx context.Context, users []string) error
	// ListenerUsers gives who has listeners that are on.
	ListenerUsers(ctx context.Context) (map[string]bool, error)
}

// Watcher has listeners look into their users' feeds. Any number of them may run.
type Watcher struct {
	store    ListenerStore
	feeds    Feeds
	acceptor *execution.Acceptor
	log      zerolog.Logger
	news     chan []string
	events   *prometheus.CounterVec
}

// NewWatcher makes a watcher; it works while Run does.
func NewWatcher(store ListenerStore, feeds Feeds, acceptor *execution.Acceptor, log zerolog.Logger, metrics prometheus.Registerer) *Watcher {
	return &Watcher{store: store, feeds: feeds, acceptor: acceptor, log: log, news: make(chan []string, 256), events: promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "trigger_events_total", Help: "Events that triggers of type EVENT wanted, by outcome: accepted, repeated, refused or postponed.",
	}, []string{"outcome"})}
}

// Heard tells whose feeds have something new. It does not wait; what is lost is found when listeners look by themselves.
func (w *Watcher) Heard(users []string) {
	select {
	case w.news <- users:
	default:
	}
}

// Run looks until ctx ends; what it has begun then it ends.
func (w *Watcher) Run(ctx context.Context) error {
	woken := make(chan struct{}, 1)
	var hearing sync.WaitGroup
	defer hearing.Wait()
	hearing.Go(func() { w.hear(ctx, woken) })
	due.Queue[*Listener]{
		Together: together, Every: lookAgain, Until: w.store.UntilNextListener, Work: w.Look, Woken: woken,
		Claim: func(ctx context.Context, n int) ([]*Listener, error) { return w.store.ClaimListeners(ctx, lease, n) },
		Failed: func(err error) {
			w.log.Warn().Err(err).Msg("it is not known which triggers have events to look at; looking again")
		},
	}.Run(ctx)
	return nil
}

// hear has the listeners of users look whose feeds have news, until ctx ends. Whose those are is known up to lookAgain late: a fresh listener looks
// often by itself.
func (w *Watcher) hear(ctx context.Context, woken chan<- struct{}) {
	var known map[string]bool
	var knownAt time.Time
	for {
		var users []string
		select {
		case <-ctx.Done():
			return
		case users = <-w.news:
		}
		if now := time.Now(); now.Sub(knownAt) >= lookAgain {
			if all, err := w.store.ListenerUsers(ctx); err == nil {
				known, knownAt = all, now
			}
		}
		users = slices.DeleteFunc(users, func(user string) bool { return !known[user] })
		if len(users) == 0 || w.store.Heard(ctx, users) != nil { // when it fails, they look by themselves
			continue
		}
		select {
		case woken <- struct{}{}:
		default:
		}
	}
}

// Look has a listener read a page of its user's feed, starts what it wants, and tells whether there is more. Whatever happens here, it looks again.
func (w *Watcher) Look(ctx context.Context, l *Listener) (more bool) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	to, more := w.look(ctx, l)
	if to.LastError != "" && to.LastError != l.LastError {
		w.log.Warn().Str("triggerId", l.ID).Str("reason", to.LastError).Msg("a trigger waits with its events, or can not read one")
	}
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookAgain) // the time may be up
	defer cancel()
	if err := w.store.Looked(saving, l, to); err != nil {
		w.log.Warn().Err(err).Str("triggerId", l.ID).Msg("it is not kept up to where a trigger has looked; it looks there again")
	}
	return more
}

// wanted is an event that is to start an execution.
type wanted struct {
	name   string
	body   json.RawMessage
	before uint64 // the cursor before it
}

func (w *Watcher) look(ctx context.Context, l *Listener) (to Looked, more bool) {
	to = Looked{Cursor: l.Cursor, Skipped: l.Skipped}
	wait := func(why error) (Looked, bool) {
		to.LastError, to.Again = clip(why.Error()), lookAgain
		return to, false
	}
	selector, err := l.Compile()
	if err != nil { // after an update that knows a function no more
		return wait(err)
	}
	read, err := w.feeds.Read(ctx, l.UserID, telemetry.FeedRequest{After: l.Cursor, Limit: page})
	if err != nil {
		return wait(err)
	}
	started, err := w.store.StartedSince(ctx, l.ID, time.Minute, l.MaxPerMinute)
	if err != nil {
		return wait(err)
	}
	room, before := l.MaxPerMinute-started, l.Cursor
	var all []wanted
	for _, e := range read.Events {
		holds, err := selector.Wants(e.Type, e.Body)
		if err != nil {
			to.LastError = clip(err.Error())
		}
		if holds {
			if int64(len(all)) == room {
				return w.deliver(ctx, l, all, Looked{Cursor: before, Skipped: to.Skipped + read.Skipped, LastError: "it has started maxPerMinute executions within a minute; the rest waits", Again: lookAgain}), false
			}
			all = append(all, wanted{name: nameOf(e.Body), body: e.Body, before: before})
		}
		before = e.Cursor
	}
	to.Cursor, to.Skipped = read.Cursor, to.Skipped+read.Skipped
	to.Idle = !read.More
	to = w.deliver(ctx, l, all, to)
	return to, !to.Idle && to.Again == 0
}

// deliver starts what is wanted; what can not be started now, and what is behind it, waits.
func (w *Watcher) deliver(ctx context.Context, l *Listener, all []wanted, to Looked) Looked {
	failed := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(eventsTogether)
	for i, e := range all {
		group.Go(func() error {
			failed[i] = w.start(ctx, l, e)
			return nil
		})
	}
	_ = group.Wait()
	for i, err := range failed {
		if err != nil {
			w.events.WithLabelValues("postponed").Inc()
			to.Cursor, to.LastError, to.Idle, to.Again = all[i].before, clip(err.Error()), false, lookAgain
			break
		}
	}
	return to
}

// start accepts the execution of an event; nil when that is decided one way or the other.
func (w *Watcher) start(ctx context.Context, l *Listener, e wanted) error {
	outcome := "accepted"
	inputs, err := render(l.Inputs, expr.OfEvent(e.body))
	if err != nil {
		err = record(ctx, w.store, l.ID, e.name, orchestrator.ReceivedRefused, execution.ReasonOf(err))
		outcome = "refused"
	} else {
		var done execution.Outcome
		done, err = start(ctx, w.acceptor, w.store, &l.Base, orchestrator.TriggerEvent, e.name, inputs, depthAfter(e.body))
		switch {
		case execution.Refused(err):
			outcome, err = "refused", nil
		case done.Replayed:
			outcome = "repeated"
		}
	}
	if err == nil {
		w.events.WithLabelValues(outcome).Inc()
	}
	return err
}

// nameOf gives the name of an event: its source and its id, which together are its own.
func nameOf(event json.RawMessage) string {
	return named(field(event, "source") + " " + field(event, "id"))
}
