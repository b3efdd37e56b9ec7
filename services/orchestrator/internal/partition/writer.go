package partition

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Bounds of what may be applied and not yet committed. Beyond them inputs wait in the log.
const (
	maxUncommitted      = 50_000
	maxUncommittedBytes = 64 << 20
	maxUncommittedAge   = 10 * time.Second

	// ackWait is how long a commit waits for the PubAcks of the steps it caused.
	ackWait = time.Second
)

// change is what one input did, or a note that moves nothing; see run.noteSent. It is immutable
// but for the sends, whose sequence comes late.
type change struct {
	run       *run
	from      uint64 // the sequence applied before
	seq       uint64
	time      int64
	eventN    uint64
	exec      *ExecutionRow
	steps     []stepChange
	events    []EventRow
	stops     []stopChange
	commands  []CommandRow
	follows   bool      // there is something to follow up once it is committed
	told      []Control // for the logs of other executions once it is committed
	endsLarge *largeEnd // for the execution that waits for the end of this one, when the outputs are large; nil for none
	dead      *DeadLetter
	ended     string // the status that the execution has ended with, by this change
	size      int
	made      time.Time
	span      trace.Span // of the input; nil when none is recorded

	compensation *Compensation // of an execution that ends; nil for none
	cancels      []string      // executions that no task of this one waits for any more
}

// tell has another execution know of the change once it is committed; nil tells nothing.
func (c *change) tell(in *Control) {
	if in != nil {
		c.told = append(c.told, *in)
	}
}

type stepChange struct {
	row  StepRow
	send *send // the message of the step's current attempt; nil when there is none
}

type stopChange struct {
	attempt StoppedAttempt
	send    *send
}

// awaited tells whether something goes on only once the change is committed: who waits for the end of an execution, the next
// step of a fan-out or of another execution, a runner that is to stop.
func (c *change) awaited() bool {
	return c.ended != "" || c.follows || len(c.stops) > 0 || len(c.cancels) > 0 || len(c.commands) > 0 || c.dead != nil
}

// send is one message on its way into STEPS.
type send struct {
	done chan struct{} // closed when the outcome is known
	seq  uint64        // 0 when it failed; read it after done
	at   time.Time

	dealt *dealing.Step // what holds its place in STEPS; nil once given back, and for children; only for the run's goroutine
	noted atomic.Bool   // the ledger has seq, or a commit under way gives it seq; any goroutine
}

func (s *send) sequence() uint64 {
	if s == nil {
		return 0
	}
	select {
	case <-s.done:
		return s.seq
	default:
		return 0
	}
}

// Writer is the only one in a process that commits what inputs did: one transaction for
// everything since the last one.
type Writer struct {
	ledger  Ledger
	log     zerolog.Logger
	metrics *metrics

	mu      sync.Mutex
	queue   queue
	count   int // changes not committed yet, also those in work
	bytes   int
	oldest  time.Time     // of the changes not committed yet; zero when there are none
	changed chan struct{} // closed and replaced whenever something was committed or dropped
	arrived chan struct{} // has one entry when the queue is not empty
	hurry   chan struct{} // has one entry when an awaited change has come
}

func newWriter(ledger Ledger, log zerolog.Logger, m *metrics) *Writer {
	return &Writer{ledger: ledger, log: log, metrics: m, changed: make(chan struct{}), arrived: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
}

// add queues a change. It never blocks; see admit.
func (w *Writer) add(c *change) {
	w.mu.Lock()
	if w.count == 0 {
		w.oldest = c.made
	}
	w.queue.add(c)
	w.count++
	w.bytes += c.size
	w.mu.Unlock()
	signal(w.arrived)
	if c.awaited() {
		signal(w.hurry)
	}
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// admit waits until the bounds allow more changes, or ctx ends.
func (w *Writer) admit(ctx context.Context) error {
	return w.wait(ctx, func() bool { return !w.full() })
}

// full tells whether the bounds are reached. The caller has the mutex.
func (w *Writer) full() bool {
	return w.count >= maxUncommitted || w.bytes >= maxUncommittedBytes || w.count > 0 && time.Since(w.oldest) >= maxUncommittedAge
}

// behind tells whether no more changes are admitted at present.
func (w *Writer) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full()
}

// flush waits until every change of r so far is committed or dropped, or ctx ends.
func (w *Writer) flush(ctx context.Context, r *run) error {
	return w.wait(ctx, func() bool { return r.uncommitted.Load() == 0 })
}

func (w *Writer) wait(ctx context.Context, ok func() bool) error {
	for {
		w.mu.Lock()
		done, changed := ok(), w.changed
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run commits until ctx ends.
func (w *Writer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.arrived:
		}
		for {
			batch := w.gather(ctx)
			if batch == nil {
				break
			}
			if err := w.commit(ctx, batch); err != nil {
				return nil // ctx has ended; what is not committed is applied again by the next owner
			}
			w.settled(batch)
		}
	}
}

// gather takes the changes of the next commit off the queue once they are due; nil when there are none, or ctx ends.
func (w *Writer) gather(ctx context.Context) []*change {
	for {
		select {
		case <-w.hurry: // whatever it was for is in the queue
		default:
		}
		w.mu.Lock()
		empty := w.queue.count == 0
		batch, wait := w.queue.take(time.Now())
		w.mu.Unlock()
		if empty || batch != nil {
			return batch
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.hurry:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

func (w *Writer) settled(batch []*change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range batch {
		w.count--
		w.bytes -= c.size
		c.run.uncommitted.Add(-1)
	}
	if w.queue.count > 0 {
		w.oldest = w.queue.oldest()
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// commit writes the changes of live runs, however long the database is away. Its error is ctx's.
func (w *Writer) commit(ctx context.Context, changes []*change) error {
	awaitSends(ctx, changes)
	pause := 20 * time.Millisecond
	for ctx.Err() == nil {
		if changes = ofLiveRuns(changes); len(changes) == 0 {
			return nil
		}
		batch, begin := batchOf(changes), time.Now()
		follow, err := w.ledger.Commit(ctx, batch)
		var fenced *FencedError
		switch {
		case err == nil:
			took := time.Since(begin)
			w.metrics.committed(changes, took)
			w.mu.Lock()
			w.queue.took(took)
			w.mu.Unlock()
			announce(changes)
			for _, c := range follow {
				changes[0].run.append(c)
			}
			return nil
		case errors.As(err, &fenced):
			w.metrics.commitFailures.WithLabelValues(failedFenced).Inc()
			for _, c := range changes {
				if slices.Contains(fenced.Partitions, c.run.position.P) {
					c.run.drop()
				}
			}
			continue
		case errors.Is(err, ErrRefused):
			w.metrics.commitFailures.WithLabelValues(failedRefused).Inc()
			if !w.isolate(ctx, changes, err) {
				w.log.Error().Err(err).Msg("the ledger refuses a batch whose parts it takes; its partitions begin anew")
				for _, c := range changes {
					c.run.reset("", "")
				}
			}
			continue
		}
		w.metrics.commitFailures.WithLabelValues(failedAway).Inc()
		w.log.Warn().Err(err).Int("changes", len(changes)).Msg("commit failed; repeating it")
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(pause*2, time.Second)
	}
	return ctx.Err()
}

// isolate finds the executions whose data the ledger refuses, by halving, and has their
// partitions begin anew from the ledger with those executions marked as faulty; false when
// none was found. Nothing of the affected partitions is committed, so their inputs are applied again.
func (w *Writer) isolate(ctx context.Context, changes []*change, cause error) bool {
	if len(changes) > 1 {
		found := false
		half := len(changes) / 2
		for _, part := range [][]*change{changes[:half], changes[half:]} {
			if err := w.ledger.Rehearse(ctx, batchOf(part)); errors.Is(err, ErrRefused) {
				found = w.isolate(ctx, part, err) || found
			}
		}
		return found
	}
	c := changes[0]
	if c.exec == nil {
		return false
	}
	w.log.Error().Err(cause).Str("executionId", c.exec.ID).Msg("the ledger refuses the state of an execution; it will be failed")
	c.run.reset(c.exec.ID, "the ledger refused the state of the execution")
	return true
}

func ofLiveRuns(changes []*change) []*change {
	live := make([]*change, 0, len(changes))
	for _, c := range changes {
		if !c.run.dead.Load() {
			live = append(live, c)
		}
	}
	return live
}

func awaitSends(ctx context.Context, changes []*change) {
	var deadline <-chan time.Time
	for _, c := range changes {
		for _, s := range c.steps {
			if s.send == nil {
				continue
			}
			select {
			case <-s.send.done:
				continue
			default:
			}
			if deadline == nil {
				timer := time.NewTimer(ackWait)
				defer timer.Stop()
				deadline = timer.C
			}
			select {
			case <-s.send.done:
			case <-deadline:
				return // those without a PubAck are committed as unsent
			case <-ctx.Done():
				return
			}
		}
	}
}

type stepID struct {
	execution string
	engine.Place
}

// batchOf puts changes together: of each row the last counts.
func batchOf(changes []*change) Batch {
	var b Batch
	partitions := map[int]int{}
	executions := map[string]int{}
	steps := map[stepID]int{}
	commands := map[string]int{}
	for _, c := range changes {
		pos := c.run.position
		advance := Advance{P: pos.P, Epoch: pos.Epoch, From: c.from, InputSeq: c.seq, InputTime: c.time, EventN: c.eventN}
		if i, ok := partitions[pos.P]; ok {
			advance.From = b.Partitions[i].From
			b.Partitions[i] = advance
		} else {
			partitions[pos.P] = len(b.Partitions)
			b.Partitions = append(b.Partitions, advance)
		}
		if c.exec != nil {
			if i, ok := executions[c.exec.ID]; ok {
				b.Executions[i] = *c.exec
			} else {
				executions[c.exec.ID] = len(b.Executions)
				b.Executions = append(b.Executions, *c.exec)
			}
		}
		for _, s := range c.steps {
			row := s.row
			if row.Sent = s.send.sequence(); row.Sent > 0 {
				s.send.noted.Store(true)
			}
			id := stepID{row.ExecutionID, row.Place}
			if i, ok := steps[id]; ok {
				b.Steps[i] = row
			} else {
				steps[id] = len(b.Steps)
				b.Steps = append(b.Steps, row)
			}
		}
		b.Events = append(b.Events, c.events...)
		for _, command := range c.commands {
			if i, ok := commands[command.ID]; ok {
				b.Commands[i] = command
			} else {
				commands[command.ID] = len(b.Commands)
				b.Commands = append(b.Commands, command)
			}
		}
		if c.compensation != nil {
			b.Compensations = append(b.Compensations, *c.compensation)
		}
		b.Cancels = append(b.Cancels, c.cancels...)
		if c.dead != nil {
			b.DeadLetters = append(b.DeadLetters, *c.dead)
		}
	}
	slices.SortFunc(b.Partitions, func(x, y Advance) int { return x.P - y.P })
	return b
}

// announce tells each run what is committed, in order.
func announce(changes []*change) {
	byRun := map[*run][]*change{}
	var order []*run
	for _, c := range changes {
		if byRun[c.run] == nil {
			order = append(order, c.run)
		}
		byRun[c.run] = append(byRun[c.run], c)
	}
	for _, r := range order {
		r.committed(byRun[r])
	}
}
