package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publisher publishes to JetStream and learns later what has become of it. It does what PublishMsgAsync of
// nats.go does at a fraction of its cost: that keeps a timer and a future for each message and decodes each
// PubAck by reflection, which took a tenth of the time of services that publish thousands of messages a second.
// It is safe for concurrent use.
type Publisher struct {
	nc      *nats.Conn
	timeout time.Duration
	prefix  string // of the subjects of PubAcks
	sub     *nats.Subscription
	states  chan nats.Status

	mu       sync.Mutex
	last     uint64
	waiting  map[uint64]published
	sweeping bool // a sweep is due
}

type published struct {
	at   time.Time
	done func(seq uint64, err error)
}

// NewPublisher makes a publisher; a message without PubAck fails after timeout, or up to half of it later. It ends with the connection, or by Close.
func NewPublisher(nc *nats.Conn, timeout time.Duration) (*Publisher, error) {
	p := &Publisher{nc: nc, timeout: timeout, prefix: nc.NewInbox() + ".", waiting: map[uint64]published{}}
	var err error
	if p.sub, err = nc.Subscribe(p.prefix+"*", p.acked); err != nil {
		return nil, fmt.Errorf("listen for PubAcks: %w", err)
	}
	// The PubAcks that were on their way to the last connection are lost.
	p.states = nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	go func() {
		for state := range p.states {
			p.fail(nats.ErrDisconnected, func(published) bool { return true })
			if state == nats.CLOSED {
				return
			}
		}
	}()
	return p, nil
}

// Publish sends m. done is called once, with the message's sequence or why there is none: then the stream may have it all
// the same. It must not block, and may be called before Publish returns.
func (p *Publisher) Publish(m *nats.Msg, done func(seq uint64, err error)) {
	p.mu.Lock()
	p.last++
	id := p.last
	p.waiting[id] = published{time.Now(), done}
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(p.timeout/2, p.sweep)
	}
	p.mu.Unlock()
	m.Reply = p.prefix + strconv.FormatUint(id, 36)
	if err := p.nc.PublishMsg(m); err != nil {
		p.settle(id, 0, err)
	}
}

// Close fails what waits for its PubAck, and what is published from now on.
func (p *Publisher) Close() {
	_ = p.sub.Unsubscribe() // else the connection is closed
	p.nc.RemoveStatusListener(p.states)
	p.fail(nats.ErrConnectionClosed, func(published) bool { return true })
}

func (p *Publisher) acked(m *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.prefix), 36, 64)
	if err != nil {
		return // nobody's
	}
	seq, err := readAck(m)
	p.settle(id, seq, err)
}

func (p *Publisher) settle(id, seq uint64, err error) {
	p.mu.Lock()
	w, ok := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if ok {
		w.done(seq, err)
	}
}

func (p *Publisher) sweep() {
	now := time.Now()
	p.fail(nats.ErrTimeout, func(w published) bool { return now.Sub(w.at) >= p.timeout })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sweeping = len(p.waiting) > 0; p.sweeping {
		time.AfterFunc(p.timeout/2, p.sweep)
	}
}

func (p *Publisher) fail(err error, which func(published) bool) {
	var failed []published
	p.mu.Lock()
	for id, w := range p.waiting {
		if which(w) {
			failed = append(failed, w)
			delete(p.waiting, id)
		}
	}
	p.mu.Unlock()
	for _, w := range failed {
		w.done(0, err)
	}
}

var seqField = []byte(`,"seq":`)

// readAck reads a PubAck. A stream's name has no quotes, so that the field is found without decoding the rest.
func readAck(m *nats.Msg) (uint64, error) {
	if bytes.HasPrefix(m.Data, []byte(`{"stream":`)) {
		if _, rest, found := bytes.Cut(m.Data, seqField); found {
			n := 0
			for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
				n++
			}
			if seq, err := strconv.ParseUint(string(rest[:n]), 10, 64); err == nil && seq > 0 {
				return seq, nil
			}
		}
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return 0, jetstream.ErrNoStreamResponse
	}
	var ack struct {
		jetstream.PubAck
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil:
		return 0, fmt.Errorf("the PubAck does not decode: %w", err)
	case ack.Error != nil:
		return 0, ack.Error
	case ack.Sequence == 0:
		return 0, errors.New("the PubAck has no sequence")
	}
	return ack.Sequence, nil
}
