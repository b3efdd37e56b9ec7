package partitiontest

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	// AckWait is how long a delivered step is its runner's without an extension.
	AckWait = 5 * time.Second
	// dedupeWindow is how long STEPS remembers the id of a message.
	dedupeWindow = 2 * time.Minute
	// forgets is how long before its end a server may have delivered, or had the ack of, what it does not know of afterwards.
	forgets = 100 * time.Millisecond
)

type stepStream struct {
	created  time.Time
	last     uint64
	found    uint64 // the last one when the server started
	messages map[uint64]stepMessage
	acked    map[uint64]stepMessage // not for ever
	ids      map[string]stepID
}

type stepMessage struct {
	partition.StepMessage
	id        string
	at        time.Time
	delivered int
	latest    time.Time // when it was delivered last
	until     time.Time // when the lease of its runner ends; zero when it waits for one
	ackedAt   time.Time
}

type stepID struct {
	seq uint64
	at  time.Time
}

// Delivery is a step in the hands of a runner.
type Delivery struct {
	partition.StepMessage
	Seq   uint64
	Count int       // of deliveries of this message, from 1, as far as the server knows
	Found bool      // the server had the message when it started, so there may have been more
	At    time.Time // when the message came into STEPS
}

type taker struct {
	name string
	got  chan Delivery // has room for one
}

func newStepStream(created time.Time) *stepStream {
	return &stepStream{created: created, messages: map[uint64]stepMessage{}, acked: map[uint64]stepMessage{}, ids: map[string]stepID{}}
}

func (s *stepStream) copied() *stepStream {
	c := *s
	c.messages, c.acked, c.ids = maps.Clone(s.messages), maps.Clone(s.acked), maps.Clone(s.ids)
	return &c
}

// killed forgets the last deliveries and acks.
func (s *stepStream) killed(now time.Time) {
	for seq, m := range s.acked {
		if now.Sub(m.ackedAt) <= forgets {
			s.messages[seq] = m
		}
	}
	clear(s.acked)
	for seq, m := range s.messages {
		if m.delivered == 0 || now.Sub(m.latest) > forgets {
			continue
		}
		if m.delivered--; m.delivered == 0 {
			m.until = time.Time{}
		}
		s.messages[seq] = m
	}
}

func (s *stepStream) restarted(now time.Time) {
	s.found = s.last
	s.ids = map[string]stepID{}
	for seq, m := range s.messages {
		if now.Sub(m.at) < dedupeWindow {
			s.ids[m.id] = stepID{seq, m.at}
		}
		if m.delivered > 0 {
			m.until = now.Add(AckWait)
			s.messages[seq] = m
		}
	}
}

// send puts a step into STEPS, unless its id was there within the dedupe window.
func (j *JetStream) send(m partition.StepMessage) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.disk.steps
	if j.away || s == nil {
		return 0, errAway
	}
	now := j.Now()
	id := m.Token + "." + strconv.Itoa(m.Dispatch)
	if before, ok := s.ids[id]; ok && now.Sub(before.at) < dedupeWindow {
		j.OnStep(m, before.seq, true)
		return before.seq, nil
	}
	s.last++
	s.messages[s.last] = stepMessage{StepMessage: m, id: id, at: now}
	s.ids[id] = stepID{s.last, now}
	j.OnStep(m, s.last, false)
	j.handOut()
	return s.last, nil
}

// Take gives the runner with this name the next step that waits.
func (j *JetStream) Take(ctx context.Context, runner string) (Delivery, error) {
	t := &taker{name: runner, got: make(chan Delivery, 1)}
	j.mu.Lock()
	j.takers = append(j.takers, t)
	j.handOut()
	j.mu.Unlock()
	select {
	case d := <-t.got:
		return d, nil
	case <-ctx.Done():
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.takers = slices.DeleteFunc(j.takers, func(o *taker) bool { return o == t })
	return Delivery{}, ctx.Err()
}

// handOut gives waiting steps, in order, to runners that ask. Which runner gets one depends on
// the step and the names, not on who asked first.
func (j *JetStream) handOut() {
	s := j.disk.steps
	if j.away || s == nil {
		return
	}
	for _, seq := range slices.Sorted(maps.Keys(s.messages)) {
		m := s.messages[seq]
		if !m.until.IsZero() || len(j.takers) == 0 {
			continue
		}
		t := slices.MinFunc(j.takers, func(a, b *taker) int {
			return cmp.Or(cmp.Compare(m.draws(a.name), m.draws(b.name)), cmp.Compare(a.name, b.name))
		})
		j.takers = slices.DeleteFunc(j.takers, func(o *taker) bool { return o == t })
		m.delivered++
		m.latest = j.Now()
		m.until = m.latest.Add(AckWait)
		s.messages[seq] = m
		j.await(seq, AckWait)
		t.got <- Delivery{StepMessage: m.StepMessage, Seq: seq, Count: m.delivered, Found: seq <= s.found, At: m.at}
	}
}

func (m stepMessage) draws(runner string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.id + strconv.Itoa(m.delivered) + runner))
	return h.Sum32()
}

// await gives a step to another runner once its lease is over.
func (j *JetStream) await(seq uint64, d time.Duration) {
	time.AfterFunc(d, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		s := j.disk.steps
		if s == nil {
			return
		}
		m, ok := s.messages[seq]
		switch left := m.until.Sub(j.Now()); {
		case !ok || m.until.IsZero():
		case left > 0:
			j.await(seq, left)
		default:
			m.until = time.Time{}
			s.messages[seq] = m
			j.handOut()
		}
	})
}

func (j *JetStream) awaitLeases() {
	if j.disk.steps == nil {
		return
	}
	for seq, m := range j.disk.steps.messages {
		if !m.until.IsZero() {
			j.await(seq, m.until.Sub(j.Now()))
		}
	}
}

// Extend begins the lease of a delivered step anew; false when nobody took note.
func (j *JetStream) Extend(seq uint64) bool {
	return j.delivered(seq, func(s *stepStream, m stepMessage) {
		m.until = j.Now().Add(AckWait)
		s.messages[seq] = m
	})
}

// Ack removes a delivered step; false when nobody took note. As with a real server the
// sequence alone says which: after a rollback it may be another's.
func (j *JetStream) Ack(seq uint64) bool {
	return j.delivered(seq, func(s *stepStream, m stepMessage) {
		delete(s.messages, seq)
		m.ackedAt = j.Now()
		s.acked[seq] = m
	})
}

// Nak lets another runner take a delivered step at once; false when nobody took note.
func (j *JetStream) Nak(seq uint64) bool {
	return j.delivered(seq, func(s *stepStream, m stepMessage) {
		m.until = time.Time{}
		s.messages[seq] = m
		j.handOut()
	})
}

func (j *JetStream) delivered(seq uint64, then func(*stepStream, stepMessage)) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.disk.steps
	if j.away || s == nil {
		return false
	}
	m, ok := s.messages[seq]
	if !ok || m.until.IsZero() {
		return false
	}
	then(s, m)
	return true
}

// Steps gives the messages that are in STEPS, in order.
func (j *JetStream) Steps() []Delivery {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.disk.steps == nil {
		return nil
	}
	var out []Delivery
	for _, seq := range slices.Sorted(maps.Keys(j.disk.steps.messages)) {
		m := j.disk.steps.messages[seq]
		out = append(out, Delivery{StepMessage: m.StepMessage, Seq: seq, Count: m.delivered, At: m.at})
	}
	return out
}
