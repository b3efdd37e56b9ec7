package workflow_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/workflow"
)

func TestDefine(t *testing.T) {
	w, err := workflow.New([]byte(`{"name":"w","status":"ACTIVE","outputs":{"r":"{{b.output}}"},"steps":[` + step("a", "") + "," + step("b", `"dependsOn":["a"]`) + `]}`)).Finish(known)
	if err != nil {
		t.Fatal(err)
	}
	w.ID, w.UserID, w.Version = "w-id", "owner", 3
	active := catalog.Agent{
		ID: agentA, Name: "sum", Type: "CODE", Status: "ACTIVE", Version: 4, Config: json.RawMessage(`{"timeoutMs":3e4}`),
		InputSchema: json.RawMessage("null"), OutputSchema: json.RawMessage(`{"type":"object"}`),
	}
	draft := active
	draft.Status = "DRAFT"

	d, err := workflow.Define(w, map[string]catalog.Agent{agentA: active})
	if err != nil {
		t.Fatal(err)
	}
	if d.WorkflowID != "w-id" || d.WorkflowOwner != "owner" || d.WorkflowVersion != 3 || len(d.Steps) != 2 || d.InputSchema != nil || string(d.Outputs) != `{"r":"{{b.output}}"}` {
		t.Errorf("got %+v", d)
	}
	if len(d.Agents) != 1 || d.Agents[0].Version != 4 || d.Agents[0].TimeoutMs != 30000 || d.Agents[0].ID != agentA {
		t.Errorf("agents %+v", d.Agents)
	}
	if d.Agents[0].InputSchema != nil || string(d.Agents[0].OutputSchema) != `{"type":"object"}` {
		t.Errorf("schemas %q and %q", d.Agents[0].InputSchema, d.Agents[0].OutputSchema)
	}

	off, empty := w, w
	off.Status = "INACTIVE"
	empty.Steps = nil
	for _, c := range []struct {
		name   string
		w      catalog.Workflow
		agents map[string]catalog.Agent
		want   []string
	}{
		{"workflow not active", off, map[string]catalog.Agent{agentA: active}, []string{`"w" is INACTIVE`}},
		{"no steps", empty, nil, []string{"no steps"}},
		{"agent gone", w, nil, []string{agentA, `step "a"`, "deleted"}},
		{"agent not active", w, map[string]catalog.Agent{agentA: draft}, []string{`"sum"`, agentA, "is DRAFT"}},
		{"both", off, map[string]catalog.Agent{agentA: draft}, []string{`"w" is INACTIVE`, `"sum"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := workflow.Define(c.w, c.agents)
			var e *errs.Error
			if !errors.As(err, &e) || e.Code != errs.Conflict {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(e.Message, want) {
					t.Errorf("%q does not tell %q", e.Message, want)
				}
			}
		})
	}
}

// obstacles lists those of a CONFLICT.
func obstacles(t *testing.T, err error) string {
	t.Helper()
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Conflict {
		t.Fatalf("not a CONFLICT: %v", err)
	}
	var lines []string
	for _, d := range e.Details {
		lines = append(lines, d.Field+" "+string(d.Code))
	}
	return strings.Join(lines, "\n")
}
