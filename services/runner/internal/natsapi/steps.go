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
	pullExpires   = 30 * time.Second
	pullHeartbeat = 3 * time.Second
	// silence is how long pull requests may be open without a sign of the server.
	silence = 3 * pullHeartbeat

	bindWait    = 200 * time.Millisecond
	bindWaitMax = 2 * time.Second
	apiTimeout  = 2 * time.Second
)

// Statuses of the server in answer to a pull request; any other ends the session.
const (
	statusHeartbeat = "100"
	statusExpired   = "408"
)

// Steps pulls the ready steps of one agent type. It never holds more than its places, and
// what it holds is in the ledger at once: a client that buffers ahead would let the AckWait
// of waiting messages run out behind slow steps.
type Steps struct {
	conn    *bus.Conn
	durable string
	places  int
	take    func(*work.Delivery)
	await   func(ctx context.Context) error
	log     zerolog.Logger

	bound atomic.Bool

	mu   sync.Mutex
	held int      // deliveries that have not been freed
	open *session // nil between sessions
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
	if s.bound.Load() {
		return nil
	}
	return fmt.Errorf("no steps are taken from consumer %s of stream %s; the orchestrator makes both", s.durable, subject.StepsStream)
}

// Run takes steps until ctx ends, whatever happens to the connection, the stream and its
// consumer. When it returns, nothing is delivered any more.
func (s *Steps) Run(ctx context.Context) {
	reconnected, stop := s.conn.OnReconnect()
	defer stop()
	wait, told := bindWait, false
	for ctx.Err() == nil {
		if s.await(ctx) != nil {
			return
		}
		err := s.bind(ctx, reconnected, func() { wait, told = bindWait, false })
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errReconnected) {
			continue
		}
		if !told {
			s.log.Warn().Err(err).Msg("no steps to take; waiting for the stream and its consumer")
			told = true
		}
		select {
		case <-ctx.Done():
		case <-reconnected:
		case <-time.After(wait):
		}
		wait = min(2*wait, bindWaitMax)
	}
}

var (
	errReconnected = errors.New("the connection was made anew")
	errSilence     = errors.New("the server is silent")
)

// bind finds the consumer and takes steps from it until something breaks.
func (s *Steps) bind(ctx context.Context, reconnected <-chan struct{}, works func()) error {
	asked, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	consumer, err := s.conn.JetStream().Consumer(asked, subject.StepsStream, s.durable)
	if err != nil {
		return fmt.Errorf("find the consumer: %w", err)
	}
	info := consumer.CachedInfo()
	if info.Config.AckWait <= 0 || info.Config.AckPolicy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("the consumer has ack policy %s and AckWait %s; it must have explicit acks", info.Config.AckPolicy, info.Config.AckWait)
	}
	return s.session(ctx, reconnected, info.Config.AckWait, works)
}

// session is one subscription and the pull requests whose answers come in on it. A break of
// any kind ends it, and the next one starts from nothing.
type session struct {
	steps   *Steps
	inbox   string
	ackWait time.Duration
	broken  chan error

	// guarded by the mutex of steps
	requested int // how many messages the open pull requests may still bring
	seen      time.Time
}

func (s *Steps) session(ctx context.Context, reconnected <-chan struct{}, ackWait time.Duration, works func()) error {
	o := &session{
		steps: s, inbox: nats.NewInbox(), ackWait: ackWait, broken: make(chan error, 1), seen: time.Now(),
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

	err = o.watch(ctx, reconnected)

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
func (o *session) watch(ctx context.Context, reconnected <-chan struct{}) error {
	ticker := time.NewTicker(pullHeartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
			return errReconnected
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
	if status == "" || len(m.Data) > 0 {
		s.mu.Lock()
		o.seen = time.Now()
		o.requested = max(0, o.requested-1)
		s.held++
		s.mu.Unlock()
		s.deliver(m, o.ackWait)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.seen = time.Now()
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

func (s *Steps) deliver(m *nats.Msg, ackWait time.Duration) {
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
		Step: step, Sequence: meta.Sequence.Stream, Count: int(meta.NumDelivered), AckWait: ackWait, Lease: hold,
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
