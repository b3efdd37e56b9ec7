package simulation

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// world is everything that one seed makes.
type world struct {
	seed    uint64
	chance  *partitiontest.Chance
	profile profile
	trace   *trace
	ledger  *partitiontest.Ledger
	server  *partitiontest.JetStream
	witness *witness
	begun   time.Time

	healthy       atomic.Bool  // no faults any more
	healed        time.Time    // since when
	jetstreamLags atomic.Int64 // how far the server's clock is ahead, in ns
	clockWentBack atomic.Int64 // by how much, in ns

	running sync.WaitGroup // whatever has to end before the world does
	ending  context.Context
	end     context.CancelFunc

	mu       sync.Mutex
	owners   []*owner
	runners  []*runnerProcess
	natsAway bool
	clients  sync.WaitGroup
	defs     map[string]*scripted // by execution
}

func newWorld(ctx context.Context, seed uint64) *world {
	ending, end := context.WithCancel(ctx)
	chance := partitiontest.NewChance(seed)
	w := &world{
		seed: seed, chance: chance, profile: drawProfile(chance.Draw("profile")), trace: newTrace(), begun: time.Now(), ending: ending, end: end,
		ledger: partitiontest.NewLedger(fmt.Appendf(nil, "secret %d", seed)), server: partitiontest.NewJetStream(), defs: map[string]*scripted{},
	}
	w.witness = newWitness(w)
	w.jetstreamLags.Store(int64(w.profile.jetstreamClock))
	w.ledger.Now = func() time.Time { return time.Now().Add(w.profile.ledgerClock) }
	w.server.Now = func() time.Time { return time.Now().Add(time.Duration(w.jetstreamLags.Load())) }
	w.ledger.Compile, w.ledger.Refuse, w.ledger.Committed = w.compile, w.refuse, w.witness.committed
	w.ledger.Accepted, w.ledger.Settled, w.ledger.Stored = w.accepted, w.witness.settled, w.witness.stored
	w.server.OnInput, w.server.OnStep, w.server.OnEvent, w.server.OnStop = w.witness.input, w.witness.sent, w.witness.published, w.witness.stopped
	w.trace.note("seed %d: %s", seed, w.profile)
	return w
}

// after calls then at a moment of the world, unless the world has ended before.
func (w *world) after(d time.Duration, then func()) {
	w.running.Go(func() {
		if pause(w.ending, d) == nil {
			then()
		}
	})
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// short is enough of an id to tell it apart.
func short(id string) string {
	if len(id) > 8 {
		return id[len(id)-8:]
	}
	return id
}

func (w *world) process(name string) *partitiontest.Process {
	faults := func(of partitiontest.Faults) func() partitiontest.Faults {
		return func() partitiontest.Faults {
			if w.healthy.Load() {
				return partitiontest.Faults{}
			}
			return of
		}
	}
	return partitiontest.NewProcess(name, w.chance, faults(w.profile.ledger), faults(w.profile.transport), w.witness.incident)
}

// share lets an owner work in a world with fewer partitions than it believes: it finds as many
// owners more alive, next to each of the world's, so that its fair share is right, and those that are not of this world
// never hold up the log.
type share struct {
	partitiontest.Store
	partitions int
}

const nowhere = "another world"

// elsewhere takes the partitions that this world does without.
func (w *world) elsewhere(ctx context.Context) {
	if _, err := w.ledger.Acquire(ctx, nowhere, 1000*time.Hour, subject.Partitions); err != nil {
		panic(err)
	}
	var ours []int
	for p := range w.profile.partitions {
		ours = append(ours, p)
	}
	if err := w.ledger.Release(ctx, nowhere, ours); err != nil {
		panic(err)
	}
}

func (s share) Heartbeat(ctx context.Context, owner string, lease time.Duration, published map[int]uint64) ([]int, []string, error) {
	held, live, err := s.Store.Heartbeat(ctx, owner, lease, published)
	for _, id := range live {
		for n := 1; n < subject.Partitions/s.partitions; n++ {
			live = append(live, fmt.Sprintf("%s\x00%d", id, n))
		}
	}
	return held, live, err
}

func (s share) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	positions, err := s.Store.Positions(ctx, ps)
	for i := range positions {
		if positions[i].P >= s.partitions {
			positions[i].InputSeq = math.MaxUint64
		}
	}
	return positions, err
}

// owner is an orchestrator process, from its start to its end.
type owner struct {
	name        string
	process     *partitiontest.Process
	dealer      *dealing.Dealer
	running     *partition.Owner
	reconnected chan struct{}
	stop        context.CancelFunc
	done        chan struct{}
}

// startOwner starts the orchestrator of a slot; each start is another process.
func (w *world) startOwner(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owners[slot] != nil {
		return
	}
	name := fmt.Sprintf("o%d.%d", slot, w.chance.Draw("start", fmt.Sprint(slot)).Uint32N(1<<30))
	ctx, cancel := context.WithCancel(w.ending)
	o := &owner{name: name, process: w.process(name), dealer: dealing.New(), reconnected: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	w.owners[slot] = o
	w.trace.note("%s starts", name)
	log := zerolog.New(logOf{w, o}).Level(zerolog.InfoLevel)
	options := []partition.Option{partition.WithDealer(o.dealer), partition.WithChildren(w.acceptor(ctx, o, log))}
	if w.profile.inline > 0 {
		options = append(options, partition.WithInline(w.profile.inline))
	}
	o.running = partition.NewOwner(name, share{o.process.Ledger(w.ledger), w.profile.partitions}, o.process.Transport(w.server.Connect()), log, options...)
	w.running.Go(func() {
		defer close(o.done)
		_ = o.running.Run(ctx, o.reconnected)
	})
	w.running.Go(func() { w.witness.dealing(o) })
}

// logOf takes the lines that a process logs while it lives.
type logOf struct {
	w *world
	o *owner
}

func (l logOf) Write(b []byte) (int, error) {
	if !l.o.process.Dead() {
		text, _, _ := strings.Cut(strings.TrimSpace(string(b)), `\n`) // no stack, whose addresses differ
		l.w.trace.note("%s logs %s", l.o.name, text)
	}
	return len(b), nil
}

// take removes the orchestrator of a slot from those that live.
func (w *world) take(slot int) *owner {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.owners[slot]
	w.owners[slot] = nil
	return o
}

func (w *world) killOwner(slot int) {
	if o := w.take(slot); o != nil {
		w.witness.fault("%s is killed", o.name)
		w.witness.bereaved()
		o.process.Kill()
		o.stop()
	}
}

func (w *world) stopOwner(slot int) {
	if o := w.take(slot); o != nil {
		w.trace.note("%s is asked to stop", o.name)
		o.stop()
		<-o.done
		o.process.Kill()
		w.trace.note("%s has stopped", o.name)
	}
}

func (w *world) owner(slot int) *owner {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owners[slot]
}

// reconnect tells every process that NATS is connected again, each a little later.
func (w *world) reconnect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.owners {
		if o == nil {
			continue
		}
		d := time.Duration(w.chance.Draw("reconnect", o.name).Int64N(int64(3 * time.Second)))
		w.after(d, func() {
			if o.process.Await() != nil {
				return
			}
			select {
			case o.reconnected <- struct{}{}:
			default:
			}
		})
	}
}

// compile gives what an execution runs. Apply panics on a step of one that is cursed.
func (w *world) compile(d catalog.Definition) (*engine.Definition, error) {
	def, err := engine.Compile(d)
	if err != nil || d.WorkflowOwner != cursed {
		return def, err
	}
	bad := *def
	bad.Steps = slices.Clone(def.Steps)
	i := len(bad.Steps) - 1
	s := bad.Steps[i]
	// Without its inputs, which only Compile can give it.
	bad.Steps[i] = engine.StepDefinition{
		Key: s.Key, Type: s.Type, OnError: s.OnError, TimeoutMs: s.TimeoutMs, Rule: s.Rule, DependsOn: s.DependsOn, Dependents: s.Dependents, NamedBy: s.NamedBy,
	}
	return &bad, nil
}

// refuse rejects the state of a poisonous execution, as a database does with bytes that it can not take.
func (w *world) refuse(b partition.Batch) error {
	for _, x := range b.Executions {
		if sc := w.scripted(x.ID); sc != nil && sc.poisonous && x.Completed > 0 && (x.Error == nil || x.Error.Code != runner.CodeEngineFault) {
			return fmt.Errorf("execution %s is poisonous", short(x.ID))
		}
	}
	return nil
}

func (w *world) scripted(id string) *scripted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.defs[id]
}

func (w *world) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.defs))
}
