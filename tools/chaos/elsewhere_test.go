//go:build unix

package chaos

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestR31RandomWorkflows runs random workflows against a second interpreter.
func TestR31RandomWorkflows(t *testing.T) {
	onDemand(t)
	c := drawCheck(t, "R31")
	half := size(500, 5000) // agents alone, and steps of every type
	c.elsewhere("turbocat.io/services/orchestrator/internal/engine", "TestAgainstTheReference", nil,
		"-rapid.checks="+strconv.Itoa(half), "-rapid.seed="+strconv.FormatUint(c.seed, 10))
	c.number("%d workflows", 2*half)
}

// TestR32Simulation runs the owners of partitions in made-up worlds. Theirs are seeds of their own, which it tells.
func TestR32Simulation(t *testing.T) {
	onDemand(t)
	c := drawCheck(t, "R32")
	worlds := size(200, 2000)
	c.elsewhere("turbocat.io/services/orchestrator/internal/partition/simulation", "TestSimulation", []string{"TURBOCAT_SIM_SEEDS=" + strconv.Itoa(worlds)})
	c.number("%d worlds", worlds)
}

// elsewhere runs a test of another package, which needs no installation.
func (c *check) elsewhere(pkg, test string, environ []string, flags ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "go", append([]string{"test", "-count=1", "-timeout=30m", "-run=^" + test + "$", pkg}, flags...)...)
	cmd.Env = append(os.Environ(), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Errorf("%v\n%s", err, out)
	}
	c.recorded = true
}
