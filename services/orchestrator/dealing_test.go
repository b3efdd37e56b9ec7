package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// beat tells orchestrators of a runner with so many slots for an agent type until the test ends.
func (in *installation) beat(agentType string, slots int) {
	in.beatPool(subject.DefaultPool, agentType, slots)
}

// beatPool is beat for a runner of another pool.
func (in *installation) beatPool(pool, agentType string, slots int) {
	in.t.Helper()
	body, err := json.Marshal(runner.Heartbeat{
		RunnerID: uuid.NewString(), Pool: pool, Capacity: []runner.Capacity{{AgentType: agentType, Slots: slots}},
	})
	if err != nil {
		in.t.Fatal(err)
	}
	stop := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		for {
			_ = in.conn.NATS().Publish(subject.RunnerHeartbeat, body)
			select {
			case <-stop:
				return
			case <-time.After(runner.HeartbeatEvery):
			}
		}
	})
	in.t.Cleanup(func() { close(stop); beating.Wait() })
}

// TestTenThousandReadyStepsHoldUpNobody: while an execution has 10,000 ready items and runners are slow, the single steps of
// its own user and of another one are run soon.
func TestTenThousandReadyStepsHoldUpNobody(t *testing.T) {
	t.Parallel()
	const loops, items, slots, singles = 10, 1000, 8, 20
	in := newInstallation(t)
	in.start()
	in.beat(catalog.AgentData, slots)
	var mu sync.Mutex
	began := map[string]time.Time{}
	free := make(chan struct{}, slots)
	in.play(func(a attempt) (string, *runner.StepError) {
		free <- struct{}{}
		defer func() { <-free }()
		mu.Lock()
		began[a.execution] = time.Now()
		mu.Unlock()
		<-time.After(100 * time.Millisecond) // a slow agent
		return `1`, nil
	})
	list := "[" + strings.TrimSuffix(strings.Repeat("0,", items), ",") + "]"
	var steps []catalog.Step
	for n := range loops {
		steps = append(steps, catalog.Step{
			StepKey: fmt.Sprintf("l%d", n), StepType: catalog.StepLoop,
			Config: fmt.Appendf(nil, `{"forEach":"{{inputs.list}}","concurrency":%d}`, items), Inputs: json.RawMessage(`{}`), TimeoutMs: 600_000,
		})
	}
	big := in.submit(in.workflow(steps...), `{"list":`+list+`}`)
	in.await(big.ID, "at work", func(x contract.Execution) bool {
		return x.Steps[loops-1].Items != nil && x.Steps[loops-1].Items.Begun == items
	})
	single := in.workflow(chain(1)...)
	var waits []time.Duration
	for n := range singles {
		caller := in.owner
		if n%2 == 0 {
			caller = rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
		}
		asked := time.Now()
		resp, err := bus.Call(t.Context(), in.conn, contract.Submit, caller, contract.SubmitRequest{WorkflowID: single, TriggerType: contract.TriggerAPI, Inputs: json.RawMessage(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		id := resp.Execution.ID
		in.await(id, "done", terminal)
		mu.Lock()
		waits = append(waits, began[id].Sub(asked))
		mu.Unlock()
	}
	if x := in.get(big.ID); terminal(x) {
		t.Fatalf("the large execution is %s already", x.Status)
	}
	slices.Sort(waits)
	t.Logf("the single steps waited %v to %v", waits[0], waits[singles-1])
	if p95 := waits[singles*95/100-1]; p95 > 2*time.Second {
		t.Errorf("the single steps waited %v", waits)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.Cancel, in.owner, contract.IDRequest{ID: big.ID}); err != nil {
		t.Fatal(err)
	}
	in.await(big.ID, "cancelled", terminal)
	last := in.submit(single, `{}`) // what was dealt to the cancelled one is given back
	in.await(last.ID, "done", terminal)
}

// TestExplainTellsOfRunners asks for a step without a runner, with one for another type, and with one that has its hands full.
func TestExplainTellsOfRunners(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	var steps []catalog.Step
	for n := range 8 {
		steps = append(steps, catalog.Step{StepKey: fmt.Sprintf("s%d", n), Inputs: json.RawMessage(`{}`)})
	}
	id := in.submit(in.workflow(steps...), `{}`).ID
	await := func(enough int, text string) contract.Explanation {
		t.Helper()
		var got contract.Explanation
		for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); wait(t.Context(), 20*time.Millisecond) {
			var err error
			if got, err = bus.Call(t.Context(), in.conn, contract.Explain, in.owner, contract.IDRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, s := range got.Steps {
				if s.Reason == "RUNNER" && strings.Contains(s.Message, text) {
					n++
				}
			}
			if n == enough {
				return got
			}
		}
		t.Fatalf("it is not told of %d steps that %q: %+v", enough, text, got)
		return got
	}
	await(8, "no runner is alive")
	for _, s := range in.get(id).Steps {
		if s.Status != contract.StepRunning || s.WaitingFor == nil || s.WaitingFor.Reason != "RUNNER" {
			t.Errorf("%s is %s and waits for %+v", s.StepKey, s.Status, s.WaitingFor)
		}
	}
	in.beat(catalog.AgentLLM, 7)
	await(8, "of 1 runners that are alive none takes DATA agents")
	in.beat(catalog.AgentData, 1)
	await(4, "waits in line for a runner")
	got := await(4, "is among the next that runners take")
	for ahead := range 4 {
		if n := strings.Count(fmt.Sprint(got.Steps), fmt.Sprintf("with %d other steps of its user before it", ahead)); n != 1 {
			t.Errorf("%d steps have %d before them: %+v", n, ahead, got.Steps)
		}
	}
	in.play(echo)
	in.await(id, "done", terminal)
}

func TestAUserWithTooManyExecutionsIsRefused(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	environ := in.environ()
	environ["TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER"] = "3"
	in.startWith(environ)
	workflow := in.workflow(chain(1)...) // nobody runs it
	submitAs := func(caller rpc.Caller, key, inputs string) (contract.SubmitResponse, error) {
		return bus.Call(t.Context(), in.conn, contract.Submit, caller, contract.SubmitRequest{
			WorkflowID: workflow, TriggerType: contract.TriggerAPI, Inputs: json.RawMessage(inputs), IdempotencyKey: key,
		})
	}
	submit := func(caller rpc.Caller, key string) (string, error) {
		resp, err := submitAs(caller, key, `{}`)
		return resp.Execution.ID, err
	}
	var ids []string
	for n := range 3 {
		id, err := submit(in.owner, fmt.Sprint("key ", n))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	_, err := submit(in.owner, "")
	if errs.CodeOf(err) != errs.RateLimited || errs.From(err).RetryAfterMs < 1000 {
		t.Errorf("the fourth: %+v", err)
	}
	for n := range 4 { // a key gives the same answer however many executions there are, and a new one no other
		resp, err := submitAs(in.owner, fmt.Sprint("key ", n), ` {} `)
		switch {
		case n == 3 && errs.CodeOf(err) != errs.RateLimited, n < 3 && (err != nil || !resp.Replayed || resp.Execution.ID != ids[n]):
			t.Errorf("with key %d again: %+v, %v", n, resp, err)
		}
	}
	if _, err := submitAs(in.owner, "key 0", `{"n":1}`); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("another request under the key: %v", err)
	}
	if _, err := submit(rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, ""); err != nil {
		t.Errorf("another user: %v", err)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.Cancel, in.owner, contract.IDRequest{ID: ids[0]}); err != nil {
		t.Fatal(err)
	}
	in.await(ids[0], "cancelled", terminal)
	deadline := time.Now().Add(30 * time.Second)
	for err = errs.New(errs.RateLimited, ""); errs.CodeOf(err) == errs.RateLimited && time.Now().Before(deadline); _, err = submit(in.owner, "") {
		wait(t.Context(), 200*time.Millisecond)
	}
	if err != nil {
		t.Errorf("when one has ended: %v", err)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.Retry, in.owner, contract.RetryRequest{ID: ids[0]}); errs.CodeOf(err) != errs.RateLimited {
		t.Errorf("a retry beyond the bound: %v", err)
	}
}
