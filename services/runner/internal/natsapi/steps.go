package natsapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

const (
	// pullExpires is less than the AckWait: for a runner that is paused or cut off, its open request goes on taking
	// messages, and each must cost one delivery at most, not all of work.MaxDeliveries.
	pullExpires   = 4 * time.Second
	pullHeartbeat = time.Second
	// silence is how long pull requests may be open without a sign of the server.
	silence = 6 * pullHeartbeat
	// forgets is for how long a server that has come back may be sent again what was acked before: it tells messages
	// apart for two minutes, but a restart forgets those that are gone.
	forgets = 2 * time.Minute

	apiTimeout = 2 * time.Second
)

// Statuses of the server in answer to a pull request; any other ends the session.
const (
	statusHeartbeat = "100"
	statusExpired   = "408"
)

// Steps pulls the ready steps of one agent type from consumers that the orchestrator makes and
// sets, one for each pool; see its natsapi/streams.go. It holds few more than its places, and
// what it holds is in work.Attempts at once: a client that buffers ahead would let the AckWait
// of waiting messages run out behind slow steps.
type Steps struct {
	conn    *bus.Conn
	places  int
	take    func(*work.Delivery)
	await   func(ctx context.Context) error
	pullers []*puller

	mu   sync.Mutex
	held int // deliveries that have not been freed
}

// puller pulls from the consumer of one pool.
type puller struct {
	*Steps
	durable string
	log     zerolog.Logger
	bound   atomic.Bool

	// guarded by the mutex of Steps
	open   *session  // nil between sessions
	server string    // that the last session was with
	doubts time.Time // until when a delivery may be one that was answered before
}

// NewSteps makes what pulls for some pools and gives what it gets to take. await returns when steps may be taken.
func NewSteps(conn *bus.Conn, pools []string, agentType string, places int, take func(*work.Delivery), await func(ctx context.Context) error, log zerolog.Logger) *Steps {
	s := &Steps{conn: conn, places: places, take: take, await: await}
	for _, pool := range pools {
		durable := subject.StepConsumer(pool, agentType)
		s.pullers = append(s.pullers, &puller{Steps: s, durable: durable, log: log.With().Str("consumer", durable).Logger()})
	}
	return s
}

// Check tells whether the steps of all pools are being taken; it is a health check.
func (s *Steps) Check(context.Context) error {
	for _, p := range s.pullers {
		if !p.bound.Load() {
			return fmt.Errorf("no steps are taken from consumer %s of stream %s; the orchestrator makes both", p.durable, subject.StepsStream)
		}
	}
	return nil
}

// Taking tells whether steps are being taken, of any pool.
func (s *Steps) Taking() bool {
	return slices.ContainsFunc(s.pullers, func(p *puller) bool { return p.bound.Load() })
}

// Held gives how many deliveries are here, those that run among them.
func (s *Steps) Held() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.held)
}

// Run takes steps until ctx ends, whatever happens to the connection, the stream and its
// consumers. When it returns, nothing is delivered any more.
func (s *Steps) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, p := range s.pullers {
		group.Go(func() {
			s.conn.Keep(ctx, p.log, "no steps to take; waiting for the stream and its consumer", p.bind)
		})
	}
	group.Wait()
}

var errSilence = errors.New("the server is silent")

// bind is a bus.Session that finds the consumer and takes steps from it.
func (p *puller) bind(ctx context.Context, works func()) error {
	if err := p.await(ctx); err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := p.conn.JetStream().Stream(asked, subject.StepsStream)
	if err != nil {
		return fmt.Errorf("find the stream: %w", err)
	}
	consumer, err := stream.Consumer(asked, p.durable)
	if err != nil {
		return fmt.Errorf("find the consumer: %w", err)
	}
	p.meet(p.conn.NATS().ConnectedServerId())
	info := consumer.CachedInfo()
	if info.Config.AckWait <= 0 || info.Config.AckPolicy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("the consumer has ack policy %s and AckWait %s; it must have explicit acks", info.Config.AckPolicy, info.Config.AckWait)
	}
	return p.session(ctx, info.Config.AckWait, stream.CachedInfo().State.LastSeq, works)
}

// meet notes which server there is.
func (p *puller) meet(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != "" && p.server != server {
		p.doubts = time.Now().Add(forgets)
	}
	p.server = server
}

// session is one subscription and the pull requests whose answers come in on it. A break of
// any kind ends it, and the next one starts from nothing.
type session struct {
	puller  *puller
	inbox   string
	ackWait time.Duration
	// found is the last message that was in the stream before. Up to it none is known to be new: a server that is killed
	// forgets what it delivered, and which acks it had, in its last 100 ms.
	found  uint64
	broken chan error

	// guarded by the mutex of Steps
	requested int // how many messages the open pull requests may still bring
	seen      time.Time
	stale     bool // we were away for so long that what comes in may be another's by now
}

func (p *puller) session(ctx context.Context, ackWait time.Duration, found uint64, works func()) error {
	o := &session{
		puller: p, inbox: nats.NewInbox(), ackWait: ackWait, found: found, broken: make(chan error, 1), seen: time.Now(),
	}
	ended := make(chan struct{})
	sub, err := p.conn.NATS().Subscribe(o.inbox, o.receive)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	sub.SetClosedHandler(func(string) { close(ended) })
	p.mu.Lock()
	p.open = o
	o.pull()
	p.mu.Unlock()
	p.bound.Store(true)
	p.log.Info().Msg("taking steps")
	works()

	err = o.watch(ctx)

	p.bound.Store(false)
	p.mu.Lock()
	p.open = nil
	p.mu.Unlock()
	// What the server has sent is handled still, else it would wait for its AckWait.
	if sub.Drain() != nil {
		_ = sub.Unsubscribe()
	}
	select {
	case <-ended:
	case <-time.After(time.Second):
	}
	return err
}

// watch returns when the session has to end.
func (o *session) watch(ctx context.Context) error {
	ticker := time.NewTicker(pullHeartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-o.broken:
			return err
		case now := <-ticker.C:
			o.puller.mu.Lock()
			silent := o.requested > 0 && now.Sub(o.seen) > silence
			o.puller.mu.Unlock()
			if silent && o.puller.conn.NATS().IsConnected() {
				return errSilence
			}
		}
	}
}

// pull asks for as many messages as there is room for, once it is worth a request. The
// caller has the mutex.
func (o *session) pull() {
	p := o.puller
	share := len(p.pullers) // each pool has its part of the room, so that none takes that of another which has steps
	room := (p.places-p.held+share-1)/share - o.requested
	if p.held >= p.places || room < max(1, p.places/4/share) {
		return
	}
	if o.requested == 0 {
		o.seen = time.Now()
	}
	o.requested += room
	request := `{"batch":` + strconv.Itoa(room) +
		`,"expires":` + strconv.FormatInt(int64(pullExpires), 10) +
		`,"idle_heartbeat":` + strconv.FormatInt(int64(pullHeartbeat), 10) + `}`
	if err := p.conn.NATS().PublishRequest(jetstream.DefaultAPIPrefix+"CONSUMER.MSG.NEXT."+subject.StepsStream+"."+p.durable, o.inbox, []byte(request)); err != nil {
		o.fail(fmt.Errorf("pull: %w", err))
	}
}

func (o *session) fail(err error) {
	select {
	case o.broken <- err:
	default:
	}
}

// receive takes a message or a status that answers a pull request.
func (o *session) receive(m *nats.Msg) {
	p := o.puller
	status := m.Header.Get("Status")
	p.mu.Lock()
	now := time.Now()
	// It may have waited for us since the last sign, and so may all behind it: we were paused, or cut off.
	if now.Sub(o.seen) > max(o.ackWait/2, 2*pullHeartbeat) {
		o.stale = true
	}
	o.seen = now
	if o.stale {
		p.mu.Unlock()
		o.fail(errSilence) // steps are delivered again, to whoever is there
		return
	}
	if status == "" || len(m.Data) > 0 {
		doubts := now.Before(p.doubts)
		o.requested = max(0, o.requested-1)
		p.held++
		p.mu.Unlock()
		o.deliver(m, doubts)
		return
	}
	defer p.mu.Unlock()
	switch status {
	case statusHeartbeat:
	case statusExpired:
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil {
			o.fail(fmt.Errorf("a pull request expired with %q messages left", m.Header.Get("Nats-Pending-Messages")))
			return
		}
		o.requested = max(0, o.requested-left)
		if p.open == o {
			o.pull()
		}
	default:
		o.fail(fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description")))
	}
}

func (o *session) deliver(m *nats.Msg, doubts bool) {
	p := o.puller
	hold := &lease{nc: p.conn.NATS(), reply: m.Reply, free: p.release}
	meta, err := m.Metadata()
	if err != nil {
		p.log.Error().Err(err).Msg("a message that no consumer delivered")
		hold.Free()
		return
	}
	step, err := readStep(m.Header, m.Data)
	if err != nil {
		p.log.Error().Err(err).Uint64("sequence", meta.Sequence.Stream).Msg("ready step thrown away")
		_ = p.conn.NATS().Publish(m.Reply, ackTerm)
		hold.Free()
		return
	}
	p.take(&work.Delivery{
		Step: step, Sequence: meta.Sequence.Stream, Count: int(meta.NumDelivered),
		Doubtful: doubts || meta.Sequence.Stream <= o.found, AckWait: o.ackWait, Lease: hold,
	})
}

// release gives a place back and asks for what may take it.
func (s *Steps) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	for _, p := range s.pullers {
		if p.open != nil {
			p.open.pull()
		}
	}
}
