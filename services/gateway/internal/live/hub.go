// Package live follows executions as they happen. One Hub reads the stream of public
// events once and hands each event to those who follow its execution; a Feed joins that
// tail with the history, by seq, so that its reader sees every event once and in order.
// Of what models write the Hub remembers what a Feed may still ask for; nothing else knows it.
package live

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

const (
	// tailSize is how many events a follower may lag behind before it reads the history instead.
	tailSize   = 64
	askTimeout = 5 * time.Second
)

// Event is a public event of an execution: its place, its type and its bytes.
type Event struct {
	Seq  uint64
	Type string
	Body []byte
}

// Terminal tells whether nothing follows the event.
func (e Event) Terminal() bool {
	switch e.Type {
	case orchestrator.EventCompleted.String(), orchestrator.EventFailed.String(),
		orchestrator.EventCancelled.String(), orchestrator.EventTimedOut.String():
		return true
	}
	return false
}

// Hub hands the events of the stream, and what models write, to the feeds of their executions. It is safe for concurrent use.
type Hub struct {
	conn *bus.Conn
	log  zerolog.Logger

	mu    sync.RWMutex
	tails map[string]map[*tail]struct{}

	texts *texts
	news  *news // of feeds
	logs  *news

	reading sync.Mutex
	read    *place // up to where texts has them; another for each consumer
}

// place is a message of a stream that was created then.
type place struct {
	created time.Time
	seq     uint64
}

// tail is what a follower has not read yet. stale says that events may be missing from it.
type tail struct {
	events chan Event
	stale  chan struct{}
}

func (t *tail) miss() {
	select {
	case t.stale <- struct{}{}:
	default:
	}
}

// NewHub makes a hub; it hands out nothing before Run.
func NewHub(conn *bus.Conn, log zerolog.Logger) *Hub {
	return &Hub{conn: conn, log: log, tails: map[string]map[*tail]struct{}{}, texts: newTexts(), news: newNews(), logs: newNews(), read: &place{}}
}

// Run reads the streams until ctx ends. One that does not exist yet, went away or was made anew is waited for; the events
// that were missed meanwhile the feeds read from the history.
func (h *Hub) Run(ctx context.Context) {
	var reading sync.WaitGroup
	reading.Go(func() { h.conn.Keep(ctx, h.log, "no live events for now; trying until they come", h.readEvents) })
	reading.Go(func() { h.conn.Keep(ctx, h.log, "no live text for now; trying until it comes", h.readTexts) })
	reading.Go(func() { h.texts.run(ctx) })
	reading.Go(func() { h.hear(ctx, subject.FeedNews, h.heardNews) })
	reading.Go(func() { h.hear(ctx, subject.LogNews, h.heardLogs) })
	reading.Wait()
}

// readEvents is a bus.Session that consumes the stream of events from now on.
func (h *Hub) readEvents(ctx context.Context, works func()) error {
	return h.conn.Tail(ctx, subject.EventsStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.EventsAll}, DeliverPolicy: jetstream.DeliverNewPolicy,
	}, func(m jetstream.Msg) { h.publishAll(m.Data()) }, func() {
		works()
		h.missAll()
	})
}

// readTexts is a bus.Session that consumes the stream of live text: from its beginning, for what was written before this
// gateway started is wanted too, or behind what was read of that very stream.
func (h *Hub) readTexts(ctx context.Context, works func()) error {
	asked, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := h.conn.JetStream().Stream(asked, subject.TokensStream)
	if err != nil {
		return fmt.Errorf("find %s: %w", subject.TokensStream, err)
	}
	h.reading.Lock()
	at := &place{created: stream.CachedInfo().Created}
	if at.created.Equal(h.read.created) {
		at.seq = h.read.seq
	}
	from := at.seq + 1
	h.read = at
	h.reading.Unlock()
	return h.conn.Tail(ctx, subject.TokensStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.TokensAll}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	}, func(m jetstream.Msg) { h.addAll(at, m) }, works)
}

// addAll takes in what models write, from the consumer that reads on from at.
func (h *Hub) addAll(at *place, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return // not from JetStream
	}
	h.reading.Lock()
	defer h.reading.Unlock()
	if h.read != at || meta.Sequence.Stream <= at.seq {
		return // another consumer has brought it, or will
	}
	at.seq = meta.Sequence.Stream
	var batch runner.TokenBatch
	if err := json.Unmarshal(m.Data(), &batch); err != nil {
		h.log.Error().Err(err).Msg("a message in the stream of live text that is none")
		return
	}
	for _, token := range batch.Tokens {
		h.texts.add(token, time.Now())
	}
}

// publishAll hands the events of a batch to the followers of their executions; while nobody follows any it is not read.
func (h *Hub) publishAll(batch []byte) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if len(h.tails) == 0 {
		return
	}
	events, err := event.Split(batch)
	if err != nil {
		h.log.Error().Err(err).Msg("a message in the stream of events that is none")
		return
	}
	for _, body := range events {
		h.publish(body)
	}
}

// publish hands an event to the followers of its execution; without any it is not decoded. The caller has the mutex.
func (h *Hub) publish(body []byte) {
	if len(h.tails[subjectOf(body)]) == 0 {
		return
	}
	var e struct {
		Subject string `json:"subject"`
		Type    string `json:"type"`
		Data    struct {
			Seq uint64 `json:"seq"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Data.Seq == 0 {
		return // not an event of an execution
	}
	happened := Event{Seq: e.Data.Seq, Type: e.Type, Body: body}
	for t := range h.tails[e.Subject] {
		select {
		case t.events <- happened:
		default:
			t.miss()
		}
	}
}

func (h *Hub) missAll() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, tails := range h.tails {
		for t := range tails {
			t.miss()
		}
	}
}

func (h *Hub) subscribe(executionID string) *tail {
	t := &tail{events: make(chan Event, tailSize), stale: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tails[executionID] == nil {
		h.tails[executionID] = map[*tail]struct{}{}
	}
	h.tails[executionID][t] = struct{}{}
	return t
}

func (h *Hub) unsubscribe(executionID string, t *tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tails[executionID], t)
	if len(h.tails[executionID]) == 0 {
		delete(h.tails, executionID)
	}
}

// Followed is how many executions have a feed open.
func (h *Hub) Followed() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.tails)
}

var subjectKey = []byte(`"subject":"`)

// subjectOf finds the subject of a structured event without decoding it; "" when there is
// none. What it finds is a hint: it may also stand in the data of a foreign event.
func subjectOf(body []byte) string {
	_, rest, ok := bytes.Cut(body, subjectKey)
	if !ok {
		return ""
	}
	value, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return ""
	}
	return string(value)
}
