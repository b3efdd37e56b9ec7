package partition

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/grant"
)

const (
	leaseTime  = 5 * time.Second
	renewEvery = time.Second
	// leaseMargin is how long before its lease ends, by its own clock, an owner stops applying.
	leaseMargin = time.Second
	// releaseTime bounds how long a hand-over waits for the last commit.
	releaseTime = 3 * time.Second
	// repeatEvery is how often is looked for what follows from a commit and has not come repeatAfter it.
	repeatEvery = time.Second
	repeatAfter = 500 * time.Millisecond
	purgeEvery  = 30 * time.Second
)

// Owner holds a fair share of the partitions and runs them.
type Owner struct {
	id        string
	ledger    Ledger
	transport Transport
	children  Children
	dealer    *dealing.Dealer
	full      atomic.Pointer[fillOf] // of the streams
	writer    atomic.Pointer[Writer] // nil before Run
	log       zerolog.Logger

	inline     int
	registerer prometheus.Registerer
	metrics    *metrics
	tracing    *observe.Tracing

	started time.Time
	leased  atomic.Int64 // until when, in ns after started; 0: no lease

	mu   sync.Mutex
	held map[int]*holding
}

// Option says how an owner is watched.
type Option func(*Owner)

// WithMetrics registers what the owner's work is measured by.
func WithMetrics(r prometheus.Registerer) Option { return func(o *Owner) { o.registerer = r } }

// WithTracing says where the spans of inputs and ready steps go.
func WithTracing(t *observe.Tracing) Option { return func(o *Owner) { o.tracing = t } }

// WithChildren says where the executions of WORKFLOW agents begin; without it none can.
func WithChildren(c Children) Option { return func(o *Owner) { o.children = c } }

// WithDealer says who decides when ready steps are sent, and knows the runners; without it the owner has one that knows none.
func WithDealer(d *dealing.Dealer) Option { return func(o *Owner) { o.dealer = d } }

// WithInline sets the largest payload that is put together and kept as it is, instead of runner.MaxInline.
func WithInline(bytes int) Option { return func(o *Owner) { o.inline = bytes } }

// NewOwner makes an owner. id is unique to the process's start.
func NewOwner(id string, ledger Ledger, transport Transport, log zerolog.Logger, options ...Option) *Owner {
	o := &Owner{
		id: id, ledger: ledger, transport: transport, log: log, inline: runner.MaxInline,
		started: time.Now(), held: map[int]*holding{}, dealer: dealing.New(),
	}
	o.full.Store(&fillOf{})
	for _, option := range options {
		option(o)
	}
	o.metrics = newMetrics(o.registerer)
	o.measure(o.registerer)
	return o
}

// Ready tells whether the partitions that are held are caught up, and how many they are.
func (o *Owner) Ready() (partitions int, caughtUp bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	caughtUp = true
	for _, h := range o.held {
		r := h.current.Load()
		caughtUp = caughtUp && r != nil && r.caughtUp.Load()
	}
	return len(o.held), caughtUp
}

// Run owns partitions until ctx ends, then commits what is applied and hands them over. reconnected
// receives whenever NATS is connected again.
func (o *Owner) Run(ctx context.Context, reconnected <-chan struct{}) error {
	secret, err := o.awaitSecret(ctx)
	if err != nil {
		return err
	}
	grants, err := grant.NewSigner(secret)
	if err != nil {
		return err
	}
	// The writer outlives ctx: what is applied is still to be committed.
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	s := shell{
		ledger: o.ledger, transport: o.transport, begin: o.children, dealer: o.dealer, payloads: NewPayloads(o.ledger), inline: o.inline,
		large: make(chan struct{}, largeAtOnce), secret: secret, grants: grants, log: o.log, metrics: o.metrics, tracing: o.tracing, leased: o.awaitLease,
	}
	s.writer = newWriter(o.ledger, o.log, o.metrics)
	o.writer.Store(s.writer)
	s.stopper = newStopper(o.ledger, o.transport, o.log)
	var workers sync.WaitGroup
	workers.Go(func() { _ = s.writer.run(writing) })
	workers.Go(func() { s.stopper.run(writing) })
	workers.Go(func() { o.repeat(ctx) })

	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	purged := time.Now()
	var streams Streams
	for ctx.Err() == nil {
		streams = o.watchStreams(ctx, streams)
		o.renew(ctx, writing, s)
		o.serve()
		select {
		case <-ctx.Done():
		case <-reconnected:
			o.verifyAll()
		case <-ticker.C:
			if time.Since(purged) >= purgeEvery {
				purged = time.Now()
				o.purge(ctx)
			}
		}
	}
	o.release(slices.Collect(maps.Keys(o.held)))
	stopWriting()
	workers.Wait()
	o.leave()
	return nil
}

func (o *Owner) awaitSecret(ctx context.Context) ([]byte, error) {
	for {
		secret, err := o.ledger.Secret(ctx)
		if err == nil {
			return secret, nil
		}
		o.log.Warn().Err(err).Msg("the ledger is not readable yet; is it migrated?")
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read the engine's secret: %w", err)
		case <-time.After(renewEvery):
		}
	}
}

// watchStreams makes streams that are missing and has every partition look at the log when
// it can be another one.
func (o *Owner) watchStreams(ctx context.Context, before Streams) Streams {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	now, err := o.transport.Ensure(ctx)
	if err != nil {
		o.log.Warn().Err(err).Msg("JetStream is not available; trying again")
		return before
	}
	o.watchFill(now)
	if now.Remade || (before.LogCreated != 0 && (now.LogCreated != before.LogCreated || now.LastSeq < before.LastSeq)) {
		o.log.Warn().Msg("JetStream's store has changed; comparing it with the ledger")
		o.verifyAll()
	}
	return now
}

func (o *Owner) verifyAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range o.held {
		select {
		case h.verify <- struct{}{}:
		default:
		}
	}
}

// renew extends the leases, drops what was lost, and takes or gives partitions until the share is fair.
func (o *Owner) renew(ctx, writing context.Context, s shell) {
	begin := time.Since(o.started)
	query, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	held, live, err := o.ledger.Heartbeat(query, o.id, leaseTime, o.published())
	if err != nil {
		if ctx.Err() == nil {
			o.log.Warn().Err(err).Msg("leases are not renewed; trying again")
		}
		return
	}
	o.mu.Lock()
	before := len(o.held)
	var surplus, ended []int
	for p, h := range o.held {
		switch {
		case isClosed(h.done): // it could not go on under its epoch; a new one is taken
			ended = append(ended, p)
			delete(o.held, p)
		case !slices.Contains(held, p):
			o.log.Warn().Int("partition", p).Msg("partition lost to another orchestrator")
			h.drop()
			delete(o.held, p)
		}
	}
	o.metrics.lost.Add(float64(before - len(o.held)))
	share := fairShare(o.id, live)
	for _, p := range slices.Sorted(maps.Keys(o.held)) {
		if len(o.held)-len(surplus) > share {
			surplus = append(surplus, p)
		}
	}
	count := len(o.held) - len(surplus)
	o.mu.Unlock()
	o.leased.Store(int64(begin + leaseTime - leaseMargin)) // now that what was lost goes on no more

	if len(ended) > 0 {
		if err := o.ledger.Release(query, o.id, ended); err != nil {
			o.log.Warn().Err(err).Msg("leases are not released; they run out by themselves")
		}
	}
	if len(surplus) > 0 {
		o.release(surplus)
	}
	if count >= share {
		return
	}
	positions, err := o.ledger.Acquire(query, o.id, leaseTime, share-count)
	if err != nil {
		o.log.Warn().Err(err).Msg("partitions are not acquired; trying again")
		return
	}
	for _, pos := range positions {
		o.hold(writing, s, pos)
	}
	if len(positions) > 0 {
		o.log.Info().Int("taken", len(positions)).Int("held", count+len(positions)).Msg("partitions taken")
	}
}

// repeat sees to what follows from a commit and has not come soon: whoever committed it may have died before. What this does not help is left to
// the reconcilers, and to those who take partitions over. It ends with ctx.
func (o *Owner) repeat(ctx context.Context) {
	ticker := time.NewTicker(repeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var held, others []int
		o.mu.Lock()
		for p := range subject.Partitions {
			if o.held[p] != nil {
				held = append(held, p)
			} else {
				others = append(others, p)
			}
		}
		o.mu.Unlock()
		o.repeatCommands(ctx, held)
		o.repeatStops(ctx, others)
	}
}

// repeatCommands puts those of partitions into the log that are not applied.
func (o *Owner) repeatCommands(ctx context.Context, ps []int) {
	if len(ps) == 0 {
		return
	}
	commands, err := o.ledger.Unapplied(ctx, ps, repeatAfter, reconcileEvery/2)
	if err != nil {
		return
	}
	for _, c := range commands {
		o.transport.Append(c, func(error) {})
	}
}

// repeatStops stops attempts of partitions that have ended. It takes no owner for that: they do not count any more, whoever says so.
func (o *Owner) repeatStops(ctx context.Context, ps []int) {
	if len(ps) == 0 {
		return
	}
	attempts, err := o.ledger.Stopped(ctx, ps, repeatAfter)
	if err != nil {
		return
	}
	for i, a := range attempts {
		if o.transport.StopAttempt(ctx, a.Token, a.Sent) != nil {
			attempts = attempts[:i]
			break
		}
	}
	if len(attempts) > 0 && o.ledger.Cleared(ctx, attempts) != nil {
		o.log.Warn().Int("attempts", len(attempts)).Msg("attempts are stopped, and the ledger does not know; they are stopped once more")
	}
}

// serve has the dealer put as many steps into STEPS as the partitions that are held are owed.
func (o *Owner) serve() {
	o.mu.Lock()
	held := len(o.held)
	o.mu.Unlock()
	o.dealer.Serve(float64(held) / subject.Partitions)
}

func (o *Owner) published() map[int]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := make(map[int]uint64, len(o.held))
	for p, h := range o.held {
		m[p] = h.relay.published.Load()
	}
	return m
}

// awaitLease returns once the lease is good for more than the margin, or ctx ends.
func (o *Owner) awaitLease(ctx context.Context) error {
	for int64(time.Since(o.started)) >= o.leased.Load() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// release hands partitions over: stop, commit, then end the lease.
func (o *Owner) release(ps []int) {
	given := map[int]*holding{}
	o.mu.Lock()
	for _, p := range ps {
		if h := o.held[p]; h != nil {
			given[p] = h
			delete(o.held, p)
			h.cancel()
		}
	}
	o.mu.Unlock()
	if len(given) == 0 {
		return
	}
	for _, h := range given {
		<-h.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := o.ledger.Release(ctx, o.id, slices.Collect(maps.Keys(given))); err != nil {
		o.log.Warn().Err(err).Msg("leases are not released; they run out by themselves")
	}
}

// leave lets the others take over at once what this process would have had.
func (o *Owner) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := o.ledger.Leave(ctx, o.id); err != nil {
		o.log.Warn().Err(err).Msg("the others are not told of the end; they notice by themselves")
	}
}

// purge drops inputs that every partition has applied.
func (o *Owner) purge(ctx context.Context) {
	o.mu.Lock()
	_, mine := o.held[0]
	o.mu.Unlock()
	if !mine {
		return
	}
	all := make([]int, subject.Partitions)
	for p := range all {
		all[p] = p
	}
	positions, err := o.ledger.Positions(ctx, all)
	if err != nil || len(positions) != len(all) {
		return
	}
	lowest := slices.MinFunc(positions, func(a, b Position) int { return cmp.Compare(a.InputSeq, b.InputSeq) })
	if lowest.InputSeq <= 1 || lowest.InputTime == 0 {
		return
	}
	// The offsets may be those of another log, and nobody has noticed yet. By them inputs would go
	// that nobody has applied.
	ns, found, err := o.transport.TimeAt(ctx, lowest.InputSeq)
	if err != nil || !found || ns != lowest.InputTime {
		return
	}
	// The message at the smallest offset stays, for it tells whether the log is the same.
	if err := o.transport.Purge(ctx, lowest.InputSeq); err != nil {
		o.log.Warn().Err(err).Msg("the input log is not purged; trying again")
	}
}
