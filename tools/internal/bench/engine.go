//go:build unix

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

const (
	loopItems       = 100_000
	loopConcurrency = 256
)

// client begins executions of one workflow and waits for their ends: each begun by a submit and
// over with its public event, which is told after the commit.
type client struct {
	w        *world
	caller   rpc.Caller
	inputs   json.RawMessage
	request  json.RawMessage // that begins an execution
	patience time.Duration

	mu    sync.Mutex
	ended map[string]chan string
}

// engine measures a workload: first one execution after the other, then as many at once as there are slots.
func (w *world) engine(ctx context.Context, name string) (r Result, err error) {
	c := &client{
		w: w, caller: rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin, RequestID: "bench"}, patience: stallWait, ended: map[string]chan string{},
		inputs: json.RawMessage(`{"p":"` + strings.Repeat("x", 180) + `","pad":"` + strings.Repeat("z", 780) + `"}`),
	}
	stop, err := c.listen()
	if err != nil {
		return r, err
	}
	defer stop()
	r.Workload = name
	r.Settings.InFlight, r.Settings.InputBytes, r.Settings.OutputBytes = w.o.InFlight, taskBytes, resultBytes
	alone, together := w.o.Duration/2, w.o.Duration
	if name == Loop100k {
		c.inputs, c.patience = loopInputs(), 10*time.Minute
		r.Settings.InFlight, r.Settings.InputBytes, r.Settings.OutputBytes = loopConcurrency, 32, 24
		alone, together = 0, 1 // one execution
	}
	steps, err := c.save(ctx, name)
	if err != nil {
		return r, err
	}
	times, err := c.drive(ctx, 1, alone)
	if err != nil {
		return r, err
	}
	slots := r.Settings.InFlight
	if name == Loop100k {
		slots = 1
	}
	m := w.measure(name)
	last, err := c.drive(ctx, slots, together)
	if err != nil {
		return r, err
	}
	m.end(&r, steps*len(last))
	if name == Loop100k {
		times = last
	}
	r.latencies(times)
	return r, nil
}

func loopInputs() json.RawMessage {
	b := []byte(`{"items":[0`)
	for i := 1; i < loopItems; i++ {
		b = strconv.AppendInt(append(b, ','), int64(i), 10)
	}
	return append(b, "]}"...)
}

// listen hears how executions end.
func (c *client) listen() (stop func(), err error) {
	sub, err := c.w.conn.NATS().Subscribe(subject.EventsAll, func(m *nats.Msg) {
		for name, id := range eventsOf(m.Data) {
			if name == orchestrator.EventCompleted.Name || name == orchestrator.EventFailed.Name {
				c.endOf(id) <- name
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// How an event begins, before its id and after it.
var (
	beforeID = []byte(`"specversion":"1.0","id":"`)
	afterID  = []byte(`","source":"` + orchestrator.Service + `","type":"io.turbocat.execution.`)
	afterV   = []byte(`","subject":"`)
)

// eventsOf gives the names of the events in a batch and the executions that they are of. It relies on the order in which they are
// encoded, so that the load takes little of what is measured.
func eventsOf(batch []byte) iter.Seq2[string, string] {
	return func(yield func(name, id string) bool) {
		for _, rest, found := bytes.Cut(batch, []byte{'{'}); found; _, rest, found = bytes.Cut(rest, []byte{'{'}) {
			head, ok := bytes.CutPrefix(rest, beforeID)
			if !ok || len(head) < idBytes {
				continue
			}
			if head, ok = bytes.CutPrefix(head[idBytes:], afterID); !ok {
				continue
			}
			name, version, _ := bytes.Cut(head, []byte{'.'})
			if _, of, ok := bytes.Cut(version, afterV); ok && len(of) >= idBytes && !yield(string(name), string(of[:idBytes])) {
				return
			}
		}
	}
}

// idBytes is the length of a UUID.
const idBytes = 36

func (c *client) endOf(id string) chan string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended[id] == nil {
		c.ended[id] = make(chan string, 1)
	}
	return c.ended[id]
}

// drive keeps so many executions running for a while, at least one, and gives how long each took.
func (c *client) drive(ctx context.Context, slots int, d time.Duration) (times []time.Duration, failure error) {
	if d == 0 {
		return nil, nil
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	start := time.Now()
	for range slots {
		group.Go(func() {
			for first := true; first || time.Since(start) < d; first = false {
				begin := time.Now()
				err := c.one(ctx)
				mu.Lock()
				if err != nil {
					failure = err
				} else {
					times = append(times, time.Since(begin))
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return times, failure
}

// submit is the contract's, with requests that are encoded once and answers of which the id alone is read: what a client makes of
// them is not the engine's time.
var submit = rpc.Method[json.RawMessage, json.RawMessage](orchestrator.Submit)

// beforeSubmitted is how the answer begins, before the execution's id.
var beforeSubmitted = []byte(`{"execution":{"id":"`)

// submit begins an execution and gives its id.
func (c *client) submit(ctx context.Context) (string, error) {
	answer, err := bus.Call(ctx, c.w.conn, submit, c.caller, c.request)
	if err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	id, ok := bytes.CutPrefix(answer, beforeSubmitted)
	if !ok || len(id) < idBytes {
		return "", fmt.Errorf("submit is answered with %.100s", answer)
	}
	return string(id[:idBytes]), nil
}

func (c *client) one(ctx context.Context) error {
	id, err := c.submit(ctx)
	if err != nil {
		return err
	}
	end := c.endOf(id)
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case how := <-end:
		c.mu.Lock()
		delete(c.ended, id)
		c.mu.Unlock()
		if how != orchestrator.EventCompleted.Name {
			return fmt.Errorf("execution %s has %s", id, how)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("execution %s does not end\n%s\n%s", id, c.w.tail("orchestrator"), c.w.tail("runner"))
	}
}

// step is one of the workflow as the catalog takes it.
type step struct {
	StepKey   string         `json:"stepKey"`
	StepType  string         `json:"stepType"`
	AgentID   string         `json:"agentId"`
	DependsOn []string       `json:"dependsOn"`
	OnError   string         `json:"onError,omitempty"`
	Inputs    map[string]any `json:"inputs"`
	Config    map[string]any `json:"config,omitempty"`
}

// save makes the workload's workflow and gives how many steps it has, or items. A step takes about 1 KB
// and gives about 256 bytes: a DATA agent that does nothing.
func (c *client) save(ctx context.Context, name string) (count int, err error) {
	agent, err := bus.Call(ctx, c.w.conn, catalog.CreateAgent, c.caller, catalog.CreateRequest{
		Body: json.RawMessage(`{"name":"no-op","type":"DATA","status":"ACTIVE","config":{"pipeline":[]}}`),
	})
	if err != nil {
		return 0, fmt.Errorf("create the agent: %w", err)
	}
	steps, count := stepsOf(name, agent.ID)
	body, err := json.Marshal(map[string]any{"name": "bench " + name, "status": catalog.StatusActive, "steps": steps})
	if err != nil {
		return 0, err
	}
	workflow, err := bus.Call(ctx, c.w.conn, catalog.CreateWorkflow, c.caller, catalog.CreateRequest{Body: body})
	if err != nil {
		return 0, fmt.Errorf("create the workflow: %w", err)
	}
	c.request, err = json.Marshal(orchestrator.SubmitRequest{WorkflowID: workflow.ID, Inputs: c.inputs, TriggerType: orchestrator.TriggerAPI})
	return count, err
}

func stepsOf(name, agent string) (steps []step, count int) {
	inputs := map[string]any{"data": map[string]string{"p": "{{inputs.p}}"}, "pad": "{{inputs.pad}}"}
	add := func(key string, deps ...string) {
		steps = append(steps, step{StepKey: key, StepType: catalog.StepAgent, AgentID: agent, DependsOn: append([]string{}, deps...), Inputs: inputs})
	}
	chain := func(n int) {
		add("s0")
		for i := 1; i < n; i++ {
			add(fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", i-1))
		}
	}
	switch name {
	case Single:
		chain(1)
	case Seq3:
		chain(3)
	case Chain10:
		chain(10)
	case Fan100:
		add("source")
		var middle []string
		for i := range 100 {
			middle = append(middle, fmt.Sprintf("m%d", i))
			add(middle[i], "source")
		}
		add("join", middle...)
	case Loop100k:
		// Its outputs together are larger than a step's output may be, which is all that CONTINUE is for.
		steps = append(steps, step{
			StepKey: "loop", StepType: catalog.StepLoop, AgentID: agent, DependsOn: []string{}, OnError: catalog.OnErrorContinue, Inputs: map[string]any{"data": "{{item}}"},
			Config: map[string]any{"forEach": "{{inputs.items}}", "concurrency": loopConcurrency, "maxIterations": loopItems},
		})
		return steps, loopItems
	}
	return steps, len(steps)
}
