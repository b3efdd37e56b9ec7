package orchestrator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/service"
	"turbocat.io/services/orchestrator"
)

func TestMain(m *testing.M) {
	if os.Getenv(envServe) != "" {
		os.Exit(service.Main(orchestrator.Spec().Unit()))
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("6") // the tests wait for leases and timers much more than they compute
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// installation is an orchestrator with everything around it: PostgreSQL and NATS are real,
// the catalog and the runner are played by the test over the true protocol.
type installation struct {
	t        *testing.T
	database string
	nats     *natsServer
	conn     *bus.Conn
	owner    rpc.Caller
	patience time.Duration         // of a submit of a load
	lies     func(a *attempt) bool // whether a runner gives the reference to an output that it does not store; nil for never

	mu        sync.Mutex
	workflows map[string]catalog.Definition
	away      error // what the catalog answers instead of a definition; nil for nothing
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	in := &installation{
		t: t, database: pgtest.URL(t, map[string]fs.FS{"orchestrator": migrations.Of("orchestrator")}), nats: newNATS(t),
		owner: rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, workflows: map[string]catalog.Definition{},
		patience: bus.DefaultTimeout,
	}
	in.conn = bustest.Connect(t, in.nats.url)
	server := bus.NewServer(catalog.Service, zerolog.Nop())
	bus.Handle(server, catalog.ResolveDefinition, func(_ context.Context, _ rpc.Caller, req catalog.ResolveRequest) (catalog.Resolution, error) {
		in.mu.Lock()
		defer in.mu.Unlock()
		def, ok := in.workflows[req.ID]
		switch {
		case in.away != nil:
			return catalog.Resolution{}, in.away
		case !ok:
			return catalog.Resolution{}, errs.New(errs.NotFound, "workflow not found")
		}
		if req.Known != nil && req.Known.Workflow == def.WorkflowVersion {
			return catalog.Resolution{Unchanged: true}, nil
		}
		return catalog.Resolution{Definition: def}, nil
	})
	bus.Handle(server, catalog.GetWorkflow, func(_ context.Context, caller rpc.Caller, req catalog.IDRequest) (catalog.Workflow, error) {
		in.mu.Lock()
		defer in.mu.Unlock()
		def, ok := in.workflows[req.ID]
		if !ok || caller.UserID != def.WorkflowOwner && !caller.IsAdmin() {
			return catalog.Workflow{}, errs.New(errs.NotFound, "workflow not found")
		}
		return catalog.Workflow{ID: req.ID, UserID: def.WorkflowOwner}, nil
	})
	bustest.Serve(t, in.conn, server)
	return in
}

// environ configures an orchestrator of the installation.
func (in *installation) environ() map[string]string {
	environ := map[string]string{"DATABASE_URL": in.database, "NATS_URL": in.nats.url, "LOG_LEVEL": os.Getenv("LOG_LEVEL"), "ENCRYPTION_KEY": strings.Repeat("k", 32)}
	if environ["LOG_LEVEL"] == "" {
		environ["LOG_LEVEL"] = "fatal" // faults are what these tests are about
	}
	return environ
}

// start runs an orchestrator until stop is called or the test ends.
func (in *installation) start() (stop func()) {
	in.t.Helper()
	return in.startWith(in.environ())
}

func (in *installation) startWith(environ map[string]string) (stop func()) {
	in.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- orchestrator.Spec().Unit().Run(ctx, environ, zerolog.TestWriter{T: in.t}, func() { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-done:
		in.t.Fatalf("orchestrator: %v", err)
	case <-time.After(40 * time.Second):
		in.t.Fatal("the orchestrator does not become ready")
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				in.t.Errorf("orchestrator: %v", err)
			}
		})
	}
	in.t.Cleanup(stop)
	return stop
}

// workflow saves a definition whose steps all run agents of type DATA.
func (in *installation) workflow(steps ...catalog.Step) string {
	return in.define(catalog.Definition{TimeoutMs: 600_000}, steps...)
}

// define is workflow for one whose definition has more than steps.
func (in *installation) define(def catalog.Definition, steps ...catalog.Step) string {
	def.WorkflowID, def.WorkflowOwner, def.WorkflowVersion, def.Priority = uuid.NewString(), in.owner.UserID, 1, 5
	agent := catalog.DefinitionAgent{ID: uuid.NewString(), Type: catalog.AgentData, Version: 1, Config: json.RawMessage(`{}`)}
	def.Agents = []catalog.DefinitionAgent{agent}
	for i, s := range steps {
		s.Position = i
		if s.StepType == "" {
			s.StepType = catalog.StepAgent
		}
		switch s.StepType {
		case catalog.StepAgent, catalog.StepLoop:
			s.AgentID = &agent.ID
		case catalog.StepParallel:
			s.Config = bytes.ReplaceAll(s.Config, []byte("AGENT"), []byte(agent.ID))
		}
		if s.Compensate != nil {
			s.Compensate.AgentID = agent.ID
		}
		if s.OnError == "" {
			s.OnError = catalog.OnErrorFail
		}
		if s.TriggerRule == "" {
			s.TriggerRule = catalog.TriggerNoneFailed
		}
		if s.TimeoutMs == 0 {
			s.TimeoutMs = 60_000
		}
		def.Steps = append(def.Steps, s)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.workflows[def.WorkflowID] = def
	return def.WorkflowID
}

func (in *installation) submit(workflow, inputs string) contract.Execution {
	in.t.Helper()
	resp, err := bus.Call(in.t.Context(), in.conn, contract.Submit, in.owner, contract.SubmitRequest{
		WorkflowID: workflow, Inputs: json.RawMessage(inputs), TriggerType: contract.TriggerAPI,
	})
	if err != nil {
		in.t.Fatalf("submit: %v", err)
	}
	return resp.Execution
}

func (in *installation) get(id string) contract.Execution {
	in.t.Helper()
	x, err := bus.Call(in.t.Context(), in.conn, contract.GetExecution, in.owner, contract.IDRequest{ID: id})
	if err != nil {
		in.t.Fatalf("get: %v", err)
	}
	return x
}

// await polls an execution until ok holds.
func (in *installation) await(id string, what string, ok func(contract.Execution) bool) contract.Execution {
	in.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(in.t.Context(), 120*time.Second) // one answer may be large
	defer cancel()
	for ; ; <-tick.C {
		x, err := bus.Call(ctx, in.conn, contract.GetExecution, in.owner, contract.IDRequest{ID: id})
		if err == nil && ok(x) {
			return x
		}
		if time.Now().After(deadline) {
			raw, _ := json.MarshalIndent(x, "", " ")
			in.t.Fatalf("the execution is not %s in time (%v): %s", what, err, raw)
		}
	}
}

func terminal(x contract.Execution) bool {
	switch x.Status {
	case contract.ExecutionCompleted, contract.ExecutionFailed, contract.ExecutionCancelled, contract.ExecutionTimeout:
		return true
	}
	return false
}

func (in *installation) events(id string) []contract.StoredEvent {
	in.t.Helper()
	resp, err := bus.Call(in.t.Context(), in.conn, contract.ListEvents, in.owner, contract.EventsRequest{ID: id})
	if err != nil {
		in.t.Fatalf("events: %v", err)
	}
	return resp.Events
}

// attempt is a ready step as a runner sees it.
type attempt struct {
	msg       jetstream.Msg
	execution string
	step      string
	iteration string // "" for the step itself
	number    string
	token     string
	input     json.RawMessage
	stored    bool // the output is a reference
}

// play runs ready steps until the test ends and lets fn answer each, in a goroutine of its own: an
// output, or an error, or neither, which is a runner that has died. It keeps at it whatever
// becomes of NATS, and holds what fn takes long for.
func (in *installation) play(fn func(a attempt) (output string, failure *runner.StepError)) {
	in.playPool(subject.DefaultPool, fn)
}

// playPool is play for another pool.
func (in *installation) playPool(pool string, fn func(a attempt) (output string, failure *runner.StepError)) {
	in.t.Helper()
	js, err := jetstream.New(in.conn.NATS())
	if err != nil {
		in.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			if err := take(ctx, js, pool, func(m jetstream.Msg) { working.Go(func() { in.run(js, m, fn) }) }); err != nil {
				wait(ctx, 20*time.Millisecond)
			}
		}
	})
	in.t.Cleanup(func() { cancel(); working.Wait() })
}

// take hands ready steps over for a while.
func take(ctx context.Context, js jetstream.JetStream, pool string, got func(m jetstream.Msg)) error {
	looking, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	consumer, err := js.Consumer(looking, subject.StepsStream, subject.StepConsumer(pool, catalog.AgentData))
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		batch, err := consumer.Fetch(200, jetstream.FetchMaxWait(500*time.Millisecond))
		if err != nil {
			return err
		}
		n := 0
		for m := range batch.Messages() {
			got(m)
			n++
		}
		if n == 0 || batch.Error() != nil {
			return batch.Error()
		}
	}
	return nil
}

func (in *installation) run(js jetstream.JetStream, m jetstream.Msg, fn func(a attempt) (string, *runner.StepError)) {
	m = bustest.Event(m)
	h := m.Headers()
	a := attempt{m, h.Get(event.HeaderSubject), h.Get(runner.HeaderStepKey), h.Get(runner.HeaderIteration), h.Get(runner.HeaderAttempt), h.Get(event.HeaderID), nil, false}
	var body runner.StepBody
	raw, failure := m.Data(), (*runner.StepError)(nil)
	if len(raw) == 0 {
		if raw, failure = in.body(a); raw == nil && failure == nil {
			return // delivered again
		}
	}
	if failure == nil {
		if err := json.Unmarshal(raw, &body); err != nil {
			in.t.Errorf("body of a ready step: %v", err)
			return
		}
	}
	a.input = body.Input
	done := make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(1500 * time.Millisecond):
				_ = m.InProgress()
			}
		}
	})
	output := ""
	if failure == nil {
		output, failure = fn(a)
	}
	answered := true
	if len(output) > 1<<20 || len(output) > runner.MaxInline && json.Valid([]byte(output)) {
		answered = in.store(&a, &output)
	}
	close(done)
	holding.Wait()
	if !answered {
		return
	}
	if output == "" && failure == nil {
		return
	}
	if err := report(js, a, output, failure); err != nil {
		in.t.Logf("report: %v", err)
		return
	}
	_ = m.Ack()
}

// body asks for what an attempt is to do; nothing of both when there is no answer.
func (in *installation) body(a attempt) ([]byte, *runner.StepError) {
	iteration, _ := strconv.Atoi(a.iteration) // "" for the step itself
	number, _ := strconv.Atoi(a.number)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := bus.Call(ctx, in.conn, contract.AttemptBody, rpc.System("test"), contract.AttemptRequest{
		ExecutionID: a.execution, StepKey: a.step, Iteration: iteration, Token: a.token, Attempt: number,
	})
	if err != nil {
		in.t.Logf("body of %s: %v", a.step, err)
		return nil, nil
	}
	return resp.Body, resp.Failure
}

// store keeps a large output and makes a reference of it; what is refused stays as it is. False when there is no answer.
func (in *installation) store(a *attempt, output *string) bool {
	if in.lies != nil && in.lies(a) {
		*output, a.stored = string(runner.ReferTo([]byte(*output)).Payload()), true
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	_, err := bus.Call(ctx, in.conn, contract.StorePayload, rpc.System("test"), contract.StorePayloadRequest{ExecutionID: a.execution, Payload: []byte(*output)})
	switch errs.CodeOf(err) {
	case errs.DependencyUnavailable, errs.Internal:
		in.t.Logf("store the output of %s: %v", a.step, err)
		return false
	case "":
		*output, a.stored = string(runner.ReferTo([]byte(*output)).Payload()), true
	}
	return true
}

// wait lets time pass; what ends it early is ctx.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func report(js jetstream.JetStream, a attempt, output string, failure *runner.StepError) error {
	h := nats.Header{
		event.HeaderSpecVersion: {event.SpecVersion}, event.HeaderType: {runner.TypeStepCompleted}, event.HeaderSource: {runner.Service},
		event.HeaderID: {a.token}, event.HeaderSubject: {a.execution}, runner.HeaderStepKey: {a.step},
	}
	if a.iteration != "" {
		h.Set(runner.HeaderIteration, a.iteration)
	}
	body := []byte(output)
	if a.stored {
		h.Set(event.HeaderContentType, runner.TypeReference)
	}
	if failure != nil {
		h.Set(event.HeaderType, runner.TypeStepFailed)
		body, _ = json.Marshal(failure)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject.ExecutionInputRun(subject.PartitionOf(a.execution)), Header: h, Data: body})
	return err
}

func echo(a attempt) (string, *runner.StepError) {
	return fmt.Sprintf(`{"step":%q,"input":%s}`, a.step, a.input), nil
}
