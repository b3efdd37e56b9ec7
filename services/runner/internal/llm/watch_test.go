package llm_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"turbocat.io/pkg/llmtest"
	"turbocat.io/services/runner/internal/llm"
)

// TestModelsCanBeWatched has one provider refuse and the next one answer.
func TestModelsCanBeWatched(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	d := newDeskWith(t, llm.Config{Watch: llm.NewWatch(registry, nil)}, func(r llmtest.Request) llmtest.Reply {
		if r.N == 1 {
			return llmtest.Reply{Status: 500}
		}
		return llmtest.Reply{Text: "done", Input: 100, Output: 10}
	})
	if _, failed := d.run(t.Context(), object{"prompt": "x"}, `{}`); failed != nil {
		t.Fatal(failed)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"model_call_duration_seconds failed anthropic": 1, "model_call_duration_seconds answered openai": 1,
		"model_tokens_total input openai": 100, "model_tokens_total output openai": 10,
		"model_tokens_total input anthropic": 0, "model_tokens_total output anthropic": 0,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it is measured %v, not %v", got, want)
	}
}
