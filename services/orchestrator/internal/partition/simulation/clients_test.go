package simulation

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"turbocat.io/contracts/catalog"
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
	undoes    string // the execution that it is the compensation of; "" for none
	limit     *execution.Limit
	group     string // those that have the same one are counted together
	priority  int
	depth     int // how many executions it stands in
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
		if s.Undo != nil {
			s.Undo.TimeoutMs = 20_000
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

// needSecrets gives agents of a user that are to have secrets of that user: their steps are sent with a grant.
func needSecrets(agents []catalog.DefinitionAgent, user string) []catalog.DefinitionAgent {
	agents = slices.Clone(agents)
	for i := range agents {
		if a := &agents[i]; a.Type == catalog.AgentCode {
			a.Owner, a.Config = user, json.RawMessage(`{"runtime":"javascript","secrets":["KEY"]}`)
		}
	}
	return agents
}

// client submits the n-th execution, and perhaps cancels it.
func (w *world) client(n int) {
	name := fmt.Sprintf("c%d", n)
	r := w.chance.Draw("client", name)
	begin := time.Duration(r.Int64N(int64(w.profile.length) * 8 / 10))
	plan := w.drawFamily(r, 0)
	d, limit := plan.Definition(), (*execution.Limit)(nil)
	if l := w.chance.Draw("limit", name); l.Float64() < w.profile.limited {
		begin, plan, d, limit = w.drawLimited(l)
	}
	user := uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "user %d", n%w.profile.users)).String()
	if l := w.chance.Draw("family", name); w.profile.children > 0 && l.IntN(4) == 0 {
		c := w.childWorkflow(l.IntN(childWorkflows))
		plan, d, limit = c.plan, c.def, c.limitOf()
	} else if n%4 == 2 {
		d.Agents = needSecrets(d.Agents, user)
	}
	x := scripted{plan: plan, limit: limit, poisonous: w.profile.poisoned && n == 0, cursed: w.profile.poisoned && n == 1}
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
	compiled, err := w.compile(d)
	if err != nil {
		panic(err)
	}
	accepted := execution.Accepted{
		Caller: rpc.Caller{UserID: user}, Definition: d, DefinitionBody: body, DefinitionHash: hash[:],
		Compiled: compiled, TriggerType: orchestrator.TriggerAPI, Priority: r.IntN(10), Inputs: []byte(enginetest.Inputs), Limit: limit,
	}
	if x.priority = accepted.Priority; limit != nil {
		x.group = d.WorkflowID + " " + limit.Key
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
		arrived := w.expect(accepted)
		outcomes, inputs, err := ledger.Accept(w.ending, []execution.Accepted{accepted})
		if err != nil || outcomes[0] != (execution.Outcome{ID: accepted.ID}) {
			arrived(nil)
		} else {
			arrived(accepted.Begun())
		}
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
		if r.Float64() < w.profile.unsaid {
			return id
		}
		for _, c := range inputs {
			transport.Append(c, func(error) {})
		}
		if !outcomes[0].Replayed && outcomes[0].Slot != engine.SlotWaiting {
			transport.Append(partition.Control{P: subject.PartitionOf(id), Kind: engine.Submitted, ExecutionID: id}, func(error) {})
		}
		return id
	}
}

// expect says that an orchestrator is about to accept an execution, which may be that of its partition, or another.
func (w *world) expect(x execution.Accepted) func(*engine.Execution) {
	if o := w.owner(w.chance.Draw("door", x.ID).IntN(w.profile.owners)); o != nil && x.Begun() != nil {
		return o.running.Expect(subject.PartitionOf(x.ID), x.ID)
	}
	return func(*engine.Execution) {}
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
