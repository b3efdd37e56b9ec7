package partitiontest

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// errAway is what calls to a server that is down come to.
var errAway = errors.New("nats: no responders")

// JetStream is a NATS server in memory, as far as the orchestrator and its runners use it: the
// input log, STEPS as a work queue, EVENTS, and the bucket of cancelled attempts. Its store may
// be lost, or taken back to what it was before. Its fields are set before it is used. It is
// safe for concurrent use.
type JetStream struct {
	// Now is the server's clock, which the log's times go by.
	Now func() time.Time
	// OnInput, OnStep, OnEvent and OnStop are told of what the store takes, in order; OnStep's
	// duplicate says that it was there already. They must neither block nor call back.
	OnInput func(p int, m partition.Message)
	OnStep  func(m partition.StepMessage, seq uint64, duplicate bool)
	OnEvent func(e partition.EventRow)
	OnStop  func(token string)

	mu      sync.Mutex
	away    bool
	disk    disk
	readers map[*reader]bool
	takers  []*taker
	watches map[string]chan struct{} // of cancelled attempts, by token
}

// disk is what a store holds.
type disk struct {
	input     *inputStream
	steps     *stepStream
	events    *eventStream
	cancelled map[string]bool // nil: the bucket is not there
}

type inputStream struct {
	created  time.Time
	first    uint64
	messages []logged // the first one has sequence first, and there are no gaps
}

type logged struct {
	p int
	partition.Message
}

type eventStream struct {
	created time.Time
	rows    []partition.EventRow
}

// NewJetStream makes a server whose store is empty.
func NewJetStream() *JetStream {
	return &JetStream{
		Now: time.Now, OnInput: func(int, partition.Message) {}, OnStep: func(partition.StepMessage, uint64, bool) {},
		OnEvent: func(partition.EventRow) {}, OnStop: func(string) {}, readers: map[*reader]bool{}, watches: map[string]chan struct{}{},
	}
}

// Disk is a copy of what a server held at some moment.
type Disk struct{ disk disk }

// Snapshot copies what is stored.
func (j *JetStream) Snapshot() Disk {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Disk{j.disk.copied()}
}

// Stop kills the server: every call fails until Start. Readers end there; steps that runners hold stay theirs, but for those
// whose delivery it has no time to note.
func (j *JetStream) Stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.away = true
	if j.disk.steps != nil {
		j.disk.steps.killed(j.Now())
	}
	j.resetReaders()
}

// Start begins again with what is stored. What was sent is remembered by the messages that are
// still there alone: a restart forgets the ids of those that were acked.
func (j *JetStream) Start() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.away = false
	j.resetReaders()
	if j.disk.steps != nil {
		j.disk.steps.restarted(j.Now())
	}
	j.handOut()
	j.awaitLeases()
}

// Lose empties the store.
func (j *JetStream) Lose() { j.Restore(Disk{}) }

// Restore puts the store where it was.
func (j *JetStream) Restore(s Disk) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.disk = s.disk.copied()
	j.resetReaders()
}

// Drop deletes one stream: the input log, STEPS or EVENTS, by its name in package subject.
func (j *JetStream) Drop(stream string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch stream {
	case subject.ExecutionInputStream:
		j.disk.input = nil
		j.resetReaders()
	case subject.StepsStream:
		j.disk.steps = nil
	case subject.EventsStream:
		j.disk.events = nil
	}
}

func (d disk) copied() disk {
	out := disk{cancelled: maps.Clone(d.cancelled)}
	if d.input != nil {
		c := *d.input
		c.messages = slices.Clone(c.messages)
		out.input = &c
	}
	if d.steps != nil {
		out.steps = d.steps.copied()
	}
	if d.events != nil {
		c := *d.events
		c.rows = slices.Clone(c.rows)
		out.events = &c
	}
	return out
}

// last is the sequence of the newest message that the stream has had.
func (s *inputStream) last() uint64 {
	if s.first == 0 {
		return 0
	}
	return s.first + uint64(len(s.messages)) - 1
}

// at gives the message with a sequence; nil when it is not there.
func (s *inputStream) at(seq uint64) *logged {
	if seq == 0 || seq < s.first || seq > s.last() {
		return nil
	}
	return &s.messages[seq-s.first]
}

// LastSeq is the sequence of the newest input that the log has had.
func (j *JetStream) LastSeq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.disk.input == nil {
		return 0
	}
	return j.disk.input.last()
}

// Put appends an input to the log of partition p. Its sequence and time are the stream's.
func (j *JetStream) Put(p int, m partition.Message) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.disk.input
	if j.away || s == nil {
		return errAway
	}
	now := j.Now()
	if s.first == 0 {
		s.first = 1
	}
	m.Seq, m.Time, m.Input.Time = s.last()+1, now.UnixNano(), engine.TimeOf(now)
	s.messages = append(s.messages, logged{p, m})
	j.OnInput(p, m)
	for r := range j.readers {
		r.wake()
	}
	return nil
}

// messageOf gives a control the way the log's reader would decode it.
func messageOf(c partition.Control) partition.Message {
	m := partition.Message{ExecutionID: c.ExecutionID, Input: engine.Input{Kind: c.Kind}}
	switch c.Kind {
	case engine.Cancel, engine.Pause, engine.Resume, engine.Signaled:
		m.Input.Command, m.Input.Token, m.Input.Signal = c.CommandID, c.CommandID, c.Signal
	case engine.StepLost:
		m.Input.Step, m.Input.Iteration, m.Input.Token, m.Input.Dispatch = c.Step, c.Iteration, c.Token, c.Dispatch
	case engine.Gathered:
		m.Input.Step, m.Input.Token, m.Input.Output, m.Input.Err = c.Step, c.ExecutionID, c.Output, c.Err
	case engine.StepCompleted, engine.StepFailed: // of children
		m.Input.Step, m.Input.Iteration, m.Input.Token, m.Input.Output, m.Input.Err = c.Step, c.Iteration, c.Token, c.Output, c.Err
	default:
		m.Input.Token = c.ExecutionID
	}
	return m
}

// Cancelled gives a channel that is closed once the attempt was cancelled, also when the
// bucket has been lost since.
func (j *JetStream) Cancelled(token string) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.watch(token)
}

func (j *JetStream) watch(token string) chan struct{} {
	w := j.watches[token]
	if w == nil {
		w = make(chan struct{})
		j.watches[token] = w
	}
	return w
}

func (j *JetStream) cancel(token string) {
	j.disk.cancelled[token] = true
	w := j.watch(token)
	select {
	case <-w:
	default:
		close(w)
		j.OnStop(token)
	}
}
