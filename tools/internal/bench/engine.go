//go:build unix

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// engine drives executions of the workload: as many at once as there are slots, each begun
// by a submit and over with its public event, which is told after the commit.
func (w *world) engine(ctx context.Context) (Result, error) {
	caller := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin, RequestID: "bench"}
	workflow, steps, err := w.workflow(ctx, caller)
	if err != nil {
		return Result{}, err
	}
	inFlight := w.o.InFlight
	if w.o.Workload == Single {
		inFlight = 1
	}
	r := Result{Workload: w.o.Workload, InFlight: inFlight}
	var mu sync.Mutex
	ended := map[string]chan string{}
	endOf := func(id string) chan string {
		mu.Lock()
		defer mu.Unlock()
		if ended[id] == nil {
			ended[id] = make(chan string, 1)
		}
		return ended[id]
	}
	for _, t := range []event.Type[orchestrator.ExecutionEvent]{orchestrator.EventCompleted, orchestrator.EventFailed} {
		all := strings.Replace(subject.Event(0, event.Path(t.String())), ".0.", ".*.", 1)
		sub, err := w.conn.NATS().Subscribe(all, func(m *nats.Msg) { endOf(m.Header.Get(event.HeaderSubject)) <- t.Name })
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = sub.Unsubscribe() }()
	}

	var group sync.WaitGroup
	var failure error
	var times []time.Duration
	inputs := json.RawMessage(`{"p":"` + strings.Repeat("x", 180) + `","pad":"` + strings.Repeat("z", 780) + `"}`)
	before, start := w.cpu(), time.Now()
	for range inFlight {
		group.Go(func() {
			for time.Since(start) < w.o.Duration {
				begin := time.Now()
				err := w.one(ctx, caller, workflow, inputs, endOf)
				mu.Lock()
				if err != nil {
					failure = err
					mu.Unlock()
					return
				}
				times = append(times, time.Since(begin))
				r.Executions++
				r.Steps += steps
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if failure != nil {
		return Result{}, failure
	}
	elapsed := time.Since(start)
	r.CPUMsPer1000 = perThousand(before, w.cpu(), r.Steps)
	summarize(&r, times, elapsed)
	return r, nil
}

func (w *world) one(ctx context.Context, caller rpc.Caller, workflow string, inputs json.RawMessage, endOf func(string) chan string) error {
	resp, err := bus.Call(ctx, w.conn, orchestrator.Submit, caller, orchestrator.SubmitRequest{WorkflowID: workflow, Inputs: inputs, TriggerType: orchestrator.TriggerAPI})
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	select {
	case how := <-endOf(resp.Execution.ID):
		if how != orchestrator.EventCompleted.Name {
			return fmt.Errorf("execution %s has %s", resp.Execution.ID, how)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(stallWait):
		return fmt.Errorf("execution %s does not end\n%s\n%s", resp.Execution.ID, w.tail("orchestrator"), w.tail("runner"))
	}
}

// workflow saves the workload's workflow and gives its id and how many steps it has. Each step
// takes about 1 KB and gives about 256 bytes: a DATA agent that does nothing.
func (w *world) workflow(ctx context.Context, caller rpc.Caller) (id string, steps int, err error) {
	agent, err := bus.Call(ctx, w.conn, catalog.CreateAgent, caller, catalog.CreateRequest{
		Body: json.RawMessage(`{"name":"no-op","type":"DATA","status":"ACTIVE","config":{"pipeline":[]}}`),
	})
	if err != nil {
		return "", 0, fmt.Errorf("create the agent: %w", err)
	}
	type step struct {
		StepKey   string         `json:"stepKey"`
		StepType  string         `json:"stepType"`
		AgentID   string         `json:"agentId"`
		DependsOn []string       `json:"dependsOn"`
		Inputs    map[string]any `json:"inputs"`
	}
	inputs := map[string]any{"data": map[string]string{"p": "{{inputs.p}}"}, "pad": "{{inputs.pad}}"}
	add := func(list []step, key string, deps ...string) []step {
		return append(list, step{StepKey: key, StepType: catalog.StepAgent, AgentID: agent.ID, DependsOn: append([]string{}, deps...), Inputs: inputs})
	}
	var list []step
	if w.o.Workload == Fanout {
		list = add(list, "source")
		var middle []string
		for i := range 100 {
			middle = append(middle, fmt.Sprintf("m%d", i))
			list = add(list, middle[i], "source")
		}
		list = add(list, "join", middle...)
	} else {
		list = add(list, "s0")
		for i := 1; i < 10; i++ {
			list = add(list, fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", i-1))
		}
	}
	body, err := json.Marshal(map[string]any{"name": "bench " + w.o.Workload, "status": catalog.StatusActive, "steps": list})
	if err != nil {
		return "", 0, err
	}
	workflow, err := bus.Call(ctx, w.conn, catalog.CreateWorkflow, caller, catalog.CreateRequest{Body: body})
	if err != nil {
		return "", 0, fmt.Errorf("create the workflow: %w", err)
	}
	return workflow.ID, len(list), nil
}
