package simulation

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// TestMain lets one goroutine run at a time, so that a seed gives the same world each time:
// else what two of them do at the same moment would have any order.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	goleak.VerifyTestMain(m)
}

// usual is how many worlds a plain run has.
const usual = 200

// TestSimulation runs a world for each seed; see docs/engine.md.
func TestSimulation(t *testing.T) {
	seeds, one := partitiontest.Seeds(t, usual)
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			var w *world
			synctest.Test(t, func(t *testing.T) { w = simulate(t.Context(), seed) })
			failures := w.witness.broken()
			if one {
				t.Logf("\n%s", w.trace.text(1<<30))
			}
			if len(failures) == 0 {
				return
			}
			t.Errorf("%s\nreplay: TURBOCAT_SIM_SEED=%d go test -v -run '^TestSimulation$' ./internal/partition/simulation", strings.Join(failures, "\n"), seed)
			if !one {
				t.Logf("%s\n%s", w.profile, w.trace.text(200, "FAULT", "NATS", "ledger", "starts", concerned(w, failures)))
			}
		})
	}
}

// concerned gives the short id of the first execution that the failures speak of.
func concerned(w *world, failures []string) string {
	for _, f := range failures {
		for _, id := range w.ids() {
			if strings.Contains(f, id) {
				return short(id)
			}
		}
	}
	return "BROKEN"
}

// simulate runs the world of a seed to its end.
func simulate(ctx context.Context, seed uint64) *world {
	w := newWorld(ctx, seed)
	w.elsewhere(ctx)
	w.owners, w.runners = make([]*owner, w.profile.owners), make([]*runnerProcess, w.profile.runners)
	for slot := range w.profile.owners {
		r := w.chance.Draw("begin", fmt.Sprint(slot))
		w.later(r, 2*time.Second, func() { w.startOwner(slot) })
	}
	for slot := range w.profile.runners {
		w.startRunner(slot)
	}
	for n := range w.profile.executions {
		w.clients.Go(func() { w.client(n) })
	}
	w.plan()
	_ = pause(w.ending, w.profile.length)
	w.heal()
	w.healed = time.Now()
	w.clients.Wait()
	w.awaitEnds(w.healed)
	w.clients.Wait()                    // of children that came later
	_ = pause(w.ending, 70*time.Second) // what is late by now comes, and must change nothing
	w.awaitRest()
	w.trace.note("the end")
	w.check(ctx)
	w.end()
	w.running.Wait()
	return w
}
