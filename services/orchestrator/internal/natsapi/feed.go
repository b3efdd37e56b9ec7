package natsapi

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/subject"
)

const (
	// feedAhead is how many inputs are on their way at once, of all partitions.
	feedAhead = 1024
	// joinWait is for how long readers are gathered for one consumer, and leaveWait how long it goes on to read what nobody does.
	joinWait  = 5 * time.Millisecond
	leaveWait = time.Second
	// makeTimeout bounds the making of a consumer.
	makeTimeout = 5 * time.Second
)

// feed hands the inputs of the log to the readers of this process. One ordered consumer brings those of all partitions: if each had its own,
// the server would look for the next message of each among those of all the others. The consumer is made anew when
// readers come and go; it goes on after the last input that was handed over, and what comes again to a reader is dropped.
type feed struct {
	transport *Transport
	pending   atomic.Uint64 // inputs that the log has behind the last one that came

	remaking sync.Mutex // held while the consumer is made

	turn      sync.Mutex // held while an input is handed over, which may wait for its reader; guards what follows
	serial    int        // of the consumer whose inputs count
	name      string     // that the server calls it; "" until its first input
	passed    uint64     // up to here its inputs were handed over
	covered   []int      // the partitions it reads
	consuming jetstream.ConsumeContext

	mu      sync.Mutex // never waits; guards what follows
	readers map[int][]*reader
	next    *remake // planned and not begun; nil for none
}

// remake is a consumer that is to be made.
type remake struct {
	timer *time.Timer
	done  chan struct{} // closed once it is made, or failed with err
	err   error
}

// join has a reader get its inputs from r.next on. It returns once they are on their way.
func (f *feed) join(ctx context.Context, r *reader) error {
	f.mu.Lock()
	f.readers[r.p] = append(f.readers[r.p], r)
	planned := f.plan(joinWait)
	f.mu.Unlock()
	select {
	case <-planned.done:
		return planned.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave ends what join has begun. It is safe to repeat.
func (f *feed) leave(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(f.readers[r.p]), func(o *reader) bool { return o == r })
	if f.readers[r.p] = others; len(others) == 0 {
		delete(f.readers, r.p)
	}
	if len(f.readers) > 0 {
		f.plan(leaveWait)
	} else {
		f.plan(0)
	}
}

// plan has the consumer made anew after a time at most. The caller has the mutex.
func (f *feed) plan(wait time.Duration) *remake {
	if f.next == nil || wait < leaveWait && f.next.timer.Stop() {
		m := f.next
		if m == nil {
			m = &remake{done: make(chan struct{})}
		}
		f.next = m
		m.timer = time.AfterFunc(wait, func() { f.make(m) })
	}
	return f.next
}

// make ends the consumer and makes the next one, if anybody reads.
func (f *feed) make(m *remake) {
	defer close(m.done)
	f.remaking.Lock()
	defer f.remaking.Unlock()
	f.turn.Lock()
	from, partitions, needed := f.begin()
	if !needed {
		f.turn.Unlock()
		return
	}
	f.serial++
	serial, before := f.serial, f.consuming
	f.name, f.passed, f.covered, f.consuming = "", 0, partitions, nil
	f.turn.Unlock()
	if before != nil {
		before.Stop()
	}
	f.pending.Store(0)
	if len(partitions) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	var consuming jetstream.ConsumeContext
	consumer, err := f.transport.js.OrderedConsumer(ctx, subject.ExecutionInputStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters(partitions), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, InactiveThreshold: 30 * time.Second,
	})
	if err == nil {
		consuming, err = consumer.Consume(func(m jetstream.Msg) { f.receive(serial, m) }, jetstream.PullMaxMessages(feedAhead),
			jetstream.ConsumeErrHandler(func(jetstream.ConsumeContext, error) { f.fail() }))
	}
	if err != nil {
		m.err = err
		f.fail()
		return
	}
	f.turn.Lock()
	f.consuming = consuming
	f.turn.Unlock()
}

// begin tells for which partitions a consumer is needed now, and from where on; false when the one there is will do. The caller has the turn.
func (f *feed) begin() (from uint64, partitions []int, needed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = nil
	needed = f.consuming == nil
	for p, readers := range f.readers {
		partitions = append(partitions, p)
		for _, r := range readers {
			if r.fed == f.serial && f.serial > 0 {
				r.next = max(r.next, f.passed+1)
			} else {
				needed = true
			}
			r.fed = f.serial + 1
			if from == 0 || r.next < from {
				from = r.next
			}
		}
	}
	slices.Sort(partitions)
	if !needed && slices.Equal(partitions, f.covered) {
		for _, readers := range f.readers {
			for _, r := range readers {
				r.fed = f.serial
			}
		}
		return 0, nil, false
	}
	return max(from, 1), partitions, true
}

// filters are the subjects of partitions.
func filters(partitions []int) []string {
	if len(partitions) == subject.Partitions {
		return []string{subject.ExecutionInputAll}
	}
	out := make([]string, len(partitions))
	for i, p := range partitions {
		out[i] = subject.ExecutionInputPartition(p)
	}
	return out
}

// receive hands an input over.
func (f *feed) receive(serial int, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return // not from JetStream
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	switch {
	case serial != f.serial:
		return
	case f.name == "":
		f.name = meta.Consumer
	case f.name != meta.Consumer: // the log may be another: the owners compare it, and read again
		f.serial++
		f.fail()
		return
	}
	f.pending.Store(meta.NumPending)
	f.mu.Lock()
	readers := f.readers[partitionOf(m.Subject())]
	f.mu.Unlock()
	for _, r := range readers {
		if r.fed == serial { // else it has just joined, and this consumer may be beyond what it waits for
			r.receive(m, meta)
		}
	}
	f.passed = meta.Sequence.Stream
}

// fail has everybody read again.
func (f *feed) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, readers := range f.readers {
		for _, r := range readers {
			r.reset()
		}
	}
}

// partitionOf gives the partition that an input's subject names; -1 for none.
func partitionOf(name string) int {
	number, _, _ := strings.Cut(strings.TrimPrefix(name, strings.TrimSuffix(subject.ExecutionInputAll, ">")), ".")
	p, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return p
}
