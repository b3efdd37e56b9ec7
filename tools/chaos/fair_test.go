//go:build unix

package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
)

// TestR25ReadySteps has one user execute single steps while another has thousands that are ready.
func TestR25ReadySteps(t *testing.T) {
	onDemand(t)
	const within, singles = 2 * time.Second, 40
	c := newCheck(t, "R25", 2, 2)
	loops := size(2, 10)
	crowd := c.start(load.Crowd(c.bookURL, loops, 100*time.Millisecond), 0)
	single := c.start(load.Calls(c.bookURL, 1, 5*time.Millisecond), 0)
	big := c.begin(crowd)
	c.eventually(growWithin, func() error {
		if n := rowsOf[int](c.laboratory, fmt.Sprintf(`SELECT count(*) FROM steps WHERE execution_id = '%s' AND iteration > 0`, big))[0]; n < load.Crowded*loops {
			return fmt.Errorf("%d items of the large execution have begun", n)
		}
		return nil
	})
	var waits []time.Duration
	for range singles {
		asked := time.Now()
		id := c.begin(single)
		c.eventually(growWithin, func() error {
			for _, call := range c.book.Calls() {
				if call.Execution == id {
					waits = append(waits, call.Began.Sub(asked))
					return nil
				}
			}
			return fmt.Errorf("the execution %s has not called", id)
		})
	}
	left := rowsOf[int](c.laboratory, fmt.Sprintf(`SELECT count(*) FROM steps WHERE execution_id = '%s' AND iteration > 0 AND status = 'RUNNING'`, big))[0]
	if left == 0 {
		t.Error("the large execution had ended before")
	}
	if err := c.command(crowd, big, "cancel"); err != nil {
		t.Error(err)
	}
	c.finish(crowd, single)
	slices.Sort(waits)
	p95 := waits[singles*95/100-1]
	c.number("single steps waited %d ms (p50), %d ms (p95), beside %d ready ones", waits[singles/2].Milliseconds(), p95.Milliseconds(), left)
	if p95 > bound(within) {
		t.Errorf("fairness: single steps waited %s (p95)", p95)
	}
}
