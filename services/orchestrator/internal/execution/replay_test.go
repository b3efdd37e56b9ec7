package execution

import (
	"encoding/json"
	"slices"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/orchestrator/internal/engine"
)

func TestReplayOf(t *testing.T) {
	t.Parallel()
	s := begin(t, `{"n":1}`, step("a", catalog.StepAgent, `{}`), step("w", catalog.StepWait, `{"durationMs":0}`, "a"), step("c", catalog.StepCondition, `{"expression":"true","then":["l"]}`, "w"), step("l", catalog.StepLoop, `{"forEach":"inputs.n"}`, "c"))
	if _, err := replayOf(s.r); errs.CodeOf(err) != errs.Conflict {
		t.Errorf("of one that runs: %v", err)
	}
	s.then(0, engine.Input{Kind: engine.Cancel})
	s.r.Reused = map[int]string{2: "x", 3: "x"}
	s.r.Definition.Agents = []catalog.DefinitionAgent{
		{ID: someAgent, Type: catalog.AgentData, Config: json.RawMessage("{}")},
		{ID: "pure", Type: catalog.AgentCode, Config: json.RawMessage(`{"runtime":"javascript","source":"x"}`)},
		{ID: "fetches", Type: catalog.AgentCode, Config: json.RawMessage(`{"runtime":"javascript","source":"x","allowHosts":["a.example"]}`)},
		{ID: "calls", Type: catalog.AgentAPI, Config: json.RawMessage("{}")},
		{ID: "asks", Type: catalog.AgentLLM, Config: json.RawMessage("{}")},
		{ID: "begins", Type: catalog.AgentWorkflow, Config: json.RawMessage(`{"workflowId":"x"}`)},
	}
	s.r.Definition.Steps[0].Compensate = &catalog.Compensate{AgentID: someAgent}
	first, err := replayOf(s.r)
	if err != nil {
		t.Fatal(err)
	}
	r := first.Definition.Recording
	if r == nil || r.ExecutionID != someExecution || !slices.Equal(r.Steps, []string{"l", "w"}) || !slices.Equal(r.Agents, []string{"asks", "begins", "calls", "fetches"}) {
		t.Errorf("it takes %+v", r)
	}
	if first.RetryOf != "" || len(first.Reused) > 0 || first.Begun() == nil || s.r.Definition.Recording != nil || first.Definition.Steps[0].Compensate != nil || s.r.Definition.Steps[0].Compensate == nil {
		t.Errorf("it is %+v", first)
	}
	s.r.Definition, s.r.Execution.ID = first.Definition, "01890a5d-ac96-774b-bcce-b302099a8058"
	if second, err := replayOf(s.r); err != nil || string(second.DefinitionHash) != string(first.DefinitionHash) {
		t.Errorf("a replay of a replay takes %+v, %v", second.Definition.Recording, err)
	}
}
