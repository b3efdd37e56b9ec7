package selection_test

import (
	"encoding/json"
	"testing"

	"turbocat.io/pkg/selection"
)

func TestSelector(t *testing.T) {
	failed, step := "io.turbocat.execution.failed.v1", "io.turbocat.execution.step_failed.v1"
	event := json.RawMessage(`{"type":"` + failed + `","data":{"status":"FAILED","durationMs":5}}`)
	for _, c := range []struct {
		types  []string
		filter string
		kind   string
		want   bool
		fault  bool
	}{
		{nil, "", failed, true, false},
		{[]string{failed}, "", failed, true, false},
		{[]string{failed}, "", step, false, false},
		{[]string{"io.turbocat.execution.*"}, "", step, true, false},
		{[]string{step, failed}, `data.durationMs > 4`, failed, true, false},
		{nil, `data.durationMs > 5`, failed, false, false},
		{nil, `data.status > 5`, failed, false, true},
		{nil, `data.status`, failed, false, true},
		{[]string{step}, `data.status`, failed, false, false},
	} {
		s, err := selection.Events{EventTypes: c.types, Filter: c.filter}.Compile()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Wants(c.kind, event); got != c.want || (err != nil) != c.fault {
			t.Errorf("%v %q: %v, %v", c.types, c.filter, got, err)
		}
	}
}
