package simulation

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// cursed is the owner of workflows that make Apply panic.
const cursed = "01890a5d-ac96-774b-bcce-b302099a8666"

// scripted is an execution that a client submits, and all that will happen to it.
type scripted struct {
	id        string
	plan      enginetest.Plan
	def       *engine.Definition
	accepted  time.Time
	cancelled bool      // a cancel is committed
	left      time.Time // when the last of its clients had said everything
	poisonous bool
	cursed    bool
}

// draw gives a value that is the same for the same numbers.
func draw[T any](r *rand.Rand, from func(*rapid.T) T) T {
	return rapid.Custom(from).Example(int(r.Uint32N(1 << 30)))
}

// drawPlan fits a plan into the time that a world has.
func (w *world) drawPlan(r *rand.Rand) enginetest.Plan {
	from := enginetest.DrawPlan
	if r.Float64() < w.profile.mixed {
		from = enginetest.DrawMixedPlan
	}
	p := draw(r, from)
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case s.Wait != nil: // it has its own
		case w.profile.slow:
			s.TimeoutMs = 240_000
		case s.Items != nil:
			s.TimeoutMs = []int64{20_000, 60_000, 120_000}[r.IntN(3)] // of each item and of all
		default:
			s.TimeoutMs = 20_000
		}
		if s.DelayMs > 1000 && !w.profile.slow {
			s.DelayMs = 4000
		}
	}
	if p.TimeoutMs > 0 && p.TimeoutMs < 3_600_000 && w.profile.slow {
		p.TimeoutMs = 400_000
	}
	return p
}

// newID gives an id whose partition is of this world.
func (w *world) newID(r *rand.Rand) string {
	for {
		var id uuid.UUID
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
		if subject.PartitionOf(id.String()) < w.profile.partitions {
			return id.String()
		}
	}
}

// client submits the n-th execution, and perhaps cancels it.
func (w *world) client(n int) {
	name := fmt.Sprintf("c%d", n)
	r := w.chance.Draw("client", name)
	begin := time.Duration(r.Int64N(int64(w.profile.length) * 8 / 10))
	plan := w.drawPlan(r)
	d := plan.Definition()
	x := scripted{plan: plan, poisonous: w.profile.poisoned && n == 0, cursed: w.profile.poisoned && n == 1}
	if x.cursed {
		d.WorkflowOwner = cursed
	}
	def, err := engine.Compile(d)
	if err != nil {
		panic(err)
	}
	x.def = def
	body, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	hash := sha256.Sum256(body)
	accepted := execution.Accepted{
		Caller: rpc.Caller{UserID: uuid.NewSHA1(uuid.Nil, []byte(name)).String()}, Definition: d, DefinitionBody: body, DefinitionHash: hash[:],
		TriggerType: orchestrator.TriggerAPI, Priority: 5, Inputs: []byte(enginetest.Inputs),
	}
	if r.IntN(2) == 0 {
		accepted.Key = &execution.IdempotencyKey{UserID: name, Route: "execute", Key: "key", BodyHash: hash[:]}
	}
	if pause(w.ending, begin) != nil {
		return
	}
	id := w.submit(name, r, accepted, x)
	if r.Float64() < w.profile.impatient && accepted.Key != nil {
		if again := w.submit(name, r, accepted, x); again != id {
			w.witness.fail("%s submitted twice under one key and has %s and %s", name, id, again)
		}
	}
	if r.Float64() < w.profile.cancels {
		late := time.Duration(r.Int64N(int64(20 * time.Second)))
		for range 1 + r.IntN(2) {
			if pause(w.ending, late) != nil {
				return
			}
			w.cancel(name, r, id)
		}
	}
}

// submit repeats a request until it is answered. Without a key each try is another execution.
func (w *world) submit(name string, r *rand.Rand, accepted execution.Accepted, x scripted) string {
	process := w.process(name)
	ledger, transport := process.Ledger(w.ledger), process.Transport(w.server.Connect())
	var tried []string
	defer func() { w.command(name, tried) }()
	for {
		accepted.ID, accepted.CreatedAt = w.newID(r), time.Now().UTC().Truncate(time.Microsecond)
		known := x
		known.id, known.accepted = accepted.ID, accepted.CreatedAt
		w.mu.Lock()
		w.defs[accepted.ID] = &known // it may be accepted although nobody is told
		w.mu.Unlock()
		tried = append(tried, accepted.ID)
		outcomes, err := ledger.Accept(w.ending, []execution.Accepted{accepted})
		if err != nil {
			if errs.CodeOf(err) != errs.DependencyUnavailable {
				return ""
			}
			if pause(w.ending, time.Second) != nil {
				return ""
			}
			continue
		}
		id := outcomes[0].ID
		w.trace.note("%s: %s is accepted in partition %d, replayed %t\n%s", name, short(id), subject.PartitionOf(id), outcomes[0].Replayed, x.plan)
		if !outcomes[0].Replayed && r.Float64() >= w.profile.unsaid {
			transport.Append(partition.Control{P: subject.PartitionOf(id), Kind: engine.Submitted, ExecutionID: id}, func(error) {})
		}
		return id
	}
}

func (w *world) cancel(name string, r *rand.Rand, id string) {
	w.mu.Lock()
	w.defs[id].cancelled = true // it may be committed although nobody is told
	w.mu.Unlock()
	w.say(name, r, &command{execution: id, kind: execution.CommandCancel}, false)
}

// disturb puts what is no input of anybody into the log.
func (w *world) disturb(n int) {
	r := w.chance.Draw("junk", fmt.Sprint(n))
	p := r.IntN(w.profile.partitions)
	m := partition.Message{Fault: "no input has the type \"junk\"", Subject: fmt.Sprintf("junk %d", n), Body: []byte("\x00\xff")}
	if r.IntN(2) == 0 {
		m = partition.Message{ExecutionID: "nobody", Subject: fmt.Sprintf("junk %d", n), Input: engine.Input{Kind: engine.StepCompleted, Step: "s0", Token: "x", Output: []byte(`1`)}}
	}
	_ = w.server.Put(p, m) // while NATS is away nobody disturbs
}
