package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/services/runner/internal/executor"
)

// callBook is a ledger of calls that an orchestrator might have: an agent that is called becomes a ready step.
type callBook struct {
	w       *world
	outputs sync.Map // by token, of agents that have ended
	pending atomic.Int64

	mu    sync.Mutex
	begun []orchestrator.BeginCallRequest
	ended []orchestrator.EndCallRequest
}

func (w *world) keepCalls() *callBook {
	w.t.Helper()
	b := &callBook{w: w}
	server := bus.NewServer(orchestrator.Service, zerolog.Nop())
	bus.Handle(server, orchestrator.BeginCall, func(_ context.Context, _ rpc.Caller, req orchestrator.BeginCallRequest) (orchestrator.BeginCallResponse, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.begun = append(b.begun, req)
		switch {
		case req.Name == "obsolete":
			return orchestrator.BeginCallResponse{Obsolete: true}, nil
		case b.pending.Load() > 0:
			b.pending.Add(-1)
			return orchestrator.BeginCallResponse{Denied: &orchestrator.DeniedCall{Action: "approve", Pending: true}}, nil
		}
		return orchestrator.BeginCallResponse{CallID: fmt.Sprintf("%s-%d", req.Attempt.Token, req.N)}, nil
	})
	bus.Handle(server, orchestrator.EndCall, func(_ context.Context, _ rpc.Caller, req orchestrator.EndCallRequest) (rpc.Empty, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ended = append(b.ended, req)
		return rpc.Empty{}, nil
	})
	bus.Handle(server, orchestrator.CallAgent, func(_ context.Context, _ rpc.Caller, req orchestrator.CallAgentRequest) (orchestrator.CallAgentResponse, error) {
		if req.AgentID == "nobody's" {
			return orchestrator.CallAgentResponse{Failure: &runner.StepError{Code: runner.CodeChildFailed, Message: "no"}}, nil
		}
		m := step(req.CallID)
		m.Data = []byte(`{"config":{},"input":` + string(req.Input) + `}`)
		w.send(m)
		return orchestrator.CallAgentResponse{ExecutionID: "x"}, nil
	})
	bus.Handle(server, orchestrator.AwaitAgent, func(_ context.Context, _ rpc.Caller, req orchestrator.AwaitAgentRequest) (orchestrator.AwaitAgentResponse, error) {
		for range 100 {
			if output, ok := b.outputs.Load(req.CallID); ok {
				return orchestrator.AwaitAgentResponse{Done: true, Output: output.([]byte)}, nil
			}
			<-time.After(2 * time.Millisecond)
		}
		return orchestrator.AwaitAgentResponse{}, nil
	})
	bustest.Serve(w.t, w.conn, server)
	return b
}

// result notes the results of agents until that of a token comes, which it gives.
func (b *callBook) result(token string) []byte {
	b.w.t.Helper()
	for {
		m := b.w.next()
		switch typ, id := m.Headers().Get(event.HeaderType), m.Headers().Get(event.HeaderID); {
		case typ == runner.TypeStepFailed:
			b.w.t.Fatalf("%s has failed: %s", id, m.Data())
		case typ != runner.TypeStepCompleted:
		case id == token:
			return m.Data()
		default:
			b.outputs.Store(id, slices.Clone(m.Data()))
		}
	}
}

// think runs the agents that its input asks for, two at a time, and each of those as many, down to a depth.
func think(running, most *atomic.Int64) executorFunc {
	return func(ctx context.Context, task executor.Task) (json.RawMessage, error) {
		enter := func() {
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		}
		enter()
		defer func() { running.Add(-1) }()
		var in struct{ Depth int }
		if err := json.Unmarshal(task.Input, &in); err != nil {
			return nil, err
		}
		if in.Depth == 0 {
			return json.RawMessage("1"), nil
		}
		outputs := make([]int, 2)
		var group sync.WaitGroup
		errs := make(chan error, 2)
		running.Add(-1)
		for i := range outputs {
			group.Go(func() {
				begun, err := task.Calls.Begin(ctx, executor.BeginCall{N: i + 1, Kind: orchestrator.CallOfAgent, Name: "tool"})
				if err != nil {
					errs <- err
					return
				}
				output, err := task.Calls.RunAgent(ctx, begun.ID, "agent", json.RawMessage(fmt.Sprintf(`{"depth":%d}`, in.Depth-1)))
				if err == nil {
					err = json.Unmarshal(output, &outputs[i])
				}
				if err == nil {
					err = task.Calls.End(ctx, executor.EndedCall{ID: begun.ID, Output: output})
				}
				errs <- err
			})
		}
		group.Wait()
		enter()
		return json.RawMessage(fmt.Sprint(outputs[0] + outputs[1])), errors.Join(<-errs, <-errs)
	}
}

// Attempts that wait for agents of their own type leave these their places, so that a pool of one is enough for any depth; those that run are never more.
func TestAgentsThatCallAgentsDoNotWaitForPlaces(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 2} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 5*time.Second)
			b := w.keepCalls()
			var running, most atomic.Int64
			r := w.start(think(&running, &most), func(c *Config) { c.Concurrency = concurrency })
			r.awaitReady(t)
			for i := range 3 {
				token := fmt.Sprint("t", i)
				m := step(token)
				m.Data = []byte(`{"config":{},"input":{"depth":4}}`)
				w.send(m)
				if got := string(b.result(token)); got != "16" {
					t.Errorf("it gives %s", got)
				}
			}
			if most.Load() > int64(concurrency) {
				t.Errorf("%d run at once", most.Load())
			}
			w.awaitEmpty()
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.ended) != 3*30 || b.ended[0].Status != orchestrator.CallCompleted || b.begun[0].Run == "" {
				t.Errorf("%d calls have ended, the first %+v", len(b.ended), b.ended[0])
			}
		})
	}
}

// Who waits for somebody to approve leaves the place too, and goes on once that is done.
func TestWhoWaitsForApprovalLeavesThePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5*time.Second)
	b := w.keepCalls()
	b.pending.Store(1 << 40)
	waiting := make(chan struct{})
	var slots atomic.Int64 // that were heard of last
	sub, err := w.conn.NATS().Subscribe(subject.RunnerHeartbeat, func(m *nats.Msg) {
		var h runner.Heartbeat
		if json.Unmarshal(m.Data, &h) == nil && len(h.Capacity) == 1 {
			slots.Store(int64(h.Capacity[0].Slots))
		}
	})
	w.must(err)
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	r := w.start(executorFunc(func(ctx context.Context, task executor.Task) (json.RawMessage, error) {
		if strings.Contains(string(task.Input), "plain") {
			return task.Input, nil
		}
		begun, err := task.Calls.Begin(ctx, executor.BeginCall{N: 1, Kind: orchestrator.CallOfModel, Waiting: func(orchestrator.DeniedCall) { close(waiting) }})
		if err != nil {
			return nil, err
		}
		return json.RawMessage(fmt.Sprintf(`{"id":%q,"denied":%t}`, begun.ID, begun.Denied != nil)), nil
	}), func(c *Config) { c.Concurrency = 1 })
	r.awaitReady(t)
	w.send(step("t"))
	await(t, "it waits", waiting)
	eventually(t, "the orchestrator is told of a place more", func() bool { return slots.Load() == 2 })
	plain := step("u")
	plain.Data = []byte(`{"config":{},"input":"plain"}`)
	w.send(plain)
	if got := b.result("u"); string(got) != `"plain"` {
		t.Errorf("meanwhile %s", got)
	}
	b.pending.Store(0)
	if got := b.result("t"); string(got) != `{"id":"t-1","denied":false}` {
		t.Errorf("then %s", got)
	}
	eventually(t, "it has one place again", func() bool { return slots.Load() == 1 })
}

// What an attempt has used is told also when the attempt is stopped; what would no longer count is not reported.
func TestCallsOfStoppedAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5*time.Second)
	b := w.keepCalls()
	began := make(chan struct{})
	r := w.start(executorFunc(func(ctx context.Context, task executor.Task) (json.RawMessage, error) {
		switch {
		case strings.Contains(string(task.Input), "obsolete"):
			_, err := task.Calls.Begin(ctx, executor.BeginCall{N: 1, Name: "obsolete"})
			return nil, err
		case strings.Contains(string(task.Input), "nobody"):
			_, err := task.Calls.RunAgent(ctx, "c", "nobody's", nil)
			return nil, err
		}
		begun, err := task.Calls.Begin(ctx, executor.BeginCall{N: 1, Kind: orchestrator.CallOfModel})
		if err != nil {
			return nil, err
		}
		close(began)
		<-ctx.Done()
		if err := task.Calls.End(ctx, executor.EndedCall{ID: begun.ID, InputTokens: 7, Error: &orchestrator.CallError{Code: "X", Message: "stopped"}}); err != nil {
			t.Error(err)
		}
		return nil, ctx.Err()
	}))
	r.awaitReady(t)
	w.send(step("t"))
	await(t, "it begins", began)
	w.cancel("t")
	eventually(t, "the call is settled", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.ended) == 1 && b.ended[0].InputTokens == 7 && b.ended[0].Status == orchestrator.CallFailed
	})
	obsolete := step("u")
	obsolete.Data = []byte(`{"config":{},"input":"obsolete"}`)
	w.send(obsolete)
	w.awaitEmpty()
	w.noMore()
	failing := step("v")
	failing.Data = []byte(`{"config":{},"input":"nobody"}`)
	w.send(failing)
	w.expectFault("v", runner.CodeChildFailed)
}
