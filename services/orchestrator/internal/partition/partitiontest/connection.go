package partitiontest

import (
	"context"
	"slices"
	"sync"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Connection is a process's connection to a JetStream; it implements partition.Transport. It
// is safe for concurrent use.
type Connection struct {
	server *JetStream

	mu    sync.Mutex
	known [3]time.Time // when the streams that it has seen were created
}

// Connect gives a connection of a process that has seen nothing yet.
func (j *JetStream) Connect() *Connection { return &Connection{server: j} }

// Ensure implements partition.Transport.
func (c *Connection) Ensure(ctx context.Context) (partition.Streams, error) {
	j := c.server
	if err := j.lock(ctx); err != nil {
		return partition.Streams{}, err
	}
	defer j.mu.Unlock()
	now, d := j.Now(), &j.disk
	if d.input == nil {
		d.input = &inputStream{created: now}
	}
	if d.steps == nil {
		d.steps = newStepStream(now)
	}
	if d.events == nil {
		d.events = &eventStream{created: now}
	}
	if d.cancelled == nil {
		d.cancelled = map[string]bool{}
	}
	created := [3]time.Time{d.input.created, d.steps.created, d.events.created}
	c.mu.Lock()
	defer c.mu.Unlock()
	remade := c.known != created
	c.known = created
	return partition.Streams{
		LogCreated: d.input.created.UnixNano(), FirstSeq: d.input.first, LastSeq: d.input.last(), Now: now.UnixNano(), Remade: remade,
	}, nil
}

// lock begins a request; the caller ends it with j.mu.Unlock unless it fails.
func (j *JetStream) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	if j.away {
		j.mu.Unlock()
		return errAway
	}
	return nil
}

// LastInput implements partition.Transport.
func (c *Connection) LastInput(ctx context.Context, p int) (uint64, error) {
	if err := c.server.lock(ctx); err != nil {
		return 0, err
	}
	defer c.server.mu.Unlock()
	if s := c.server.disk.input; s != nil {
		for _, m := range slices.Backward(s.messages) {
			if m.p == p {
				return m.Seq, nil
			}
		}
	}
	return 0, nil
}

// TimeAt implements partition.Transport.
func (c *Connection) TimeAt(ctx context.Context, seq uint64) (int64, bool, error) {
	if err := c.server.lock(ctx); err != nil {
		return 0, false, err
	}
	defer c.server.mu.Unlock()
	if s := c.server.disk.input; s != nil {
		if m := s.at(seq); m != nil {
			return m.Time, true, nil
		}
	}
	return 0, false, nil
}

// Purge implements partition.Transport.
func (c *Connection) Purge(ctx context.Context, seq uint64) error {
	if err := c.server.lock(ctx); err != nil {
		return err
	}
	defer c.server.mu.Unlock()
	s := c.server.disk.input
	if s == nil {
		return errAway
	}
	if s.first == 0 || seq <= s.first {
		return nil
	}
	n := min(seq-s.first, uint64(len(s.messages)))
	s.messages = slices.Clone(s.messages[n:])
	s.first += n
	return nil
}

// Send implements partition.Transport.
func (c *Connection) Send(m partition.StepMessage, done func(seq uint64, err error)) {
	seq, err := c.server.send(m)
	go done(seq, err)
}

// Append implements partition.Transport.
func (c *Connection) Append(control partition.Control, done func(err error)) {
	err := c.server.Put(control.P, messageOf(control))
	go done(err)
}

// Publish implements partition.Transport.
func (c *Connection) Publish(events []partition.EventRow, done func(err error)) {
	err := c.server.publish(events)
	go done(err)
}

func (j *JetStream) publish(events []partition.EventRow) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.away || j.disk.events == nil {
		return errAway
	}
	j.disk.events.rows = append(j.disk.events.rows, events...)
	for _, e := range events {
		j.OnEvent(e)
	}
	return nil
}

// StepAt implements partition.Transport.
func (c *Connection) StepAt(ctx context.Context, seq uint64) (token string, found bool, err error) {
	if err := c.server.lock(ctx); err != nil {
		return "", false, err
	}
	defer c.server.mu.Unlock()
	if s := c.server.disk.steps; s != nil {
		m, ok := s.messages[seq]
		return m.Token, ok, nil
	}
	return "", false, nil
}

// StopAttempt implements partition.Transport.
func (c *Connection) StopAttempt(ctx context.Context, token string, seq uint64) error {
	if err := c.server.lock(ctx); err != nil {
		return err
	}
	defer c.server.mu.Unlock()
	d := &c.server.disk
	if d.cancelled == nil {
		return errAway
	}
	if token != "" {
		c.server.cancel(token)
	}
	if d.steps != nil && seq > 0 && d.steps.messages[seq].Token == token {
		delete(d.steps.messages, seq)
	}
	return nil
}

// Warn implements partition.Transport.
func (c *Connection) Warn(*engine.Execution, engine.Warning) {}

// Read implements partition.Transport.
func (c *Connection) Read(ctx context.Context, p int, from uint64) (partition.Reader, error) {
	j := c.server
	if err := j.lock(ctx); err != nil {
		return nil, err
	}
	defer j.mu.Unlock()
	if j.disk.input == nil {
		return nil, errAway
	}
	r := &reader{
		server: j, p: p, next: max(from, 1), start: max(from, 1), messages: make(chan partition.Message, 16), resets: make(chan struct{}, 1),
		arrived: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	_, r.pending = j.disk.input.after(p, r.next)
	j.readers[r] = true
	go r.run()
	return r, nil
}

// after gives the first message of a partition from a sequence on, and how many there are.
func (s *inputStream) after(p int, from uint64) (first *logged, n uint64) {
	if s.first == 0 {
		return nil, 0
	}
	for seq := max(from, s.first); seq <= s.last(); seq++ {
		if m := s.at(seq); m.p == p {
			if n++; first == nil {
				first = m
			}
		}
	}
	return first, n
}

// reader gives the inputs of one partition. Once the store is another one it gives nothing any more.
type reader struct {
	server  *JetStream
	p       int
	start   uint64
	pending uint64

	messages chan partition.Message
	resets   chan struct{}
	arrived  chan struct{}
	closing  chan struct{}
	done     chan struct{} // closed when nothing more comes

	next      uint64 // guarded by the server's mutex, as are those below
	delivered uint64
	over      bool
	mute      bool   // it gives nothing more, although it is there
	owed      uint64 // when Idle looked last: the first input that was on its way
}

func (r *reader) Pending() bool                      { return r.pending > 0 }
func (r *reader) Messages() <-chan partition.Message { return r.messages }
func (r *reader) Resets() <-chan struct{}            { return r.resets }

func (r *reader) wake() {
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

func (j *JetStream) resetReaders() {
	for r := range j.readers {
		r.reset()
	}
}

func (r *reader) reset() {
	r.over = true
	delete(r.server.readers, r)
	select {
	case r.resets <- struct{}{}:
	default:
	}
}

// Mute lets the readers that there are give nothing more, as when the consumers are on a server that lags; those that are opened from now on do.
func (j *JetStream) Mute() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for r := range j.readers {
		r.mute = true
	}
}

func (r *reader) run() {
	defer close(r.done)
	for {
		m, ok := r.take()
		if !ok {
			select {
			case <-r.arrived:
				continue
			case <-r.closing:
				return
			}
		}
		select {
		case r.messages <- m:
			r.server.mu.Lock()
			r.delivered = m.Seq
			r.server.mu.Unlock()
		case <-r.closing:
			return
		}
	}
}

func (r *reader) take() (partition.Message, bool) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	if r.over || r.mute || r.server.away {
		return partition.Message{}, false
	}
	found, n := r.server.disk.input.after(r.p, r.next)
	if found == nil {
		return partition.Message{}, false
	}
	m := found.Message
	m.Pending = n > 1
	r.next = m.Seq + 1
	return m, true
}

// Idle implements partition.Reader.
func (r *reader) Idle(ctx context.Context) (upTo uint64, at int64, delivered uint64, ok bool, err error) {
	if err := r.server.lock(ctx); err != nil {
		return 0, 0, 0, false, err
	}
	defer r.server.mu.Unlock()
	if r.over {
		return 0, 0, 0, false, errAway
	}
	s := r.server.disk.input
	if first, n := s.after(r.p, max(r.start, r.delivered+1)); n > 0 { // some are on their way
		if r.owed == first.Seq && r.mute { // for too long: it begins anew
			r.reset()
		}
		r.owed = first.Seq
		return 0, 0, 0, false, nil
	}
	last := s.at(s.last())
	if last == nil {
		return 0, 0, 0, false, nil
	}
	return last.Seq, last.Time, r.delivered, true, nil
}

// Close implements partition.Reader.
func (r *reader) Close() {
	r.server.mu.Lock()
	delete(r.server.readers, r)
	r.server.mu.Unlock()
	select {
	case <-r.closing:
	default:
		close(r.closing)
	}
	<-r.done
}
