package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func profile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Two profiles know the same statements; what either has run is covered, and counts once.
func TestProfilesAddUp(t *testing.T) {
	t.Parallel()
	one := profile(t, `mode: set
turbocat.io/pkg/bus/bus.go:1.1,2.2 3 1
turbocat.io/pkg/bus/bus.go:3.1,4.2 1 0
turbocat.io/services/runner/internal/redact/redact.go:1.1,2.2 4 0
`)
	two := profile(t, `mode: atomic
turbocat.io/pkg/bus/bus.go:1.1,2.2 3 0
turbocat.io/services/runner/internal/redact/redact.go:1.1,2.2 4 7
`)
	for _, test := range []struct {
		args []string
		says string // a part of the fault
	}{
		{[]string{"-least", "87.5", "-package", "turbocat.io/pkg/bus=75", one, two}, ""},
		{[]string{"-least", "87.6", one, two}, "87.5 % of all statements"},
		{[]string{"-package", "turbocat.io/pkg/bus=75.1", one, two}, "75.0 % of turbocat.io/pkg/bus"},
		{[]string{"-package", "turbocat.io/pkg/away=1", one, two}, "no profile knows"},
		{[]string{"-package", "turbocat.io/pkg/bus", one}, "write it like"},
		{nil, "name at least one"},
	} {
		var out bytes.Buffer
		err := run(test.args, &out)
		switch {
		case test.says == "" && err != nil, test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%v: got %v, wanted %q", test.args, err, test.says)
		case test.says == "" && !strings.Contains(out.String(), "services/runner                                                 100.0 %  of     4"):
			t.Errorf("got\n%s", out.String())
		}
	}
}
