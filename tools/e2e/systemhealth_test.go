//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"turbocat.io/contracts/subject"
)

// TestSystemHealth reads how the installation is while an execution waits.
func TestSystemHealth(t *testing.T) {
	t.Parallel()
	c := user(t)
	c.begin(t, c.workflow(t, []object{{"stepKey": "w", "stepType": "WAIT", "config": object{"signal": "go"}}}))
	admin := admin(t)
	eventually(t, readyWithin, func() error {
		got := data[struct {
			Requests struct{ PerSecond float64 }
			Services []struct {
				Name  string
				Ready bool
				Pools []struct{ Open, Max int }
			}
			Streams []struct {
				Name      string
				Messages  uint64
				Consumers []struct{ Name string }
			}
			Leases      []struct{ Held bool }
			DeadLetters []json.RawMessage
			Unanswered  []json.RawMessage
		}](t, admin.do(t, "GET", "/analytics/system-health", nil), 200)
		if len(got.Services) != 6 || len(got.Leases) != subject.Partitions || len(got.Unanswered) > 0 || got.Requests.PerSecond == 0 {
			return fmt.Errorf("%+v", got)
		}
		for _, s := range got.Services {
			if pools := len(s.Pools); !s.Ready || (s.Name == "gateway" || s.Name == "runner") != (pools == 0) || s.Name == "orchestrator" && pools != 2 {
				return fmt.Errorf("%+v", s)
			}
		}
		for _, l := range got.Leases {
			if !l.Held {
				return fmt.Errorf("%+v", got.Leases)
			}
		}
		consumers := map[string]int{}
		for _, s := range got.Streams {
			consumers[s.Name] = len(s.Consumers)
		}
		if consumers[subject.LogsStream] == 0 || consumers[subject.StepsStream] == 0 || len(consumers) < 4 {
			return fmt.Errorf("%v", consumers)
		}
		return nil
	})
}
