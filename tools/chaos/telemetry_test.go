//go:build unix

package chaos

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
)

// TestR26PausedTelemetry has telemetry stand still. Nobody else is to notice, and what it has not heard meanwhile it is to have in the end:
// the log lines of each execution, and every event in the feed of its user, which finish compares with the ledger.
func TestR26PausedTelemetry(t *testing.T) {
	const singles = 50
	c := newCheck(t, "R26", 2, 1)
	c.gentle = true
	steps := c.start(load.Diamond(c.bookURL), size(4, 12))
	single := c.start(load.Quick(c.bookURL, 5*time.Millisecond), 0)
	p95 := func() time.Duration {
		t.Helper()
		var took []time.Duration
		for range singles {
			begin := time.Now()
			id := c.begin(single)
			c.eventually(growWithin, func() error { return c.ended(single, id) })
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		return took[singles*95/100-1]
	}
	before := p95()
	var during time.Duration
	paused := c.of(telemetry)[0]
	c.fault("SIGSTOP of telemetry", func() {
		begin := time.Now()
		paused.signal(syscall.SIGSTOP)
		during = p95()
		c.grow(steps, size(8, 100))
		c.wait(time.Until(begin.Add(size(15*time.Second, 5*time.Minute))))
		paused.signal(syscall.SIGCONT)
		c.awaitReady(readyWithin)
	})
	c.number("single executions %d ms (p95) before, %d ms while telemetry stood still", before.Milliseconds(), during.Milliseconds())
	if during > bound(before+before/10+50*time.Millisecond) {
		t.Errorf("single executions took %s (p95) before, %s while telemetry stood still", before, during)
	}
	others, lines := len(c.executed), 0
	c.end(steps)
	c.eventually(calmWithin, func() error {
		logged := map[string]bool{}
		for _, id := range selected[string](c.laboratory, telemetry, `SELECT execution_id FROM execution_logs WHERE message LIKE 'begins %'`) {
			logged[id] = true
		}
		lines = 0
		for _, x := range c.executed[others:] {
			switch {
			case x.ParentID != "" || x.RerunOf != "": // those log nothing
			case !logged[x.ID]:
				return fmt.Errorf("the line that %s has logged is not there", x.ID)
			default:
				lines++
			}
		}
		return nil
	})
	c.number("log lines of %d executions", lines)
	c.finish(single)
}
