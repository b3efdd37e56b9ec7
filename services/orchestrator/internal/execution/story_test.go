package execution

import (
	"encoding/json"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	someExecution = "01890a5d-ac96-774b-bcce-b302099a8057"
	someAgent     = "01890a5d-ac96-774b-bcce-b302099a8003"
)

// began is when the executions of these tests begin.
var began = engine.TimeOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// story is an execution that the engine itself brings to where a test wants it.
type story struct {
	t *testing.T
	r Record
}

func step(key, kind, config string, dependsOn ...string) catalog.Step {
	s := catalog.Step{
		StepKey: key, StepType: kind, DependsOn: dependsOn, Config: json.RawMessage(config),
		OnError: catalog.OnErrorFail, TriggerRule: catalog.TriggerNoneFailed, TimeoutMs: 60_000,
	}
	if kind == catalog.StepAgent || kind == catalog.StepLoop {
		agent := someAgent
		s.AgentID = &agent
	}
	return s
}

func accepted(t *testing.T, inputs string, steps ...catalog.Step) *story {
	t.Helper()
	def := catalog.Definition{
		TimeoutMs: 3_600_000, Steps: steps, Agents: []catalog.DefinitionAgent{{ID: someAgent, Type: catalog.AgentData, Version: 1, Config: json.RawMessage("{}")}},
	}
	compiled, err := engine.Compile(def)
	if err != nil {
		t.Fatal(err)
	}
	x := engine.New(engine.Execution{ID: someExecution, Inputs: json.RawMessage(inputs), CreatedAt: began}, compiled)
	return &story{t, Record{Execution: x, Definition: def, DefinitionHash: []byte("hash")}}
}

// begin is accepted and submitted.
func begin(t *testing.T, inputs string, steps ...catalog.Step) *story {
	t.Helper()
	return accepted(t, inputs, steps...).then(0, engine.Input{Kind: engine.Submitted})
}

// then applies an input that comes some time after the beginning. The token of a step's current attempt is filled in.
func (s *story) then(after time.Duration, in engine.Input) *story {
	x := s.r.Execution
	in.Time = began.Add(after.Milliseconds())
	if i, ok := x.Definition.StepIndex(in.Step); ok {
		if task := x.Task(engine.Place{Step: i, Iteration: in.Iteration}); task != nil {
			in.Token = task.Token
		}
	}
	engine.Apply(x, in, engine.Keys{Secret: []byte("secret")})
	return s
}

// sent has STEPS have the message of a step.
func (s *story) sent(key string) *story {
	i, _ := s.r.Execution.Definition.StepIndex(key)
	s.r.Sent = map[engine.Place]uint64{{Step: i}: 9}
	return s
}

// undecided has somebody asked about the budgets of so many items of the first step.
func (s *story) undecided(items int) *story {
	s.r.Undecided = map[int]int{0: items}
	return s
}

func (s *story) completed(key, output string) *story {
	return s.then(time.Second, engine.Input{Kind: engine.StepCompleted, Step: key, Output: json.RawMessage(output)})
}

func (s *story) failed(key, code string) *story {
	return s.then(time.Second, engine.Input{Kind: engine.StepFailed, Step: key, Err: &runner.StepError{Code: code, Message: "boom", Retryable: true}})
}

func (s *story) status(want string) *story {
	s.t.Helper()
	if s.r.Execution.Status != want {
		s.t.Fatalf("the execution is %s, not %s", s.r.Execution.Status, want)
	}
	return s
}

const (
	running   = orchestrator.ExecutionRunning
	ended     = orchestrator.ExecutionFailed
	completed = orchestrator.ExecutionCompleted
)
