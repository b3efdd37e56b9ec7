package partitiontest

import (
	"context"
	"errors"
	"sync"
	"time"
)

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

// Hears has the process take note of something that is told to whoever listens: a little later, or not at all.
func (p *Process) Hears(what, about string, then func()) {
	r := request{p, toJetStream, what, about}
	f := r.nth()
	if f.fail || f.drop || p.isCut(toJetStream) || p.isFrozen() {
		return
	}
	go func() {
		if p.wait(context.Background(), f.before) == nil {
			then()
		}
	}()
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
