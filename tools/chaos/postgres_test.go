//go:build unix

package chaos

import (
	"fmt"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/tools/internal/load"
)

// TestR04CrashPostgres ends PostgreSQL at once under load.
func TestR04CrashPostgres(t *testing.T) {
	c := newCheck(t, "R04", 2, 2)
	l := c.start(load.Diamond(c.bookURL), size(6, 20))
	for range size(1, 3) {
		c.grow(l, size(8, 20))
		away := c.between(3*time.Second, 8*time.Second)
		c.fault("PostgreSQL crashes", func() {
			c.crashPostgres()
			gone := time.Now()
			asked := make(chan error, 1) // all clients of the load may be waiting for an end
			go func() { asked <- l.Submit(t.Context()) }()
			c.wait(away)
			back := time.Now()
			c.revivePostgres()
			c.again("PostgreSQL")
			if err := <-asked; err != nil {
				t.Error(err)
			}
			c.checkRefused(l, gone, back)
		})
	}
	c.grow(l, size(8, 20))
	c.finish(l)
}

// checkRefused checks the answers to requests for executions that were made and answered while the ledger was away.
func (c *check) checkRefused(l *load.Load, from, to time.Time) {
	refused := 0
	for _, a := range l.Answers() {
		if a.Asked.Before(from) || a.Came.After(to) {
			continue
		}
		if refused++; a.Code != errs.DependencyUnavailable {
			c.problems = append(c.problems, fmt.Sprintf("while PostgreSQL was away a request for an execution was answered %d %s", a.Status, a.Code))
		}
	}
	if refused == 0 {
		c.problems = append(c.problems, "no request for an execution was answered while PostgreSQL was away")
	}
}
