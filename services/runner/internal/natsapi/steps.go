package natsapi

import (
	"context"
	"errors"
	"fmt"
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

// Steps pulls the ready steps of one agent type from a consumer that the orchestrator makes and
// sets; see its natsapi/streams.go. It never holds more than its places, and
// what it holds is in work.Attempts at once: a client that buffers ahead would let the AckWait
// of waiting messages run out behind slow steps.
type Steps struct {
	conn    *bus.Conn
	durable string
	places  int
	take    func(*work.Delivery)
	await   func(ctx context.Context) error
	log     zerolog.Logger

	bound atomic.Bool

	mu     sync.Mutex
	held   int       // deliveries that have not been freed
	open   *session  // nil between sessions
	server string    // that the last session was with
	doubts time.Time // until when a delivery may be one that was answered before
}

// NewSteps makes a puller that gives what it gets to take. await returns when steps may be taken.
func NewSteps(conn *bus.Conn, pool, agentType string, places int, take func(*work.Delivery), await func(ctx context.Context) error, log zerolog.Logger) *Steps {
	durable := subject.StepConsumer(pool, agentType)
	return &Steps{
		conn: conn, durable: durable, places: places, take: take, await: await,
		log: log.With().Str("consumer", durable).Logger(),
	}
}

// Check tells whether steps are being taken; it is a health check.
func (s *Steps) Check(context.Context) error {
	if s.Taking() {
		return nil
	}
	return fmt.Errorf("no steps are taken from consumer %s of stream %s; the orchestrator makes both", s.durable, subject.StepsStream)
}

// Taking tells whether steps are being taken.
func (s *Steps) Taking() bool { return s.bound.Load() }

// Run takes steps until ctx ends, whatever happens to the connection, the stream and its
// consumer. When it returns, nothing is delivered any more.
func (s *Steps) Run(ctx context.Context) {
	s.conn.Keep(ctx, s.log, "no steps to take; waiting for the stream and its consumer", s.bind)
}

var errSilence = errors.New("the server is silent")

// bind is a bus.Session that finds the consumer and takes steps from it.
func (s *Steps) bind(ctx context.Context, works func()) error {
	if err := s.await(ctx); err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := s.conn.JetStream().Stream(asked, subject.StepsStream)
	if err != nil {
		return fmt.Errorf("find the stream: %w", err)
	}
	consumer, err := stream.Consumer(asked, s.durable)
	if err != nil {
		return fmt.Errorf("find the consumer: %w", err)
	}
	s.meet(s.conn.NATS().ConnectedServerId())
	info := consumer.CachedInfo()
	if info.Config.AckWait <= 0 || info.Config.AckPolicy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("the consumer has ack policy %s and AckWait %s; it must have explicit acks", info.Config.AckPolicy, info.Config.AckWait)
	}
	return s.session(ctx, info.Config.AckWait, stream.CachedInfo().State.LastSeq, works)
}

// meet notes which server there is.
func (s *Steps) meet(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != "" && s.server != server {
		s.doubts = time.Now().Add(forgets)
	}
	s.server = server
}

// session is one subscription and the pull requests whose answers come in on it. A break of
// any kind ends it, and the next one starts from nothing.
type session struct {
	steps   *Steps
	inbox   string
	ackWait time.Duration
	// found is the last message that was in the stream before. Up to it none is known to be new: a server that is killed
	// forgets what it delivered, and which acks it had, in its last 100 ms.
	found  uint64
	broken chan error

	// guarded by the mutex of steps
	requested int // how many messages the open pull requests may still bring
	seen      time.Time
	stale     bool // we were away for so long that what comes in may be another's by now
}

func (s *Steps) session(ctx context.Context, ackWait time.Duration, found uint64, works func()) error {
	o := &session{
		steps: s, inbox: nats.NewInbox(), ackWait: ackWait, found: found, broken: make(chan error, 1), seen: time.Now(),
	}
	ended := make(chan struct{})
	sub, err := s.conn.NATS().Subscribe(o.inbox, o.receive)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	sub.SetClosedHandler(func(string) { close(ended) })
	s.mu.Lock()
	s.open = o
	o.pull()
	s.mu.Unlock()
	s.bound.Store(true)
	s.log.Info().Msg("taking steps")
	works()

	err = o.watch(ctx)

	s.bound.Store(false)
	s.mu.Lock()
	s.open = nil
	s.mu.Unlock()
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
			o.steps.mu.Lock()
			silent := o.requested > 0 && now.Sub(o.seen) > silence
			o.steps.mu.Unlock()
			if silent && o.steps.conn.NATS().IsConnected() {
				return errSilence
			}
		}
	}
}

// pull asks for as many messages as there is room for, once it is worth a request. The
// caller has the mutex.
func (o *session) pull() {
	s := o.steps
	room := s.places - s.held - o.requested
	if room < max(1, s.places/4) {
		return
	}
	if o.requested == 0 {
		o.seen = time.Now()
	}
	o.requested += room
	request := `{"batch":` + strconv.Itoa(room) +
		`,"expires":` + strconv.FormatInt(int64(pullExpires), 10) +
		`,"idle_heartbeat":` + strconv.FormatInt(int64(pullHeartbeat), 10) + `}`
	if err := s.conn.NATS().PublishRequest(jetstream.DefaultAPIPrefix+"CONSUMER.MSG.NEXT."+subject.StepsStream+"."+s.durable, o.inbox, []byte(request)); err != nil {
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
	s := o.steps
	status := m.Header.Get("Status")
	s.mu.Lock()
	now := time.Now()
	// It may have waited for us since the last sign, and so may all behind it: we were paused, or cut off.
	if now.Sub(o.seen) > max(o.ackWait/2, 2*pullHeartbeat) {
		o.stale = true
	}
	o.seen = now
	if o.stale {
		s.mu.Unlock()
		o.fail(errSilence) // steps are delivered again, to whoever is there
		return
	}
	if status == "" || len(m.Data) > 0 {
		doubts := now.Before(s.doubts)
		o.requested = max(0, o.requested-1)
		s.held++
		s.mu.Unlock()
		o.deliver(m, doubts)
		return
	}
	defer s.mu.Unlock()
	switch status {
	case statusHeartbeat:
	case statusExpired:
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil {
			o.fail(fmt.Errorf("a pull request expired with %q messages left", m.Header.Get("Nats-Pending-Messages")))
			return
		}
		o.requested = max(0, o.requested-left)
		if s.open == o {
			o.pull()
		}
	default:
		o.fail(fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description")))
	}
}

func (o *session) deliver(m *nats.Msg, doubts bool) {
	s := o.steps
	hold := &lease{nc: s.conn.NATS(), reply: m.Reply, free: s.release}
	meta, err := m.Metadata()
	if err != nil {
		s.log.Error().Err(err).Msg("a message that no consumer delivered")
		hold.Free()
		return
	}
	step, err := readStep(m.Header, m.Data)
	if err != nil {
		s.log.Error().Err(err).Uint64("sequence", meta.Sequence.Stream).Msg("ready step thrown away")
		_ = s.conn.NATS().Publish(m.Reply, ackTerm)
		hold.Free()
		return
	}
	s.take(&work.Delivery{
		Step: step, Sequence: meta.Sequence.Stream, Count: int(meta.NumDelivered),
		Doubtful: doubts || meta.Sequence.Stream <= o.found, AckWait: o.ackWait, Lease: hold,
	})
}

// release gives a place back and asks for what may take it.
func (s *Steps) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	if s.open != nil {
		s.open.pull()
	}
}
