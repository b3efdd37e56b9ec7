// Package load puts an installation under load as its clients do, over HTTP alone, and remembers what it was told: which
// executions were accepted, and all that was seen of them. It survives whatever happens to the installation: an answer
// that does not come, or tells of a fault, is asked for again with the same Idempotency-Key.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/promises"
)

// lookEvery is how often a client looks whether its execution has ended.
const lookEvery = 200 * time.Millisecond

// Load is a load. It is safe for concurrent use.
type Load struct {
	api      *api
	workflow Workflow
	id       string   // of the workflow
	ids      []string // of it and those that its steps are executions of
	ctx      context.Context
	abandon  context.CancelFunc
	working  sync.WaitGroup

	mu       sync.Mutex
	ended    bool // nothing new begins
	next     int
	accepted []*promises.Execution
	children []*promises.Execution
	answers  []Answer
	strange  []string
	more     chan struct{} // closed and replaced with every execution that is accepted
}

// Answer is the answer to one request for an execution.
type Answer struct {
	Asked, Came time.Time
	Status      int // 0: none
	Code        errs.Code
}

// Start makes an account, agents and the workflow, and lets so many clients execute it, one execution after the other each,
// until Stop. With no clients only Submit does.
func Start(ctx context.Context, url string, w Workflow, clients int) (*Load, error) {
	l := &Load{api: newAPI(url), workflow: w, more: make(chan struct{})}
	if err := l.prepare(ctx); err != nil {
		l.api.http.CloseIdleConnections()
		return nil, err
	}
	l.ctx, l.abandon = context.WithCancel(context.WithoutCancel(ctx))
	for range clients {
		l.working.Go(func() {
			for n, ok := l.number(); ok; n, ok = l.number() {
				l.execute(n)
			}
		})
	}
	return l, nil
}

func (l *Load) prepare(ctx context.Context) error {
	if err := l.api.register(ctx); err != nil {
		return err
	}
	var err error
	l.id, err = l.make(ctx, l.workflow)
	return err
}

// make makes a workflow, and before that its agents and what they need.
func (l *Load) make(ctx context.Context, w Workflow) (id string, err error) {
	ids := map[*agent]string{}
	for i, a := range w.agents() {
		config := a.config
		if a.child != nil {
			child, err := l.make(ctx, *a.child)
			if err != nil {
				return "", err
			}
			config = object{"workflowId": child}
		}
		made, _, err := ask[catalog.Agent](ctx, l.api, http.MethodPost, "/agents", object{
			"name": fmt.Sprintf("%s-%d", w.name, i+1), "type": a.kind, "status": "ACTIVE", "config": config,
		}, http.StatusCreated)
		if err != nil {
			return "", err
		}
		ids[a] = made.ID
	}
	made, _, err := ask[catalog.Workflow](ctx, l.api, http.MethodPost, "/workflows", w.body(ids), http.StatusCreated)
	l.ids = append(l.ids, made.ID)
	return made.ID, err
}

// number gives the number of the next execution; false once the load is to end.
func (l *Load) number() (n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, false
	}
	l.next++
	return l.next, true
}

// Submit begins one more execution, beside those of the clients, and returns once it is accepted.
func (l *Load) Submit(ctx context.Context) error {
	_, err := l.Begin(ctx)
	return err
}

// Begin is Submit, and gives the id of the execution.
func (l *Load) Begin(ctx context.Context) (id string, err error) {
	n, ok := l.number()
	if !ok {
		return "", fmt.Errorf("the load has ended")
	}
	x := l.submit(ctx, n)
	if x == nil {
		return "", fmt.Errorf("the execution %d is not accepted: %w", n, ctx.Err())
	}
	l.working.Go(func() { l.watch(n, x) })
	return x.ID, nil
}

// ErrEnded says that an execution takes no command any more.
var ErrEnded = errors.New("the execution has ended")

// Command asks for something of an execution, like cancel, until it is answered.
func (l *Load) Command(ctx context.Context, id, command string) error {
	for {
		got, err := l.api.send(ctx, http.MethodPost, "/executions/"+id+"/"+command, nil)
		switch {
		case err != nil:
			return err
		case got.status == http.StatusAccepted:
			return nil
		case got.code == errs.Conflict:
			return ErrEnded
		case !got.unknown():
			return fmt.Errorf("%s of %s is answered %s", command, id, got)
		}
		if err := nap(ctx, again); err != nil {
			return err
		}
	}
}

// Status gives that of an execution.
func (l *Load) Status(ctx context.Context, id string) (string, error) {
	r, raw := l.read(ctx, id)
	if raw == nil {
		return "", fmt.Errorf("the execution %s can not be read now", id)
	}
	return r.Status, nil
}

// Ask asks through a door for an execution of the load's workflow under a key, until it is answered.
func (l *Load) Ask(ctx context.Context, door, key, body string) (id string, status int, err error) {
	l.api.mu.Lock()
	through := &api{url: newAPI(door).url, http: l.api.http, account: l.api.account, token: l.api.token}
	l.api.mu.Unlock()
	for {
		got, err := through.send(ctx, http.MethodPost, "/workflows/"+l.id+"/execute", []byte(body), "Idempotency-Key", key)
		if err != nil {
			return "", 0, err
		}
		if !got.unknown() {
			var envelope struct{ Data orchestrator.Execution }
			_ = json.Unmarshal(got.body, &envelope) // a refusal has no id
			return envelope.Data.ID, got.status, nil
		}
		if err := nap(ctx, again); err != nil {
			return "", got.status, err
		}
	}
}

// Adopt counts an execution that was asked for by Ask, as the n-th, among those of the load.
func (l *Load) Adopt(n int, id string) {
	x := l.accept(l.workflow.meant(n, false), id)
	l.working.Go(func() { l.watch(n, x) })
}

func (l *Load) execute(n int) {
	if x := l.submit(l.ctx, n); x != nil {
		l.watch(n, x)
	}
}

// submit has an execution accepted; nil when ctx ends first, or when it is refused for good.
func (l *Load) submit(ctx context.Context, n int) *promises.Execution {
	inputs, err := l.workflow.inputs(n, l.workflow.fails(n))
	if err != nil {
		l.note("the inputs of %d: %v", n, err)
		return nil
	}
	body := append(append([]byte(`{"inputs":`), inputs...), '}')
	return l.begin(ctx, n, "/workflows/"+l.id+"/execute", body, "load-"+strconv.Itoa(n), l.workflow.meant(n, l.workflow.fails(n)))
}

// again has an execution accepted that runs a failed one again.
func (l *Load) again(n int, failed string) *promises.Execution {
	inputs, err := l.workflow.inputs(n, false)
	if err != nil {
		l.note("the inputs of %d: %v", n, err)
		return nil
	}
	body, err := json.Marshal(object{"from": l.workflow.rerun, "inputs": inputs})
	if err != nil {
		l.note("the rerun of %d: %v", n, err)
		return nil
	}
	return l.begin(l.ctx, n, "/executions/"+failed+"/rerun", body, "again-"+strconv.Itoa(n), l.workflow.meantAgain(n, failed))
}

// begin asks for the n-th execution until it is accepted; it is meant to become as it says.
func (l *Load) begin(ctx context.Context, n int, path string, body []byte, key string, meant promises.Execution) *promises.Execution {
	times := 1
	if n%7 == 0 {
		times = 2 // a client that does not trust the first answer
	}
	var x *promises.Execution
	for times > 0 {
		asked := time.Now()
		got, err := l.api.send(ctx, http.MethodPost, path, body, "Idempotency-Key", key)
		if err != nil {
			return x
		}
		l.answered(asked, got)
		var envelope struct{ Data orchestrator.Execution }
		switch {
		case got.unknown():
			if nap(ctx, again) != nil {
				return x
			}
			continue
		case got.status != http.StatusCreated || json.Unmarshal(got.body, &envelope) != nil || envelope.Data.ID == "":
			l.note("the request for the execution %d is answered %s", n, got)
			return x
		case x == nil:
			x = l.accept(meant, envelope.Data.ID)
		case x.ID != envelope.Data.ID:
			l.note("the key of the execution %d gave %s and then %s", n, x.ID, envelope.Data.ID)
		}
		times--
	}
	return x
}

func (l *Load) answered(asked time.Time, got answer) {
	if got.status >= 500 && (got.status != http.StatusServiceUnavailable || got.code != errs.DependencyUnavailable) {
		l.note("a request for an execution is answered %d %s", got.status, got.code)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, Answer{asked, time.Now(), got.status, got.code})
}

func (l *Load) accept(x promises.Execution, id string) *promises.Execution {
	x.ID, x.AcceptedAt = id, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, &x)
	close(l.more)
	l.more = make(chan struct{})
	return &x
}

func (l *Load) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.strange, text) {
		l.strange = append(l.strange, text)
	}
}

// watch looks at an execution until it has ended, and has one that failed where it was meant to run again. One that failed
// before, because runners were lost, would have nothing to go on from.
func (l *Load) watch(n int, x *promises.Execution) {
	l.look(n, x)
	if x.Status != orchestrator.ExecutionFailed || !failedAt(x, l.workflow.rerun) {
		return
	}
	if again := l.again(n, x.ID); again != nil {
		l.look(n, again)
	}
}

// failedAt tells whether a step had failed when an execution was last read.
func failedAt(x *promises.Execution, key string) bool {
	return len(x.Readings) > 0 && slices.ContainsFunc(x.Readings[len(x.Readings)-1].Steps, func(s orchestrator.StepState) bool {
		return s.StepKey == key && s.Status == orchestrator.StepFailed
	})
}

// look looks at an execution until it has ended; of every third it follows the events too. It approves what waits for
// that: of every second execution before it waits.
func (l *Load) look(n int, x *promises.Execution) {
	var following sync.WaitGroup
	if n%3 == 0 {
		x.Followed = []promises.Event{}
		following.Go(func() { l.follow(x) })
	}
	defer following.Wait()
	approvals := 0
	if l.workflow.approval != "" && x.RerunOf == "" {
		approvals = 1
		if n%5 == 0 {
			approvals = 2 // a client that does not trust the first answer
		}
	}
	var seen []byte
	for {
		r, raw := l.read(l.ctx, x.ID)
		if raw != nil && !bytes.Equal(raw, seen) {
			x.Readings, seen = append(x.Readings, r), raw
		}
		if approvals > 0 && raw != nil && (n%2 == 0 || waits(r.Execution, l.workflow.approval)) && l.approve(n, x.ID) {
			approvals--
		}
		if raw != nil && promises.Ended(r.Status) || nap(l.ctx, lookEvery) != nil {
			return
		}
	}
}

func waits(x orchestrator.Execution, key string) bool {
	return slices.ContainsFunc(x.Steps, func(s orchestrator.StepState) bool {
		return s.StepKey == key && (s.WaitingFor != nil || s.Status == orchestrator.StepCompleted)
	})
}

// approve sends an execution its approval, and tells whether that was accepted.
func (l *Load) approve(n int, id string) bool {
	body := fmt.Appendf(nil, `{"approve":true,"payload":%d}`, n)
	got, err := l.api.send(l.ctx, http.MethodPost, "/executions/"+id+"/signals/"+l.workflow.approval, body, "Idempotency-Key", "agree-"+strconv.Itoa(n))
	if err == nil && got.status != http.StatusAccepted && !got.unknown() {
		l.note("the approval of %s is answered %s", id, got)
	}
	return err == nil && got.status == http.StatusAccepted
}

// read reads an execution; nil when it is not answered.
func (l *Load) read(ctx context.Context, id string) (promises.Reading, json.RawMessage) {
	got, err := l.api.send(ctx, http.MethodGet, "/executions/"+id, nil)
	if err != nil || got.unknown() {
		return promises.Reading{}, nil
	}
	var envelope struct{ Data json.RawMessage }
	r := promises.Reading{At: time.Now()}
	if got.status != http.StatusOK || json.Unmarshal(got.body, &envelope) != nil || json.Unmarshal(envelope.Data, &r.Execution) != nil {
		l.note("the accepted execution %s is read as %d %s", id, got.status, got.code)
		return promises.Reading{}, nil
	}
	return r, envelope.Data
}

// follow follows the events to the last, beginning again behind the last one seen whenever the stream ends.
func (l *Load) follow(x *promises.Execution) {
	last := uint64(0)
	for l.ctx.Err() == nil {
		done := false
		err := l.api.follow(l.ctx, x.ID, last, func(e promises.Event) {
			x.Followed = append(x.Followed, e)
			last = e.Seq
			done = promises.Ended(e.Status) && e.StepKey == ""
		})
		if done || nap(l.ctx, again) != nil {
			return
		}
		if isBroken(err) {
			l.note("the events of %s: %v", x.ID, err)
			return
		}
	}
}

// Email is the address of the account that asks, for whom it is its own.
func (l *Load) Email() string { return l.api.account.Email }

// Accepted is how many executions are accepted so far.
func (l *Load) Accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// Grow waits until so many more executions are accepted, or ctx ends.
func (l *Load) Grow(ctx context.Context, by int) error {
	goal := l.Accepted() + by
	for {
		l.mu.Lock()
		have, more := len(l.accepted), l.more
		l.mu.Unlock()
		if have >= goal {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%d executions are accepted, want %d: %w", have, goal, ctx.Err())
		}
	}
}

// Answers are those to all requests for executions so far, in their order.
func (l *Load) Answers() []Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answers)
}

// Stop begins no more executions, waits until all that were accepted have ended, or ctx ends, and reads every one
// once more, with its history. strange are answers that no fault excuses.
func (l *Load) Stop(ctx context.Context) (all []promises.Execution, strange []string) {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.working.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	l.Close()
	<-ended
	defer l.api.http.CloseIdleConnections()

	l.mu.Lock()
	accepted := slices.Clone(l.accepted)
	l.mu.Unlock()
	queue := make(chan *promises.Execution, len(accepted))
	for _, x := range accepted {
		queue <- x
	}
	close(queue)
	// What did not end in time is looked at all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var reading sync.WaitGroup
	for range 8 {
		reading.Go(func() {
			for x := range queue {
				l.finish(ctx, x)
			}
		})
	}
	reading.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range append(accepted, l.children...) {
		all = append(all, *x)
	}
	return all, l.strange
}

// Close ends the load at once, wherever it stands. It may be repeated, and comes to nothing after Stop.
func (l *Load) Close() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.abandon()
	l.working.Wait()
	l.api.http.CloseIdleConnections()
}

// finish reads an execution and its history, and those that its steps were.
func (l *Load) finish(ctx context.Context, x *promises.Execution) {
	l.readToEnd(ctx, x)
	if len(x.Readings) == 0 {
		return
	}
	for _, s := range x.Readings[len(x.Readings)-1].Steps {
		w := l.workflow.child(s.StepKey)
		if w == nil || s.ChildExecutionID == nil {
			continue
		}
		n := 0
		var inputs struct{ N int }
		if json.Unmarshal(x.Readings[len(x.Readings)-1].Inputs, &inputs) == nil {
			n = inputs.N
		}
		child := w.meant(n, false)
		child.ID, child.AcceptedAt, child.ParentID = *s.ChildExecutionID, x.AcceptedAt, x.ID
		for r, raw := l.read(ctx, child.ID); (raw == nil || !promises.Ended(r.Status)) && nap(ctx, again) == nil; { // a little after its parent was cancelled
			r, raw = l.read(ctx, child.ID)
		}
		l.readToEnd(ctx, &child)
		l.mu.Lock()
		l.children = append(l.children, &child)
		l.mu.Unlock()
	}
}

func (l *Load) readToEnd(ctx context.Context, x *promises.Execution) {
	for ctx.Err() == nil {
		r, raw := l.read(ctx, x.ID)
		if raw == nil {
			_ = nap(ctx, again)
			continue
		}
		x.Readings = append(x.Readings, r)
		if !promises.Ended(r.Status) {
			return // its stream would not end
		}
		x.Replay = nil
		err := l.api.follow(ctx, x.ID, 0, func(e promises.Event) { x.Replay = append(x.Replay, e) })
		if err == nil {
			return
		}
		if isBroken(err) {
			l.note("the history of %s: %v", x.ID, err)
			return
		}
		_ = nap(ctx, again)
	}
}

// Totals gives how many executions of the load the API counts, by status; "" has all.
func (l *Load) Totals(ctx context.Context) (map[string]int, error) {
	defer l.api.http.CloseIdleConnections()
	totals := map[string]int{}
	for _, status := range []string{
		"", orchestrator.ExecutionPending, orchestrator.ExecutionRunning, orchestrator.ExecutionPaused, orchestrator.ExecutionCompleted,
		orchestrator.ExecutionFailed, orchestrator.ExecutionCancelled, orchestrator.ExecutionTimeout,
	} {
		for _, id := range l.ids {
			path := "/executions?pageSize=1&workflowId=" + id
			if status != "" {
				path += "&status=" + status
			}
			_, page, err := ask[[]orchestrator.Execution](ctx, l.api, http.MethodGet, path, nil, http.StatusOK)
			if err != nil {
				return nil, err
			}
			totals[status] += page.Total
		}
	}
	return totals, nil
}
