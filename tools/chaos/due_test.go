//go:build unix

package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
)

// TestR18DueWhileDown lets WAITs and pauses before another attempt come to their end while nothing of ours runs.
func TestR18DueWhileDown(t *testing.T) {
	const within = 5 * time.Second
	c := newCheck(t, "R18", 2, 2)
	many := size(20, 200)
	nap := size(12*time.Second, 30*time.Second)
	l := c.start(load.Sleepers(c.bookURL, nap), 0)
	c.submit(l, many)
	c.eventually(growWithin, func() error {
		if n := len(c.book.Calls()) - c.warm; n < many { // the first attempts, which are refused
			return fmt.Errorf("%d of %d steps wait for another attempt", n, many)
		}
		waiting := rowsOf[int](c.laboratory, `SELECT count(*) FROM steps s JOIN executions e ON e.id = s.execution_id
			WHERE e.completed_at IS NULL AND s.status = 'RUNNING' AND (s.wake_at IS NOT NULL OR s.retry_at IS NOT NULL)`)[0]
		if waiting != 2*many {
			return fmt.Errorf("%d of %d steps wait", waiting, 2*many)
		}
		return nil
	})
	before := len(c.book.Calls())
	var back, ready time.Time
	c.fault("nothing of ours runs", func() {
		c.killAll()
		last := rowsOf[time.Time](c.laboratory, `SELECT max(greatest(s.wake_at, s.retry_at)) FROM steps s`)[0]
		c.wait(time.Until(last.Add(time.Second)))
		if n := len(c.book.Calls()); n != before {
			t.Errorf("%d calls came while nothing of ours ran", n-before)
		}
		back = time.Now()
		c.startAll()
		ready = time.Now()
	})
	c.finish(l)
	latest, made := back, map[string]int{}
	for _, call := range c.book.Calls()[before:] {
		if strings.HasPrefix(call.Step, "after_") || call.Step == "again" {
			if call.Began.After(latest) {
				latest = call.Began
			}
			made[call.Execution+"/"+call.Step]++
		}
	}
	c.number("%d due; after the start everything is ready in %.1f s, the last call came in %.1f s", 2*many, ready.Sub(back).Seconds(), latest.Sub(back).Seconds())
	if late := latest.Sub(ready); late > bound(within) {
		t.Errorf("the last of what was due came %.1f s after everything worked", late.Seconds())
	}
	if len(made) != 2*many {
		t.Errorf("%d of what was due came, want %d", len(made), 2*many)
	}
	for which, n := range made {
		if n != 1 {
			t.Errorf("%s came %d times", which, n)
		}
	}
}
