package llm_test

import (
	"context"
	"encoding/json"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/pkg/llmtest"
	"turbocat.io/services/runner/internal/executor/executortest"
)

// TestExamplesOfTheDocumentation runs every example of docs/agents/llm.md against a model that says what the example has it say.
func TestExamplesOfTheDocumentation(t *testing.T) {
	examples := executortest.Examples(t, "../../../../docs/agents/llm.md", catalog.AgentLLM)
	if len(examples) < 3 {
		t.Fatalf("there are %d examples", len(examples))
	}
	for _, e := range examples {
		var script struct {
			Answers []struct {
				Text string
				Tool *struct {
					Name             string
					Arguments, Gives json.RawMessage
				}
				InputTokens, OutputTokens int64
			}
		}
		var config object
		if err := json.Unmarshal([]byte(e.Text), &script); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(e.Config, &config); err != nil {
			t.Fatal(err)
		}
		var d *desk
		d = newDesk(t, func(r llmtest.Request) llmtest.Reply {
			a := script.Answers[r.N-1]
			reply := llmtest.Reply{Text: a.Text, Input: a.InputTokens, Output: a.OutputTokens}
			if a.Tool != nil {
				reply.Calls = []llmtest.Call{{ID: "x", Name: a.Tool.Name, Arguments: string(a.Tool.Arguments)}}
				d.book.agents["0193b7f0-0000-7000-8000-000000000000"] = func(context.Context, json.RawMessage) (json.RawMessage, error) { return a.Tool.Gives, nil }
			}
			return reply
		})
		got, err := json.Marshal(d.text(config, string(e.Input)))
		if err != nil || !e.Gives(got) {
			t.Errorf("%s\ngives %s, %v", e.Text, got, err)
		}
	}
}
