package simulation

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
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
	effects    map[placeOf][]effect
	hits       map[placeOf]int // faults that hit an attempt of it
	sendFaults map[placeOf]int // those of them that hit its message on the way to STEPS
	storeHits  []time.Time     // when messages of JetStream were lost
	tokens     map[string]placeOf
	unnoted    map[string]time.Time // when tokens were sent first that the ledger knows no message of
	results    map[string][][]byte  // what runners reported as completed, by token
	ended      map[string]time.Time // when the log, as it is, took the first result of a token
	started    time.Time            // when NATS was started last
	commands   map[string]*command  // by id
	standings  map[string]*standing // of the executions that have a concurrency limit
	evictions  map[string]string    // the executions that the ledger itself has cancelled, by command
	arrivals   int                  // of executions at a state of their slots
	applied    int                  // of them
	accepts    map[string]int       // the how manieth each execution was that was accepted
	births     map[string]birth     // of the children that were accepted
	payloads   map[partition.PayloadID][]byte
	incidents  int
	inputs     int
}

// mostInputs is far more than any world needs; a child brings its own.
const mostInputs, mostInputsOfChild = 2000, 200

// placeOf is a place of an execution.
type placeOf struct {
	execution string
	engine.Place
}

// placeOf gives what a message is to be done for.
func (w *world) placeOf(m partition.StepMessage) placeOf {
	i, _ := w.scripted(m.ExecutionID).def.StepIndex(m.StepKey)
	return placeOf{m.ExecutionID, engine.Place{Step: i, Iteration: m.Iteration}}
}

// name is how a place is called in texts.
func (w *world) name(of placeOf) string {
	x := w.scripted(of.execution)
	if x == nil { // its token was never seen
		return "something"
	}
	if of.Iteration > 0 {
		return fmt.Sprintf("%s[%d]", x.plan.Key(of.Step), of.Iteration)
	}
	return x.plan.Key(of.Step)
}

// effect is one beginning of a side effect.
type effect struct {
	at       time.Time
	delivery partitiontest.Delivery
}

// account is an execution as the commits so far tell it.
type account struct {
	story     *enginetest.Story
	row       partition.ExecutionRow
	tasks     map[engine.Place]engine.Task
	begun     map[engine.Place]map[int]time.Time // by attempt: when the ledger had its beginning
	settled   map[engine.Place]map[int]time.Time // by attempt: when the ledger had its end
	cancelled map[engine.Place]time.Time         // when the ledger had it CANCELLED
	ends      map[engine.Place][]string          // the codes with which attempts ended; "" for success
	heard     map[int]*command                   // the signals that WAITs have taken
	resumes   map[string]bool                    // commands that are in the log and not applied
	last      string                             // name of the last event of the execution itself
	lastAt    time.Time
	over      time.Time // when its end was committed
	held      bool      // it ended while it was paused, or by its resume

	compensation *engine.Compensation // nil for none so far
}

func newWitness(w *world) *witness {
	return &witness{
		w: w, executions: map[string]*account{}, effects: map[placeOf][]effect{}, hits: map[placeOf]int{}, sendFaults: map[placeOf]int{},
		tokens: map[string]placeOf{}, unnoted: map[string]time.Time{}, results: map[string][][]byte{}, ended: map[string]time.Time{},
		commands: map[string]*command{}, standings: map[string]*standing{}, evictions: map[string]string{}, accepts: map[string]int{}, births: map[string]birth{},
		payloads: map[partition.PayloadID][]byte{},
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
	about := strings.Fields(i.About)
	m := partition.StepMessage{ExecutionID: about[0], StepKey: about[1]}
	if len(about) > 2 {
		m.Iteration, _ = strconv.Atoi(about[2])
	}
	of := v.w.placeOf(m)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hits[of]++
	v.sendFaults[of]++
}

// natsStarts notes that NATS goes on with what it had stored.
func (v *witness) natsStarts() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.started = time.Now()
}

// hit notes that a fault hits an attempt, which may run once more because of it.
func (v *witness) hit(token, why string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := v.tokens[token]
	v.hits[of]++
	v.incidents++
	v.w.trace.note("FAULT %s of %s: %s", v.w.name(of), short(of.execution), why)
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
			tasks: map[engine.Place]engine.Task{}, settled: map[engine.Place]map[int]time.Time{}, begun: map[engine.Place]map[int]time.Time{}, cancelled: map[engine.Place]time.Time{}, ends: map[engine.Place][]string{},
			heard: map[int]*command{}, resumes: map[string]bool{},
		}
		v.executions[id] = a
	}
	return a
}

// committed looks at a batch as it is written.
func (v *witness) committed(b partition.Batch) {
	v.w.ambush(b)
	v.mu.Lock()
	defer v.mu.Unlock()
	b = v.whole(b)
	for _, p := range b.Partitions {
		v.w.trace.note("commit of %d: %d to %d under epoch %d, events up to %d", p.P, p.From, p.InputSeq, p.Epoch, p.EventN)
	}
	for _, c := range b.Compensations {
		v.compensates(c)
	}
	paused := map[string]bool{} // before and all the time since
	for _, s := range b.Steps {
		paused[s.ExecutionID] = v.account(s.ExecutionID).row.Status == orchestrator.ExecutionPaused
	}
	for _, e := range b.Events {
		if v.committedEvent(e) == "resumed" {
			delete(paused, e.ExecutionID)
		}
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
		if engine.Terminal(x.Status) && a.over.IsZero() {
			a.over = time.Now()
		}
		a.row, changed[x.ID] = x, a
	}
	for _, s := range b.Steps {
		if before := v.account(s.ExecutionID).tasks[s.Place]; paused[s.ExecutionID] && s.Attempt > before.Attempt {
			v.failed("attempt %d of %s of %s begins during a pause", s.Attempt, v.w.name(placeOf{s.ExecutionID, s.Place}), s.ExecutionID)
		}
		v.committedStep(s)
		changed[s.ExecutionID] = v.account(s.ExecutionID)
	}
	for _, s := range b.Steps {
		v.checkGathered(s)
	}
	v.committedCommands(b.Commands)
	v.checkOldest(b.Commands)
	for id, a := range changed {
		v.checkWaits(id, a)
		if told := a.story.Status(); told != a.row.Status {
			v.failed("I5: execution %s is committed as %s, its events say %s", id, a.row.Status, told)
		}
		for i, def := range v.w.scripted(id).def.Steps {
			s, told, attempts := a.tasks[engine.Place{Step: i}], a.story.StepStatus(i), a.story.Attempts(i)
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

// checkGathered holds that what was gathered is what the items have recorded, and that items end with their step.
func (v *witness) checkGathered(r partition.StepRow) {
	def := &v.w.scripted(r.ExecutionID).def.Steps[r.Step]
	if r.Iteration > 0 || !def.FansOut() || !enginetest.StepTerminal(r.Status) {
		return
	}
	begun := 0
	var outputs []engine.ItemOutput
	tasks := v.account(r.ExecutionID).tasks
	for p := (engine.Place{Step: r.Step, Iteration: 1}); tasks[p].Status != ""; p.Iteration++ {
		t := tasks[p]
		if begun++; t.Status == orchestrator.StepCompleted {
			outputs = append(outputs, engine.ItemOutput{Iteration: p.Iteration, Output: t.Output})
		}
		if !enginetest.StepTerminal(t.Status) {
			v.failed("%s of %s is %s, and its item %d is %s", def.Key, r.ExecutionID, r.Status, p.Iteration, t.Status)
		}
	}
	if r.Status != orchestrator.StepCompleted {
		return
	}
	if want, failure := def.Gather(begun, outputs, false); failure != nil || !bytes.Equal(want, r.Output) {
		v.failed("%s of %s has gathered %s, its items give %s", def.Key, r.ExecutionID, r.Output, want)
	}
}

// checkWaits holds that no step waits for a signal that is kept.
func (v *witness) checkWaits(id string, a *account) {
	for _, c := range v.commands {
		if !c.kept || c.execution != id {
			continue
		}
		for i := range v.w.scripted(id).plan.Steps {
			if v.w.scripted(id).plan.SignalOf(i) == c.signal.Name && a.tasks[engine.Place{Step: i}].Status == orchestrator.StepRunning {
				v.failed("step %d of %s waits for the signal %s, which is kept as command %s", i, id, c.signal.Name, c.id)
			}
		}
	}
}

func (v *witness) committedEvent(e partition.EventRow) (name string) {
	all := v.committedN[e.P]
	if e.N != uint64(len(all))+1 {
		v.failed("I5: event %d of partition %d follows %d", e.N, e.P, len(all))
	}
	v.committedN[e.P] = append(all, bytes.Clone(e.Body))
	decoded, err := event.Decode(e.Body)
	if err != nil {
		v.failed("I5: event %d of partition %d: %v", e.N, e.P, err)
		return ""
	}
	var data orchestrator.ExecutionEvent
	if err := decoded.DataAs(&data); err != nil {
		v.failed("I5: event %d of partition %d: %v", e.N, e.P, err)
		return ""
	}
	name, _, _ = strings.Cut(strings.TrimPrefix(event.Path(decoded.Type()), "execution."), ".")
	n, _ := decoded.Extensions()["n"].(string)
	if data.ExecutionID != e.ExecutionID || data.Seq != e.Seq || decoded.Type() != e.Type || n != fmt.Sprint(e.N) || decoded.Subject() != e.ExecutionID {
		v.failed("I5: event %d of partition %d says %s, its row %s %d %s", e.N, e.P, e.Body, e.ExecutionID, e.Seq, e.Type)
	}
	a := v.account(e.ExecutionID)
	if s := v.standings[e.ExecutionID]; s != nil && s.slot != engine.SlotHeld && !slices.Contains(ofQueued, name) {
		v.failed("the event %s is of %s, which has no slot", name, e.ExecutionID)
	}
	if err := a.story.Hear(name, engine.TimeOf(decoded.Time()), data); err != nil {
		v.failed("I5: execution %s: %v", e.ExecutionID, err)
	}
	i, _ := v.w.scripted(e.ExecutionID).def.StepIndex(data.StepKey)
	p := engine.Place{Step: i, Iteration: data.Iteration}
	switch {
	case data.StepKey == "":
		if engine.Terminal(data.Status) {
			a.held = a.last == "paused" || a.last == "resumed" && a.lastAt.Equal(decoded.Time())
		}
		a.last, a.lastAt = name, decoded.Time()
	case name == "step_completed":
		a.ends[p] = append(a.ends[p], "")
	case name == "step_failed", name == "step_retry_scheduled":
		a.ends[p] = append(a.ends[p], data.Error.Code)
	}
	v.w.trace.note("committed: event %d of %d: %d of %s: %s %s", e.N, e.P, e.Seq, short(e.ExecutionID), name, data.StepKey)
	return name
}

func (v *witness) committedStep(r partition.StepRow) {
	a := v.account(r.ExecutionID)
	before, of := a.tasks[r.Place], placeOf{r.ExecutionID, r.Place}
	switch over := enginetest.StepTerminal(before.Status); {
	case over && !reflect.DeepEqual(before, r.Task):
		v.failed("I2: %s of %s was %+v and is committed as %+v", v.w.name(of), r.ExecutionID, before, r.Task)
	case over:
	case r.Iteration > 0 && r.Status == orchestrator.StepCompleted:
		a.ends[r.Place] = append(a.ends[r.Place], "")
	case r.Iteration > 0 && r.Status == orchestrator.StepFailed:
		a.ends[r.Place] = append(a.ends[r.Place], r.Error.Code)
	case enginetest.StepTerminal(r.Status) && v.w.scripted(r.ExecutionID).waits(r.Place) != nil:
		v.hears(r.ExecutionID, r.Place, r.Task)
	}
	v.sameChild(r, before)
	a.tasks[r.Place] = r.Task
	if _, known := a.begun[r.Place][r.Attempt]; !known {
		if a.begun[r.Place] == nil {
			a.begun[r.Place] = map[int]time.Time{}
		}
		a.begun[r.Place][r.Attempt] = time.Now()
	}
	if _, known := a.cancelled[r.Place]; !known && r.Status == orchestrator.StepCancelled {
		a.cancelled[r.Place] = time.Now()
	}
	if r.Sent > 0 {
		delete(v.unnoted, r.Task.Token)
	}
	if a.settled[r.Place] == nil {
		a.settled[r.Place] = map[int]time.Time{}
	}
	for attempt := 1; attempt <= r.Task.Attempt; attempt++ {
		// What is cancelled may begin until its runner is told.
		over := attempt < r.Task.Attempt || !r.Task.AwaitsResult() && r.Task.Status != orchestrator.StepCancelled && (r.Task.Status != orchestrator.StepRunning || r.Task.RetryAt != 0)
		if _, known := a.settled[r.Place][attempt]; !known && over {
			a.settled[r.Place][attempt] = time.Now()
		}
	}
	v.w.trace.note("committed: %s of %s is %s, attempt %d, token %s.%d, sent %d",
		v.w.name(of), short(r.ExecutionID), r.Task.Status, r.Task.Attempt, short(r.Task.Token), r.Task.Dispatch, r.Sent)
}

// input notes what the log takes.
func (v *witness) input(p int, m partition.Message) {
	names := map[engine.Kind]string{
		engine.Submitted: "submitted", engine.StepStarted: "started", engine.StepCompleted: "completed", engine.StepFailed: "failed",
		engine.StepLost: "lost", engine.TimerDue: "timer", engine.Cancel: "cancel",
		engine.Pause: "pause", engine.Resume: "resume", engine.Signaled: "signal", engine.Gathered: "gathered",
	}
	v.mu.Lock()
	if m.Fault == "" && m.ExecutionID != "nobody" {
		v.inputs++
	}
	if k := m.Input.Kind; k == engine.StepCompleted || k == engine.StepFailed {
		if _, known := v.ended[m.Input.Token]; !known && !v.missing(m.ExecutionID, m.Input.Output) && v.counts(m.Input.Token) {
			v.ended[m.Input.Token] = time.Now()
		}
	}
	if c := v.commands[m.Input.Command]; c != nil && m.Input.Kind == engine.Resume && c.applied == 0 {
		v.account(c.execution).resumes[c.id] = true
	}
	if v.inputs == mostInputs+mostInputsOfChild*len(v.births) {
		v.failed("the log has %d inputs: somebody repeats himself without end", v.inputs)
		v.w.end()
	}
	v.mu.Unlock()
	v.w.trace.note("input %d of %d: %s of %s %s[%d] %s.%d %s%s", m.Seq, p, names[m.Input.Kind], short(m.ExecutionID), m.Input.Step, m.Input.Iteration,
		short(m.Input.Token), m.Input.Dispatch, m.Input.Output, m.Fault)
}

// counts tells whether a result with this token, put into the log now, surely ends its attempt.
// When messages were lost, the cause of the attempt may be among them: then it is yet to begin.
func (v *witness) counts(token string) bool {
	of, sent := v.tokens[token]
	if !sent || len(v.storeHits) == 0 {
		return sent
	}
	s := v.account(of.execution).tasks[of.Place]
	return s.AwaitsResult() && s.Token == token
}

// sent notes what STEPS takes.
func (v *witness) sent(m partition.StepMessage, seq uint64, duplicate bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.tokens[m.Token]; !known {
		v.unnoted[m.Token] = time.Now()
	}
	of := v.w.placeOf(m)
	v.tokens[m.Token] = of
	a := v.account(m.ExecutionID)
	if a.row.Status == orchestrator.ExecutionPaused && m.Attempt > a.tasks[of.Place].Attempt && len(a.resumes) == 0 && len(v.storeHits) == 0 {
		v.failed("attempt %d of %s of %s is sent during a pause", m.Attempt, v.w.name(of), of.execution)
	}
	if at, over := v.ended[m.Token]; over && !duplicate && time.Since(at) > readTime && v.sendFaults[of] == 0 {
		v.failed("I3: %s of %s is sent %v after its result came into the log", v.w.name(of), of.execution, time.Since(at))
	}
	v.w.trace.note("sent %d: %s of %s, attempt %d, token %s.%d, duplicate %t", seq, v.w.name(of), short(m.ExecutionID), m.Attempt, short(m.Token), m.Dispatch, duplicate)
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
	if s := v.account(of.execution).tasks[of.Place]; s.Status == "" || s.AwaitsResult() && s.Token == token {
		v.failed("%s of %s is stopped before its end is committed", v.w.name(of), of.execution)
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
	of := v.w.placeOf(d.StepMessage)
	v.w.trace.note("%s: runs %s of %s, attempt %d, token %s.%d, message %d, delivery %d", runner, v.w.name(of), short(d.ExecutionID), d.Attempt, short(d.Token), d.Dispatch, d.Seq, d.Count)
	before = len(v.effects[of])
	if at, over := v.ended[d.Token]; over && at.Before(v.started) && d.Found && len(v.storeHits) == 0 {
		v.failed("I3: %s of %s begins once more, whose result the log had before NATS started", v.w.name(of), d.ExecutionID)
	}
	if s := v.standings[d.ExecutionID]; s != nil && s.slot != engine.SlotHeld {
		v.failed("%s of %s runs, which has no slot", v.w.name(of), d.ExecutionID)
	}
	v.effects[of] = append(v.effects[of], effect{time.Now(), d})
	if a := v.executions[d.ExecutionID]; a != nil {
		if since, known := a.settled[of.Place][d.Attempt]; known && !v.excused(of, since) {
			v.failed("I3: %s of %s begins once more %v after its end was recorded", v.w.name(of), d.ExecutionID, time.Since(since))
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

// declined notes that a runner was told not to run an attempt that it was given once more.
func (v *witness) declined(d partitiontest.Delivery) {
	v.mu.Lock()
	defer v.mu.Unlock()
	of := v.w.placeOf(d.StepMessage)
	if t := v.account(d.ExecutionID).tasks[of.Place]; t.AwaitsResult() && t.Token == d.Token {
		v.failed("%s of %s is not run again, and its result is awaited", v.w.name(of), d.ExecutionID)
	}
}

// excused tells whether a beginning after the end was recorded comes of a fault: its message
// was on its way, or messages were lost.
func (v *witness) excused(of placeOf, since time.Time) bool {
	return time.Since(since) < 10*time.Millisecond || v.hits[of] > 0 || len(v.storeHits) > 0
}
