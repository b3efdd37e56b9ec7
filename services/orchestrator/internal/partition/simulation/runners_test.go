package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/engine/enginetest"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

const (
	// announceAfter is how long an attempt runs before its runner reports it as started.
	announceAfter = 200 * time.Millisecond
	// maxDeliveries is the delivery that is not run any more.
	maxDeliveries = 5
)

// runnerProcess takes steps from STEPS and does with them what the script says.
type runnerProcess struct {
	w      *world
	name   string
	asks   *execution.Service
	ledger partitiontest.Store
	ctx    context.Context
	die    context.CancelFunc

	mu       sync.Mutex
	answered map[string]bool     // by token and dispatch
	held     map[string][]uint64 // messages of an attempt that runs, by token
}

// startRunner starts the runner of a slot; each start is another process.
func (w *world) startRunner(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.runners[slot]; r != nil && r.ctx.Err() == nil {
		return
	}
	name := fmt.Sprintf("r%d.%d", slot, w.chance.Draw("start runner", fmt.Sprint(slot)).Uint32N(1<<30))
	ctx, cancel := context.WithCancel(w.ending)
	process := w.process(name)
	ledger := process.Ledger(w.ledger)
	r := &runnerProcess{
		w: w, name: name, ctx: ctx, die: cancel, answered: map[string]bool{}, held: map[string][]uint64{},
		ledger: ledger, asks: execution.NewService(nil, steps{Store: nil, ledger: ledger}, process.Transport(w.server.Connect()), dealing.New()),
	}
	w.runners[slot] = r
	w.trace.note("%s starts", name)
	w.running.Go(r.beat)
	for n := range w.profile.slots {
		taker := fmt.Sprintf("%s#%d", name, n)
		w.running.Go(func() {
			for ctx.Err() == nil {
				d, err := w.server.Take(ctx, taker)
				if err != nil {
					return
				}
				r.handle(d)
			}
		})
	}
}

// beat tells every orchestrator that can hear it that the runner is alive.
func (r *runnerProcess) beat() {
	w := r.w
	beat := runner.Heartbeat{RunnerID: r.name}
	for _, t := range catalog.RunnerAgentTypes() {
		// A world has fewer partitions than its owners believe, so their share of the slots is that much smaller.
		beat.Capacity = append(beat.Capacity, runner.Capacity{AgentType: t, Slots: w.profile.slots * subject.Partitions / w.profile.partitions})
	}
	for n := 0; r.ctx.Err() == nil; n++ {
		w.mu.Lock()
		owners, away := slices.Clone(w.owners), w.natsAway
		w.mu.Unlock()
		for _, o := range owners {
			if o != nil && !away && !w.profile.unheard {
				o.process.Hears("heartbeat", r.name, func() { o.dealer.Heard(beat) })
			}
		}
		_ = pause(r.ctx, runner.HeartbeatEvery)
	}
}

// steps is a ledger as far as the question of a runner needs it.
type steps struct {
	execution.Store
	ledger partitiontest.Store
}

func (s steps) Step(ctx context.Context, id, key string, iteration int) (engine.Task, bool, error) {
	return s.ledger.Step(ctx, id, key, iteration)
}

func (s steps) Positions(ctx context.Context, ps []int) ([]partition.Position, error) {
	return s.ledger.Positions(ctx, ps)
}

// killRunner ends a runner with everything that it runs.
func (w *world) killRunner(slot int) {
	w.mu.Lock()
	r := w.runners[slot]
	w.mu.Unlock()
	if r != nil {
		r.kill("from outside")
	}
}

func (r *runnerProcess) kill(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	r.w.witness.fault("%s is killed %s", r.name, why)
	for token := range r.held {
		r.w.witness.hit(token, "its runner died")
	}
	r.die()
}

// die ends the runner by chance.
func (r *runnerProcess) dies(chance *rand.Rand, d partitiontest.Delivery, when string) bool {
	if r.w.healthy.Load() || chance.Float64() >= r.w.profile.runner.die || d.Count > 2 {
		return false
	}
	r.w.witness.hit(d.Token, "its runner died")
	r.kill(when)
	slot, _ := strconv.Atoi(r.name[1:2])
	r.w.after(time.Duration(chance.Int64N(int64(5*time.Second))), func() { r.w.startRunner(slot) })
	return true
}

// handle brings a delivery to its end.
func (r *runnerProcess) handle(d partitiontest.Delivery) {
	w := r.w
	sending := d.Token + "." + strconv.Itoa(d.Dispatch)
	chance := w.chance.Draw("attempt", d.ExecutionID, d.StepKey, strconv.Itoa(d.Iteration), strconv.Itoa(d.Attempt), strconv.Itoa(d.Dispatch), strconv.Itoa(d.Count))
	if pause(r.ctx, lag(chance)) != nil || r.dies(chance, d, "before the attempt") {
		return
	}
	r.mu.Lock()
	_, runs := r.held[d.Token]
	answered := r.answered[sending]
	if runs {
		r.held[d.Token] = append(r.held[d.Token], d.Seq)
	} else if !answered {
		r.held[d.Token] = []uint64{d.Seq}
	}
	r.mu.Unlock()
	switch {
	case runs:
		return
	case answered:
		r.ack(chance, d)
		return
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, d.Token)
	}()
	cancelled := w.server.Cancelled(d.Token)
	if isClosed(cancelled) {
		r.ack(chance, d)
		return
	}
	if d.Count >= maxDeliveries {
		lost := &runner.StepError{Code: runner.CodeRunnerLost, Message: "lost", Retryable: true}
		r.report(chance, d, engine.Input{Kind: engine.StepFailed, Step: d.StepKey, Iteration: d.Iteration, Token: d.Token, Err: lost})
		return
	}
	leasing, release := context.WithCancel(r.ctx)
	defer release()
	frozen := w.healthy.Load() == false && chance.Float64() < w.profile.runner.freeze
	if frozen {
		w.witness.hit(d.Token, "its runner is stopped for longer than its lease")
	} else {
		w.running.Go(func() { r.extend(leasing, d.Token) })
	}
	if (d.Count > 1 || d.Found) && !r.stillAwaited(chance, d) {
		return
	}
	if len(d.Body) > 0 || r.fetch(chance, &d) {
		r.run(chance, d, cancelled, frozen)
	}
}

// stillAwaited asks whether a step that may have been delivered before has a result, and acks it if so.
func (r *runnerProcess) stillAwaited(chance *rand.Rand, d partitiontest.Delivery) bool {
	for {
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		asked := time.Now()
		answer, err := r.asks.AttemptAwaited(ctx, rpc.System("runner"), orchestrator.AttemptRequest{
			ExecutionID: d.ExecutionID, StepKey: d.StepKey, Iteration: d.Iteration, Attempt: d.Attempt, Token: d.Token,
		})
		cancel()
		switch {
		case err == nil && answer.Awaited:
			r.w.witness.awaited(d, asked)
			return true
		case err == nil:
			r.w.witness.declined(d)
			r.w.trace.note("%s: %s of %s is recorded and not run again", r.name, d.StepKey, short(d.ExecutionID))
			r.ack(chance, d)
			return false
		case errs.CodeOf(err) != errs.DependencyUnavailable:
			return false
		}
		if pause(r.ctx, 200*time.Millisecond+lag(chance)) != nil {
			return false
		}
	}
}

// run does the side effect, and reports what the script says.
func (r *runnerProcess) run(chance *rand.Rand, d partitiontest.Delivery, cancelled <-chan struct{}, frozen bool) {
	w := r.w
	takes, answer := w.script(d)
	salt := w.witness.effect(r.name, d)
	started := engine.Input{Kind: engine.StepStarted, Step: d.StepKey, Iteration: d.Iteration, Token: d.Token}
	if d.Count > 1 {
		r.announce(chance, d, started)
	}
	if r.dies(chance, d, "during the attempt") {
		return
	}
	if frozen {
		takes += partitiontest.AckWait + time.Duration(chance.Int64N(int64(10*time.Second)))
	}
	hangs := answer == enginetest.StaysSilent && d.Attempt%2 == 0
	timeout := time.Duration(d.TimeoutMs) * time.Millisecond
	if takes > timeout && !frozen {
		takes = timeout
	}
	if d.Count <= 1 && takes > announceAfter {
		if !r.wait(cancelled, announceAfter) {
			r.stopped(chance, d, cancelled)
			return
		}
		takes -= announceAfter
		r.announce(chance, d, started)
	}
	if hangs { // its timeout is not kept
		takes = timeout + time.Minute
	}
	if !r.wait(cancelled, takes) {
		r.stopped(chance, d, cancelled)
		return
	}
	if hangs {
		w.witness.hit(d.Token, "its runner never answers") // without a backstop, when its start was lost, another takes it
		return
	}
	in := w.result(d, answer, salt)
	w.witness.reported(d, in)
	if in.Kind == engine.StepCompleted && chance.Float64() < w.profile.stored && !r.store(chance, d, &in) {
		return
	}
	r.report(chance, d, in)
}

// wait returns after d, or false when the attempt is stopped or the runner is dead.
func (r *runnerProcess) wait(cancelled <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return r.ctx.Err() == nil
	case <-cancelled:
	case <-r.ctx.Done():
	}
	return false
}

func (r *runnerProcess) stopped(chance *rand.Rand, d partitiontest.Delivery, cancelled <-chan struct{}) {
	if r.ctx.Err() == nil && isClosed(cancelled) {
		r.w.trace.note("%s: %s of %s is stopped", r.name, d.StepKey, short(d.ExecutionID))
		r.ack(chance, d)
	}
}

// extend keeps the leases of an attempt.
func (r *runnerProcess) extend(ctx context.Context, token string) {
	for pause(ctx, partitiontest.AckWait/3) == nil {
		r.mu.Lock()
		seqs := append([]uint64(nil), r.held[token]...)
		r.mu.Unlock()
		for _, seq := range seqs {
			if !r.w.server.Extend(seq) {
				r.w.witness.hit(token, "its lease is not extended")
			}
		}
	}
}

// announce reports the start of an attempt, once, whether it arrives or not.
func (r *runnerProcess) announce(chance *rand.Rand, d partitiontest.Delivery, in engine.Input) {
	d1, lost := lag(chance), !r.w.healthy.Load() && chance.Float64() < r.w.profile.runner.lose
	if lost {
		r.w.trace.note("%s: the start of %s of %s is lost", r.name, d.StepKey, short(d.ExecutionID))
		return
	}
	r.w.after(d1, func() { _ = r.put(d, in) })
}

func (r *runnerProcess) put(d partitiontest.Delivery, in engine.Input) error {
	return r.w.server.Put(subject.PartitionOf(d.ExecutionID), partition.Message{ExecutionID: d.ExecutionID, Input: in, Size: len(in.Output)})
}

// report puts a result into the log until it has its PubAck, then acks the step.
func (r *runnerProcess) report(chance *rand.Rand, d partitiontest.Delivery, in engine.Input) {
	w := r.w
	hit := func(p float64) bool { return !w.healthy.Load() && chance.Float64() < p }
	for {
		if pause(r.ctx, lag(chance)) != nil {
			return
		}
		if hit(w.profile.runner.lose / 2) {
			w.trace.note("%s: the result of %s of %s does not arrive", r.name, d.StepKey, short(d.ExecutionID))
		} else if err := r.put(d, in); err == nil && !hit(w.profile.runner.lose/2) {
			break
		}
		w.witness.hit(d.Token, "its result does not arrive, or its PubAck")
		if pause(r.ctx, 2*time.Second) != nil {
			return
		}
	}
	if hit(w.profile.runner.twice) {
		w.after(lag(chance), func() { _ = r.put(d, in) })
	}
	if hit(w.profile.runner.late) {
		w.after(time.Duration(chance.Int64N(int64(time.Minute))), func() {
			w.trace.note("%s: repeats the result of %s of %s", r.name, d.StepKey, short(d.ExecutionID))
			_ = r.put(d, in)
		})
	}
	if r.dies(chance, d, "after the result") {
		return
	}
	r.mu.Lock()
	r.answered[d.Token+"."+strconv.Itoa(d.Dispatch)] = true
	r.mu.Unlock()
	r.ack(chance, d)
}

// ack tells STEPS that the messages of an attempt are done with.
func (r *runnerProcess) ack(chance *rand.Rand, d partitiontest.Delivery) {
	if pause(r.ctx, lag(chance)) != nil {
		return
	}
	if !r.w.healthy.Load() && chance.Float64() < r.w.profile.runner.ack {
		r.w.witness.hit(d.Token, "its ack is lost")
		r.w.trace.note("%s: the ack of %s of %s is lost", r.name, d.StepKey, short(d.ExecutionID))
		return
	}
	r.mu.Lock()
	seqs := append([]uint64{d.Seq}, r.held[d.Token]...)
	r.mu.Unlock()
	for _, seq := range seqs {
		r.w.server.Ack(seq)
	}
}

func lag(r *rand.Rand) time.Duration {
	return 100*time.Microsecond + time.Duration(r.Int64N(int64(time.Millisecond)))
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// script says how long an attempt takes and how it ends.
func (w *world) script(d partitiontest.Delivery) (time.Duration, enginetest.Answer) {
	of := w.placeOf(d.StepMessage)
	answer := enginetest.Succeeds
	if script := w.scripted(d.ExecutionID).script(of.Place); d.Attempt <= len(script) {
		answer = script[d.Attempt-1]
	}
	return w.duration(of, d.Attempt, answer), answer
}

// script is how the attempts of a place end.
func (x *scripted) script(p engine.Place) []enginetest.Answer {
	if p.Iteration > 0 {
		return x.plan.Steps[p.Step].Items[p.Iteration-1]
	}
	return x.plan.Steps[p.Step].Script
}

// duration is the same however often it is asked for.
func (w *world) duration(of placeOf, attempt int, answer enginetest.Answer) time.Duration {
	r := w.chance.Same("duration", of.execution, strconv.Itoa(of.Step), strconv.Itoa(of.Iteration), strconv.Itoa(attempt))
	timeoutMs := w.scripted(of.execution).plan.Steps[of.Step].TimeoutMs
	most := timeoutMs
	if of.Iteration > 0 { // that of all of them
		most /= 4
	}
	takes := lag(r)
	switch n := r.IntN(20); {
	case answer == enginetest.StaysSilent:
		return time.Duration(timeoutMs) * time.Millisecond
	case w.profile.slow && n < 8:
		takes += time.Duration(r.Int64N(most*8/10)) * time.Millisecond
	case n < 12:
		takes += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
	case n < 17:
		takes += time.Duration(r.Int64N(int64(time.Second)))
	default:
		takes += time.Duration(r.Int64N(most*6/10)) * time.Millisecond
	}
	return takes
}

// result is what a runner says at the end of an attempt: no two runs say the same.
func (w *world) result(d partitiontest.Delivery, answer enginetest.Answer, salt int) engine.Input {
	in := engine.Input{Kind: engine.StepFailed, Step: d.StepKey, Iteration: d.Iteration, Token: d.Token}
	switch answer {
	case enginetest.FailsForNow:
		failure := enginetest.Retryable
		in.Err = &failure
	case enginetest.FailsForGood:
		failure := enginetest.Final
		in.Err = &failure
	case enginetest.StaysSilent:
		in.Err = &runner.StepError{Code: runner.CodeStepTimeout, Message: "the step ran too long", Retryable: true}
	default:
		var body struct{ Input map[string]any }
		if err := json.Unmarshal(d.Body, &body); err != nil {
			w.witness.fail("the body of %s of %s does not decode: %v", d.StepKey, d.ExecutionID, err)
			return in
		}
		output, err := json.Marshal(answerTo(w.placeOf(d.StepMessage).Place, body.Input, salt))
		if err != nil {
			w.witness.fail("the output of %s does not encode: %v", d.StepKey, err)
		}
		in.Kind, in.Output = engine.StepCompleted, output
	}
	return in
}

func answerTo(p engine.Place, input map[string]any, salt int) map[string]any {
	if p.Iteration > 0 {
		return enginetest.ItemAnswer(p.Step, p.Iteration, input, salt)
	}
	return enginetest.AnswerTo(p.Step, input, salt)
}
