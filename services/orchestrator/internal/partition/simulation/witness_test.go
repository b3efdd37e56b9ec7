package simulation

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// witness sees everything that is committed, published, put into the log and run, in order,
// and holds it against the invariants I2 to I5. Its hooks are called under the locks of the
// ledger and the server, so it calls neither.
type witness struct {
	w *world

	mu         sync.Mutex
	failures   []string
	executions map[string]*account
	committedN [subject.Partitions][][]byte // the events of each partition, in the order of their numbers
	heard      [subject.Partitions]uint64   // number of the last event that a reader of EVENTS has
	gaps       int                          // that the reader had to fill from the ledger
	repeated   int                          // events that it dropped
	effects    map[stepOf][]effect
	hits       map[stepOf]int // faults that hit an attempt of the step
	sendFaults map[stepOf]int // those of them that hit its message on the way to STEPS
	storeHits  []time.Time    // when messages of JetStream were lost
	tokens     map[string]stepOf
	unnoted    map[string]time.Time // when tokens were sent first that the ledger knows no message of
	results    map[string][][]byte  // what runners reported as completed, by token
	ended      map[string]time.Time // when the log, as it is, took the first result of a token
	incidents  int
	inputs     int
}

// mostInputs is far more than any world needs.
const mostInputs = 500

type stepOf struct{ execution, key string }

// effect is one beginning of a step's side effect.
type effect struct {
	at       time.Time
	delivery partitiontest.Delivery
}

// account is an execution as the commits so far tell it.
type account struct {
	story   *enginetest.Story
	row     partition.ExecutionRow
	steps   map[int]engine.Task
	settled map[int]map[int]time.Time // step, attempt: when the ledger had its end
	ends    map[int][]string          // of each step the codes with which its attempts ended; "" for success
}

func newWitness(w *world) *witness {
	return &witness{
		w: w, executions: map[string]*account{}, effects: map[stepOf][]effect{}, hits: map[stepOf]int{}, sendFaults: map[stepOf]int{},
		tokens: map[string]stepOf{}, unnoted: map[string]time.Time{}, results: map[string][][]byte{}, ended: map[string]time.Time{},
	}
}

func (v *witness) fail(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed(format, args...)
}

// failed notes a broken invariant; v.mu is held.
func (v *witness) failed(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.w.trace.note("BROKEN %s", text)
	v.failures = append(v.failures, fmt.Sprintf("%.6f %s", time.Since(v.w.begun).Seconds(), text))
}

func (v *witness) broken() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.failures)
}

// fault notes something that goes wrong with nothing in particular.
func (v *witness) fault(format string, args ...any) {
	v.w.trace.note("FAULT "+format, args...)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.incidents++
}

// incident notes something that goes wrong with a call.
func (v *witness) incident(i partitiontest.Incident) {
	v.fault("%s", i)
	if i.Call != "Send" {
		return
	}
	id, key, _ := strings.Cut(i.About, " ")
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hits[stepOf{id, key}]++
	v.sendFaults[stepOf{id, key}]++
}

// hit notes that a fault hits an attempt, which may run once more because of it.
func (v *witness) hit(token, why string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := v.tokens[token]
	v.hits[of]++
	v.incidents++
	v.w.trace.note("FAULT %s of %s: %s", of.key, short(of.execution), why)
}

// bereaved notes that a process is hit: what it has sent and the ledger does not know of yet may
// be sent again once STEPS has forgotten it.
func (v *witness) bereaved() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for token, at := range v.unnoted {
		if time.Since(at) < noteTime {
			v.hits[v.tokens[token]]++
		}
	}
}

// noteTime is within which a sent step is known to the ledger, however slow both are.
const noteTime = 20 * time.Second

// readTime is within which an owner has read what the log has.
const readTime = 10 * time.Second

// storeHit notes that JetStream has lost messages.
func (v *witness) storeHit() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.storeHits = append(v.storeHits, time.Now())
	clear(v.ended)
}

func (v *witness) account(id string) *account {
	a := v.executions[id]
	if a == nil {
		a = &account{
			story: enginetest.NewStory(v.w.scripted(id).def), row: partition.ExecutionRow{Status: orchestrator.ExecutionPending},
			steps: map[int]engine.Task{}, settled: map[int]map[int]time.Time{}, ends: map[int][]string{},
		}
		v.executions[id] = a
	}
	return a
}

// committed looks at a batch as it is written.
func (v *witness) committed(b partition.Batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range b.Partitions {
		v.w.trace.note("commit of %d: %d to %d under epoch %d, events up to %d", p.P, p.From, p.InputSeq, p.Epoch, p.EventN)
	}
	for _, e := range b.Events {
		v.committedEvent(e)
	}
	changed := map[string]*account{}
	for _, x := range b.Executions {
		a := v.account(x.ID)
		if engine.Terminal(a.row.Status) && !reflect.DeepEqual(a.row, x) {
			v.failed("I2: execution %s was %s and is committed as %s", x.ID, a.row.Status, x.Status)
		}
		if a.row.Status != x.Status {
			v.w.trace.note("committed: execution %s is %s", short(x.ID), x.Status)
		}
		a.row, changed[x.ID] = x, a
	}
	for _, s := range b.Steps {
		v.committedStep(s)
		changed[s.ExecutionID] = v.account(s.ExecutionID)
	}
	for id, a := range changed {
		if told := a.story.Status(); told != a.row.Status {
			v.failed("I5: execution %s is committed as %s, its events say %s", id, a.row.Status, told)
		}
		for i, def := range v.w.scripted(id).def.Steps {
			s, told, attempts := a.steps[i], a.story.StepStatus(i), a.story.Attempts(i)
			if s.Status == "" {
				s.Status = orchestrator.StepPending
			}
			if s.Status != told || s.Attempt != attempts {
				v.failed("I5: step %s of %s is committed as %s in attempt %d, its events say %s and %d", def.Key, id, s.Status, s.Attempt, told, attempts)
			}
		}
	}
	for _, d := range b.DeadLetters {
		v.w.trace.note("dead letter of %d: %s, %s", d.P, d.Subject, d.Reason)
		if !strings.HasPrefix(d.Subject, "junk") {
			v.failed("an input of %d is a dead letter: %s %s", d.P, d.Subject, d.Reason)
		}
	}
}

func (v *witness) committedEvent(e partition.EventRow) {
	all := v.committedN[e.P]
	if e.N != uint64(len(all))+1 {
		v.failed("I5: event %d of partition %d follows %d", e.N, e.P, len(all))
	}
	v.committedN[e.P] = append(all, bytes.Clone(e.Body))
	decoded, err := event.Decode(e.Body)
	if err != nil {
		v.failed("I5: event %d of partition %d: %v", e.N, e.P, err)
		return
	}
	var data orchestrator.ExecutionEvent
	if err := decoded.DataAs(&data); err != nil {
		v.failed("I5: event %d of partition %d: %v", e.N, e.P, err)
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(event.Path(decoded.Type()), "execution."), ".")
	n, _ := decoded.Extensions()["n"].(string)
	if data.ExecutionID != e.ExecutionID || data.Seq != e.Seq || decoded.Type() != e.Type || n != fmt.Sprint(e.N) || decoded.Subject() != e.ExecutionID {
		v.failed("I5: event %d of partition %d says %s, its row %s %d %s", e.N, e.P, e.Body, e.ExecutionID, e.Seq, e.Type)
	}
	a := v.account(e.ExecutionID)
	if err := a.story.Hear(name, engine.TimeOf(decoded.Time()), data); err != nil {
		v.failed("I5: execution %s: %v", e.ExecutionID, err)
	}
	i, _ := v.w.scripted(e.ExecutionID).def.StepIndex(data.StepKey)
	switch name {
	case "step_completed":
		a.ends[i] = append(a.ends[i], "")
	case "step_failed", "step_retry_scheduled":
		a.ends[i] = append(a.ends[i], data.Error.Code)
	}
	v.w.trace.note("committed: event %d of %d: %d of %s: %s %s", e.N, e.P, e.Seq, short(e.ExecutionID), name, data.StepKey)
}

func (v *witness) committedStep(r partition.StepRow) {
	a := v.account(r.ExecutionID)
	before := a.steps[r.Step]
	if enginetest.StepTerminal(before.Status) && !reflect.DeepEqual(before, r.Task) {
		v.failed("I2: step %d of %s was %+v and is committed as %+v", r.Step, r.ExecutionID, before, r.Task)
	}
	a.steps[r.Step] = r.Task
	if r.Sent > 0 {
		delete(v.unnoted, r.Task.Token)
	}
	if a.settled[r.Step] == nil {
		a.settled[r.Step] = map[int]time.Time{}
	}
	for attempt := 1; attempt <= r.Task.Attempt; attempt++ {
		// What is cancelled may begin until its runner is told.
		over := attempt < r.Task.Attempt || !r.Task.AwaitsResult() && r.Task.Status != orchestrator.StepCancelled
		if _, known := a.settled[r.Step][attempt]; !known && over {
			a.settled[r.Step][attempt] = time.Now()
		}
	}
	v.w.trace.note("committed: step %d of %s is %s, attempt %d, token %s.%d, sent %d",
		r.Step, short(r.ExecutionID), r.Task.Status, r.Task.Attempt, short(r.Task.Token), r.Task.Dispatch, r.Sent)
}

// input notes what the log takes.
func (v *witness) input(p int, m partition.Message) {
	kinds := map[engine.Kind]string{
		engine.Submitted: "submitted", engine.StepStarted: "started", engine.StepCompleted: "completed", engine.StepFailed: "failed",
		engine.StepLost: "lost", engine.TimerDue: "timer", engine.Cancel: "cancel",
	}
	v.mu.Lock()
	if m.Fault == "" && m.ExecutionID != "nobody" {
		v.inputs++
	}
	if k := m.Input.Kind; k == engine.StepCompleted || k == engine.StepFailed {
		if _, known := v.ended[m.Input.Token]; !known && v.counts(m.Input.Token) {
			v.ended[m.Input.Token] = time.Now()
		}
	}
	if v.inputs == mostInputs {
		v.failed("the log has %d inputs: somebody repeats himself without end", v.inputs)
		v.w.end()
	}
	v.mu.Unlock()
	v.w.trace.note("input %d of %d: %s of %s %s %s.%d %s%s", m.Seq, p, kinds[m.Input.Kind], short(m.ExecutionID), m.Input.Step,
		short(m.Input.Token), m.Input.Dispatch, m.Input.Output, m.Fault)
}

// counts tells whether a result with this token, put into the log now, surely ends its attempt.
// When messages were lost, the cause of the attempt may be among them: then it is yet to begin.
func (v *witness) counts(token string) bool {
	of, sent := v.tokens[token]
	if !sent || len(v.storeHits) == 0 {
		return sent
	}
	i, _ := v.w.scripted(of.execution).def.StepIndex(of.key)
	s := v.account(of.execution).steps[i]
	return s.AwaitsResult() && s.Token == token
}

// sent notes what STEPS takes.
func (v *witness) sent(m partition.StepMessage, seq uint64, duplicate bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.tokens[m.Token]; !known {
		v.unnoted[m.Token] = time.Now()
	}
	of := stepOf{m.ExecutionID, m.StepKey}
	v.tokens[m.Token] = of
	if at, over := v.ended[m.Token]; over && !duplicate && time.Since(at) > readTime && v.sendFaults[of] == 0 {
		v.failed("I3: %s of %s is sent %v after its result came into the log", of.key, of.execution, time.Since(at))
	}
	v.w.trace.note("sent %d: %s of %s, attempt %d, token %s.%d, duplicate %t", seq, m.StepKey, short(m.ExecutionID), m.Attempt, short(m.Token), m.Dispatch, duplicate)
}

// published is a reader of EVENTS: it drops what it has, and fills gaps from the ledger.
func (v *witness) published(e partition.EventRow) {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.committedN[e.P]
	if e.N > uint64(len(all)) {
		v.failed("I5: event %d of partition %d is published before it is committed", e.N, e.P)
		return
	}
	if !bytes.Equal(all[e.N-1], e.Body) {
		v.failed("I5: event %d of partition %d is published as %s, committed as %s", e.N, e.P, e.Body, all[e.N-1])
	}
	switch last := v.heard[e.P]; {
	case e.N <= last:
		v.repeated++
	case e.N > last+1:
		v.gaps++
		fallthrough
	default:
		v.heard[e.P] = e.N
	}
	v.w.trace.note("published: event %d of %d", e.N, e.P)
}

// stopped looks at an attempt that runners are told to stop.
func (v *witness) stopped(token string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.w.trace.note("stop of %s", short(token))
	of, sent := v.tokens[token]
	if !sent {
		return
	}
	i, _ := v.w.scripted(of.execution).def.StepIndex(of.key)
	if s := v.account(of.execution).steps[i]; s.Status == "" || s.AwaitsResult() && s.Token == token {
		v.failed("%s of %s is stopped before its end is committed", of.key, of.execution)
	}
}

// reported notes what a runner is about to say of an attempt.
func (v *witness) reported(d partitiontest.Delivery, in engine.Input) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if in.Kind == engine.StepCompleted {
		v.results[d.Token] = append(v.results[d.Token], in.Output)
	}
}

// effect notes that a runner begins the side effect of a step, and counts how often it was begun before.
func (v *witness) effect(runner string, d partitiontest.Delivery) (before int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.w.trace.note("%s: runs %s of %s, attempt %d, token %s.%d, message %d, delivery %d", runner, d.StepKey, short(d.ExecutionID), d.Attempt, short(d.Token), d.Dispatch, d.Seq, d.Count)
	of := stepOf{d.ExecutionID, d.StepKey}
	before = len(v.effects[of])
	v.effects[of] = append(v.effects[of], effect{time.Now(), d})
	i, _ := v.w.scripted(d.ExecutionID).def.StepIndex(d.StepKey)
	if a := v.executions[d.ExecutionID]; a != nil {
		if since, known := a.settled[i][d.Attempt]; known && !v.excused(of, since) {
			v.failed("I3: step %s of %s begins once more %v after its end was recorded", d.StepKey, d.ExecutionID, time.Since(since))
		}
	}
	return before
}

// awaited notes that a runner that asked at a time is to run an attempt that it was given once more.
func (v *witness) awaited(d partitiontest.Delivery, asked time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, over := v.ended[d.Token]; over && at.Before(asked) && len(v.storeHits) == 0 {
		v.failed("I3: %s of %s is to be run again %v after its result came into the log", d.StepKey, d.ExecutionID, asked.Sub(at))
	}
}

// excused tells whether a beginning after the end was recorded comes of a fault: its message
// was on its way, or messages were lost.
func (v *witness) excused(of stepOf, since time.Time) bool {
	return time.Since(since) < 10*time.Millisecond || v.hits[of] > 0 || len(v.storeHits) > 0
}
