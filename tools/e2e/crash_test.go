//go:build unix

package e2e

import (
	"context"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"turbocat.io/tools/internal/callbook"
	"turbocat.io/tools/internal/load"
	"turbocat.io/tools/internal/promises"
)

const (
	crashInFlight = 16
	crashLoad     = 40 * time.Second
	crashEvery    = 6 * time.Second // on average
	crashLeast    = 4
	crashDrain    = 90 * time.Second
	clock         = "15:04:05.000"
)

// TestKilledUnderLoad kills the whole process again and again under load. All that is promised of the executions
// that were accepted must hold.
func TestKilledUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("TURBOCAT_E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TURBOCAT_E2E_SEED=%d repeats the moments of the kills", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	i := own(t, "crash")
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	book := callbook.New()
	server := httptest.NewServer(book)
	t.Cleanup(server.Close)
	began := time.Now()
	l, err := load.Start(t.Context(), i.url, load.Diamond(server.URL), crashInFlight)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	var faults []promises.Fault
	for time.Since(began) < crashLoad || len(faults) < crashLeast {
		wait(t, crashEvery/2+time.Duration(moments.Int64N(int64(crashEvery))))
		f := promises.Fault{What: "kill -9", From: time.Now()}
		i.kill()
		if err := i.start(); err != nil {
			t.Fatal(err)
		}
		f.To = time.Now()
		faults = append(faults, f)
		t.Logf("killed at %s, ready at %s", f.From.UTC().Format(clock), f.To.UTC().Format(clock))
	}
	drain, cancel := context.WithTimeout(t.Context(), crashDrain)
	defer cancel()
	executions, strange := l.Stop(drain)
	for _, what := range strange {
		t.Error(what)
	}
	totals, err := l.Totals(t.Context()) // also after a drain that did not end, of which Check tells what did not
	if err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	calls := book.Calls()
	for _, v := range promises.Check(promises.Facts{Executions: executions, Calls: calls, Faults: faults, Totals: totals}) {
		t.Error(v)
	}
	// Once more everything is started anew, and nothing of it is done again.
	i.kill()
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	if n := len(book.Calls()) - len(calls); n > 0 {
		t.Errorf("%d calls were made after the end of all executions", n)
	}
	t.Logf("%d executions, %d kills, %d requests for executions, %d calls, %.0f s", len(executions), len(faults), len(l.Answers()), len(calls), took.Seconds())
}

// wait lets time pass.
func wait(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}
