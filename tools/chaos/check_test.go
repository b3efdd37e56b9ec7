//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbocat.io/tools/internal/load"
	"turbocat.io/tools/internal/promises"
)

const (
	// endWithin is how long after the last fault everything may take to end: what is executed takes seconds.
	endWithin = 2 * time.Minute
	// calmWithin is how long processes may take to give back what a load took.
	calmWithin = 45 * time.Second
	// growWithin is how long a few executions may take to be accepted.
	growWithin = time.Minute
)

// check is one check: a laboratory, loads, and faults on a schedule that its seed gives.
type check struct {
	*laboratory
	t        *testing.T
	id       string
	seed     uint64
	random   *rand.Rand
	began    time.Time
	loads    []*load.Load
	loaded   []string
	faults   []promises.Fault
	idle     map[string]promises.Figures
	executed []promises.Execution
	problems []string
	// gentle: nothing is killed, so that no attempt may be made in vain.
	gentle   bool
	warm     int // calls of the warming up
	numbers  []string
	recorded bool
}

// onDemand leaves a check out of `make test`, which has no time for all.
func onDemand(t *testing.T) {
	t.Helper()
	if os.Getenv("TURBOCAT_CHAOS") == "" {
		t.Skip("not here for the time that it takes: make chaos")
	}
}

// newCheck starts a laboratory and sees it work once, so that what it holds while idle is known.
func newCheck(t *testing.T, id string, orchestrators, runners int) *check {
	t.Helper()
	return beginCheck(t, id, orchestrators, runners, false)
}

// newClusterCheck is newCheck over a cluster of NATS servers.
func newClusterCheck(t *testing.T, id string, orchestrators, runners int) *check {
	t.Helper()
	return beginCheck(t, id, orchestrators, runners, true)
}

// drawCheck is a check without a laboratory.
func drawCheck(t *testing.T, id string) *check {
	t.Helper()
	if !full {
		t.Parallel() // they wait more than they compute; in full size nothing is to disturb the time limits
	}
	c := &check{t: t, id: id, seed: uint64(time.Now().UnixNano()), began: time.Now()}
	if given := os.Getenv("TURBOCAT_CHAOS_SEED"); given != "" {
		var err error
		if c.seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TURBOCAT_CHAOS_SEED=%d repeats the schedule of %s", c.seed, id)
	which := fnv.New64a()
	_, _ = which.Write([]byte(id))
	c.random = rand.New(rand.NewPCG(c.seed, which.Sum64()))
	t.Cleanup(c.record)
	return c
}

func beginCheck(t *testing.T, id string, orchestrators, runners int, clustered bool) *check {
	t.Helper()
	c := drawCheck(t, id)
	c.laboratory = newLaboratory(t, orchestrators, runners, clustered)
	c.say("everything works")

	warm := c.start(load.Diamond(c.bookURL), 2)
	c.grow(warm, 4)
	c.end(warm)
	c.settle(calmWithin)
	c.idle, c.warm = c.figures(), len(c.book.Calls())
	c.say("idle")
	return c
}

// size is a number in small and in full size.
func size[T any](small, whole T) T {
	if full {
		return whole
	}
	return small
}

// bound is a time limit: what the promise says in full size, and what a busy machine may add in small.
func bound(d time.Duration) time.Duration { return size(d+20*time.Second, d) }

// between is a moment of the schedule.
func (c *check) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.random.Int64N(int64(most-least)))
}

// start puts the installation under a load.
func (c *check) start(w load.Workflow, clients int) *load.Load {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), growWithin)
	defer cancel()
	l, err := load.Start(ctx, c.door, w, clients)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(l.Close)
	c.loads = append(c.loads, l)
	if c.idle != nil {
		what := fmt.Sprintf("%s, %d in flight", w, clients)
		if clients == 0 {
			what = fmt.Sprintf("%s, all at once", w)
		}
		c.loaded = append(c.loaded, what)
	}
	return l
}

// say logs what the check has come to, and when.
func (c *check) say(format string, args ...any) {
	c.t.Helper()
	c.t.Logf("%5.1f s: %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// number adds what was measured to the table.
func (c *check) number(format string, args ...any) {
	c.t.Helper()
	c.numbers = append(c.numbers, fmt.Sprintf(format, args...))
	c.say(format, args...)
}

// grow waits until more executions are accepted.
func (c *check) grow(l *load.Load, by int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), growWithin)
	defer cancel()
	if err := l.Grow(ctx, by); err != nil {
		c.t.Fatal(err)
	}
}

// submit has so many executions accepted at once, beside those of the clients.
func (c *check) submit(l *load.Load, many int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), growWithin)
	defer cancel()
	accepted := make(chan error, many)
	for range many {
		go func() { accepted <- l.Submit(ctx) }()
	}
	for range many {
		if err := <-accepted; err != nil {
			c.t.Fatal(err)
		}
	}
}

// fault does something bad and its repair, and remembers when.
func (c *check) fault(what string, do func()) {
	c.t.Helper()
	f := promises.Fault{What: what, From: time.Now()}
	defer func() {
		f.To = time.Now()
		c.faults = append(c.faults, f)
		c.say("%s, for %.1f s", what, f.To.Sub(f.From).Seconds())
	}()
	do()
}

// end lets a load come to its end.
func (c *check) end(l *load.Load) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), endWithin)
	defer cancel()
	executed, strange := l.Stop(ctx)
	c.executed = append(c.executed, executed...)
	c.problems = append(c.problems, strange...)
}

// finish ends the loads that still run and checks every promise.
func (c *check) finish(running ...*load.Load) {
	c.t.Helper()
	for _, l := range running {
		c.end(l)
	}
	c.say("all has ended")
	c.settle(calmWithin)
	c.say("settled")
	f := promises.Facts{Gentle: c.gentle, Executions: c.executed, Faults: c.faults, Totals: map[string]int{}, Ledger: c.ledger(), Streams: c.streams(), Feeds: c.feeds(), Calls: c.book.Calls()}
	// Events are counted together, a moment after they are in the feeds.
	recounted := promises.Recount(f.Ledger.Events)
	_ = poll(c.t.Context(), calmWithin, func() error {
		if f.Counted = c.counted(); !maps.Equal(f.Counted, recounted) {
			return errors.New("analytics have not counted all")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(c.t.Context(), growWithin)
	defer cancel()
	for _, l := range c.loads {
		totals, err := l.Totals(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		for status, n := range totals {
			f.Totals[status] += n
		}
	}
	// Connections stay for a while, and memory until it is collected.
	_ = poll(c.t.Context(), calmWithin, func() error {
		f.Processes = c.held()
		if found := promises.Check(promises.Facts{Processes: f.Processes}); len(found) > 0 {
			return errors.New(found[0].String())
		}
		return nil
	})
	c.say("facts are collected")
	for _, v := range promises.Check(f) {
		c.problems = append(c.problems, v.String())
	}
	verified := c.verify()
	for _, v := range verified.Violations {
		c.problems = append(c.problems, v.String())
	}
	for _, d := range verified.DeadLetters {
		if !c.strangers {
			c.problems = append(c.problems, fmt.Sprintf("I7: an input is a dead letter: %s: %s", d.Subject, d.Reason))
		}
	}
	told := map[string]int{}
	for _, problem := range c.problems {
		kind, _, _ := strings.Cut(problem, ":")
		if told[kind]++; told[kind] <= 10 {
			c.t.Error(problem)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(told)) {
		if more := told[kind] - 10; more > 0 {
			c.t.Errorf("%s: and %d more", kind, more)
		}
	}
	c.recorded = true
}

func (c *check) figures() map[string]promises.Figures {
	found := map[string]promises.Figures{}
	for _, p := range c.services {
		found[p.name] = p.figures(c.t.Context())
	}
	return found
}

// held compares what processes hold with what they held while idle. One that came later is compared with the first
// of its service.
func (c *check) held() []promises.Process {
	now := c.figures()
	var found []promises.Process
	for _, p := range c.services {
		before, ok := c.idle[p.name]
		if !ok {
			before = c.idle[p.args[1]+"-1"]
		}
		found = append(found, promises.Process{Name: p.name, Before: before, Then: now[p.name]})
	}
	return found
}

// record adds the check to the table.
func (c *check) record() {
	kinds := map[string]int{}
	for _, f := range c.faults {
		kinds[f.What]++
	}
	var faults []string
	for _, what := range slices.Sorted(maps.Keys(kinds)) {
		if n := kinds[what]; n > 1 {
			what += fmt.Sprintf(" x%d", n)
		}
		faults = append(faults, what)
	}
	r := row{
		check: c.id, seed: c.seed, load: strings.Join(c.loaded, "; "), faults: strings.Join(faults, "; "), executions: len(c.executed),
		numbers: strings.Join(c.numbers, "; "), result: "kept", took: time.Since(c.began), test: c.t.Name(),
	}
	if c.laboratory != nil {
		r.calls = len(c.book.Calls())
	}
	switch {
	case c.t.Skipped():
		r.result = "skipped"
	case c.t.Failed():
		r.result = "BROKEN"
	case !c.recorded:
		r.result = "not finished"
	}
	lab.rows.add(r)
}
