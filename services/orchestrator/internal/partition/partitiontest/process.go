package partitiontest

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"turbocat.io/contracts/errs"
)

// Faults says how often something goes wrong with a call: probabilities, each by itself.
type Faults struct {
	Fail  float64 // nothing comes of it, and the caller is told
	Drop  float64 // of a publish: it never arrives, and the caller is told when its time is up
	Lose  float64 // it is done, and the answer is lost
	Late  float64 // of a publish: it arrives after the caller was told that it had not
	Slow  float64 // the request or the answer takes up to SlowBy
	Twice float64 // of a publish: it arrives twice
	// SlowBy is how much longer something slow takes at most.
	SlowBy time.Duration
}

// Incident is something that went wrong with a call.
type Incident struct {
	Process string
	Call    string // the method
	About   string // what it was about: an execution and a step for Send, a partition for Commit
	What    string // happened
}

func (i Incident) String() string { return i.Process + ": " + i.Call + " " + i.About + " " + i.What }

// publishTimeout is after how long a publish without an answer has failed.
const publishTimeout = 5 * time.Second

var errDead = errors.New("the process is dead")

// Process stands between a process and the ledger and JetStream that it uses: calls take
// time, go wrong by chance, and end with the process. It is safe for concurrent use.
type Process struct {
	name   string
	begun  time.Time
	chance *Chance
	faults map[link]func() Faults
	note   func(Incident)

	mu     sync.Mutex
	died   chan struct{} // closed by Kill
	frozen chan struct{} // closed by Thaw; nil while it runs
	cut    map[link]bool
	last   map[string]time.Time // arrival of the last publish of each ordered kind
}

// link is one of the two that a process depends on.
type link string

const (
	toLedger    link = "ledger"
	toJetStream link = "nats"
)

// NewProcess makes a process that runs. ledger and jetstream give what goes wrong with either
// at present, note is told of it.
func NewProcess(name string, chance *Chance, ledger, jetstream func() Faults, note func(Incident)) *Process {
	faults := map[link]func() Faults{toLedger: ledger, toJetStream: jetstream}
	return &Process{name: name, begun: time.Now(), chance: chance, faults: faults, note: note, died: make(chan struct{}), cut: map[link]bool{}, last: map[string]time.Time{}}
}

// Kill ends the process as kill -9 does: whatever it calls from now on has no effect and it is
// told nothing more; what was under way arrives or does not.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !isDone(p.died) {
		close(p.died)
	}
}

// Freeze stops the process as SIGSTOP does, seen from outside: until Thaw nothing leaves it and
// it is told nothing. Time goes on for it.
func (p *Process) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// CutLedger lets every call to the ledger fail until it is given back.
func (p *Process) CutLedger(cut bool) { p.setCut(toLedger, cut) }

// CutJetStream lets every call to JetStream fail until it is given back; nothing is read meanwhile.
func (p *Process) CutJetStream(cut bool) { p.setCut(toJetStream, cut) }

func (p *Process) setCut(l link, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[l] = cut
}

func (p *Process) isCut(l link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut[l]
}

// Dead tells whether the process was killed.
func (p *Process) Dead() bool { return isDone(p.died) }

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Await returns once the process runs; an error when it is dead.
func (p *Process) Await() error {
	for {
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		if isDone(p.died) {
			return errDead
		}
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-p.died:
		}
	}
}

func (p *Process) incident(call, about, what string) { p.note(Incident{p.name, call, about, what}) }

// fate is what becomes of one call.
type fate struct {
	before, after time.Duration
	fail          bool
	drop          bool
	lose          bool
	late          time.Duration // 0: not late
	twice         time.Duration // 0: once
	orphan        bool          // it arrives although who sent it is gone
}

func (p *Process) fate(l link, what, about string) fate {
	return p.drawn(p.chance.Draw(p.name, what, about), p.faults[l]())
}

func (p *Process) drawn(r *rand.Rand, f Faults) fate {
	hit := func(probability float64) bool { return r.Float64() < probability }
	out := fate{before: lag(r), after: lag(r), fail: hit(f.Fail), drop: hit(f.Drop), lose: hit(f.Lose), orphan: hit(0.5)}
	slow, late, twice := hit(f.Slow), hit(f.Late), hit(f.Twice)
	by := time.Duration(r.Int64N(int64(max(f.SlowBy, 1))))
	switch {
	case slow && hit(0.5):
		out.before += by
	case slow:
		out.after += by
	}
	if late {
		out.late = publishTimeout + lag(r) + time.Duration(r.Int64N(int64(25*time.Second)))
	}
	if twice {
		out.twice = lag(r) + time.Duration(r.Int64N(int64(20*time.Second)))
	}
	return out
}

// lag is how long a message is on its way when nothing is wrong. That it is measured in ns
// keeps two things from happening at the same moment.
func lag(r *rand.Rand) time.Duration {
	return 100*time.Microsecond + time.Duration(r.Int64N(int64(time.Millisecond)))
}

// wait returns after d, or with an error when ctx or the process has ended before. What waits
// for a frozen process goes on one after the other.
func (p *Process) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if !p.isFrozen() {
				return p.Await()
			}
			if err := p.Await(); err != nil {
				return err
			}
			timer.Reset(d % time.Millisecond)
		case <-p.died:
			return errDead
		case <-ctx.Done():
			if err := p.Await(); err != nil { // its end is not noticed before the thaw
				return err
			}
			return ctx.Err()
		}
	}
}

func (p *Process) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen != nil
}

// ask makes one request over a link and waits for its answer. Several partitions may ask the
// same at the same moment: none is told from another, so that all fare alike.
func ask[T any](ctx context.Context, p *Process, l link, what, about string, do func(context.Context) (T, error)) (T, error) {
	fate := func() fate {
		return p.drawn(p.chance.Same(p.name, what, about, time.Since(p.begun).String()), p.faults[l]())
	}
	return call(ctx, p, l, what, about, fate, do, func() {})
}

// order is ask for what has an effect: it may still arrive when nobody waits for it any more.
func order[T any](ctx context.Context, p *Process, l link, what, about string, do func(context.Context) (T, error)) (T, error) {
	fate := func() fate { return p.fate(l, what, about) }
	return call(ctx, p, l, what, about, fate, do, func() { _, _ = do(context.WithoutCancel(ctx)) })
}

func call[T any](
	ctx context.Context, p *Process, l link, what, about string, fate func() fate, do func(context.Context) (T, error), orphaned func(),
) (T, error) {
	var none T
	if err := p.Await(); err != nil {
		return none, err
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	f := fate()
	sent := time.Now()
	if err := p.wait(ctx, f.before); err != nil {
		if f.orphan && !f.fail && !p.isCut(l) {
			p.incident(what, about, "is under way although nobody waits for it any more")
			time.AfterFunc(max(0, f.before-time.Since(sent)), orphaned)
		}
		return none, err
	}
	if f.fail || p.isCut(l) {
		p.incident(what, about, "fails")
		return none, p.unavailable(l)
	}
	out, err := do(ctx)
	if werr := p.wait(ctx, f.after); werr != nil {
		return none, werr
	}
	if f.lose && err == nil {
		p.incident(what, about, "is done, and its answer lost")
		return none, p.unavailable(l)
	}
	return out, err
}

func (p *Process) unavailable(l link) error {
	return errs.New(errs.DependencyUnavailable, "%s does not answer; try again", l)
}

// publish sends something without waiting; done is told of the outcome. What has the same
// order arrives in the order in which it was sent, "" being none.
func (p *Process) publish(what, about, order string, send func(done func(seq uint64, err error)), done func(seq uint64, err error)) {
	f := p.fate(toJetStream, what, about)
	called := time.Now()
	arrival := called.Add(f.before)
	if order != "" {
		p.mu.Lock()
		if last := p.last[order]; !arrival.After(last) {
			arrival = last.Add(1)
		}
		p.last[order] = arrival
		p.mu.Unlock()
	}
	go func() {
		if p.Await() != nil {
			return
		}
		begun := time.Now()
		answer := func(after time.Duration, seq uint64, err error) {
			if p.wait(context.Background(), after) == nil {
				done(seq, err)
			}
		}
		unanswered := func() { answer(max(0, publishTimeout+f.after-time.Since(begun)), 0, p.unavailable(toJetStream)) }
		if werr := p.wait(context.Background(), arrival.Sub(called)); werr != nil {
			if f.orphan && !f.fail && !f.drop && !p.isCut(toJetStream) {
				p.incident(what, about, "arrives after the death of its sender")
				time.AfterFunc(max(0, arrival.Sub(called)-time.Since(begun)), func() { send(func(uint64, error) {}) })
			}
			return
		}
		switch {
		case f.fail:
			p.incident(what, about, "fails")
			answer(f.after, 0, p.unavailable(toJetStream))
		case f.drop:
			p.incident(what, about, "is dropped")
			unanswered()
		case f.late > 0:
			p.incident(what, about, "arrives late, after "+f.late.String())
			time.AfterFunc(f.late, func() { send(func(uint64, error) {}) })
			unanswered()
		case p.isCut(toJetStream):
			unanswered()
		default:
			p.deliver(f, what, about, send, answer, unanswered)
		}
	}()
}

func (p *Process) deliver(
	f fate, what, about string, send func(done func(seq uint64, err error)), answer func(after time.Duration, seq uint64, err error), unanswered func(),
) {
	type outcome struct {
		seq uint64
		err error
	}
	outcomes := make(chan outcome, 1)
	send(func(seq uint64, err error) { outcomes <- outcome{seq, err} })
	if f.twice > 0 {
		p.incident(what, about, "arrives again, after "+f.twice.String())
		time.AfterFunc(f.twice, func() { send(func(uint64, error) {}) })
	}
	switch got := <-outcomes; {
	case got.err != nil:
		if f.orphan { // it was kept until the server is back
			time.AfterFunc(f.before+f.after+20*time.Second, func() { send(func(uint64, error) {}) })
		}
		unanswered()
	case f.lose:
		p.incident(what, about, "is done, and its answer lost")
		unanswered()
	case f.after >= publishTimeout:
		unanswered()
	default:
		answer(f.after, got.seq, nil)
	}
}

func number(n int) string { return strconv.Itoa(n) }
