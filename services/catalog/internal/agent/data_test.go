package agent_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
)

// TestDataConfigs checks configs of DATA agents against what runners say of them: they read
// the same file.
func TestDataConfigs(t *testing.T) {
	raw, err := os.ReadFile("../../../../contracts/testdata/configs/DATA.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Config json.RawMessage
		Faults []string
	}
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) < 100 {
		t.Fatal(len(cases), err)
	}
	s := schemas(t)
	for _, c := range cases {
		if c.Config[0] != '{' {
			continue // a config that is no object is refused before its schema is asked
		}
		_, err := s.New(json.RawMessage(`{"name":"n","type":"DATA","status":"ACTIVE","config":` + string(c.Config) + `}`))
		var invalid *errs.Error
		var got []string
		if errors.As(err, &invalid) {
			for _, d := range invalid.Details {
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(d.Field, "config"), "."))
				if strings.Contains(d.Message, "'") || strings.Contains(d.Message, "oneOf") || strings.Contains(d.Message, "schema") {
					t.Errorf("%.200s: the message %q is none for people", c.Config, d.Message)
				}
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, c.Faults) {
			t.Errorf("%.300s\n got %q\nwant %q\n%v", c.Config, got, c.Faults, invalid)
		}
	}
}
