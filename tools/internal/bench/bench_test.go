//go:build unix

package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/built"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var fields = []string{"cpuSecondsPer1000Steps", "memoryMiB", "p50Ms", "p99Ms", "ratioToRaw", "settings", "throughputStepsPerSecond", "workload"}

// TestRun measures the shortest workload of real processes.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts an installation")
	}
	program, err := built.Turbocat(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	profiles := filepath.Join(t.TempDir(), "profiles")
	var lines, progress, people bytes.Buffer
	o := Options{Workloads: []string{Single}, Duration: 500 * time.Millisecond, InFlight: 8, Program: program, Environ: service.Environ(), JSON: &lines, Table: &people, Progress: &progress, Profiles: profiles}
	if err := Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(got) != 2 {
		t.Fatalf("it prints %d lines:\n%s", len(got), &lines)
	}
	for i, workload := range []string{Raw, Single} {
		var r map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got[i]), &r); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(fields)
		if workload == Raw {
			want = slices.DeleteFunc(want, func(s string) bool { return s == "ratioToRaw" })
		}
		if have := slices.Sorted(maps.Keys(r)); !slices.Equal(have, want) || string(r["workload"]) != `"`+workload+`"` {
			t.Errorf("%s has the fields %v, want %v", r["workload"], have, want)
		}
		for _, name := range want {
			if v := 0.0; name != "workload" && name != "settings" && (json.Unmarshal(r[name], &v) != nil || v <= 0) {
				t.Errorf("%s: %s is %s", workload, name, r[name])
			}
		}
	}
	for _, name := range []string{"raw-nats", "single-nats", "single-orchestrator", "single-runner", "single-catalog", "single-client"} {
		if info, err := os.Stat(filepath.Join(profiles, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("there is no profile %s", name)
		}
	}
	if !strings.Contains(people.String(), "fsync on") || strings.Contains(progress.String(), "{") {
		t.Errorf("people read\n%s\n%s", &people, &progress)
	}
}

// TestRunHTTP sends a load to a whole installation of real processes.
func TestRunHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts an installation")
	}
	program, err := built.Turbocat(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	var lines, progress bytes.Buffer
	o := HTTPOptions{Rate: 2, Duration: 2 * time.Second, Program: program, Environ: service.Environ(), JSON: &lines, Progress: &progress}
	if err := RunHTTP(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	got := map[string]HTTPResult{}
	for _, line := range strings.Split(strings.TrimSpace(lines.String()), "\n") {
		var r HTTPResult
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got[r.Request] = r
	}
	for _, name := range []string{overHTTP, overRPC, "GET health/live", "POST agents", "DELETE agents/:id", "POST workflows/:id/execute?wait", "GET executions", "POST auth/login", "POST auth/logout"} {
		if r := got[name]; r.Count == 0 || r.Failed > 0 || r.P50Ms <= 0 || r.P95Ms < r.P50Ms {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestTable wants each figure beside its ratio to the raw loop's, and a dash where the system does not tell one.
func TestTable(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	var out bytes.Buffer
	err := table(&out, []Result{
		{Workload: Raw, ThroughputStepsPerSecond: 20000, P50Ms: 0.5, P99Ms: 2, CPUSecondsPer1000Steps: number(0.1), MemoryMiB: number(50), Settings: Settings{InFlight: 64}},
		{Workload: Chain10, ThroughputStepsPerSecond: 5000, P50Ms: 5, P99Ms: 8, CPUSecondsPer1000Steps: number(0.3), Settings: Settings{InFlight: 64, Seconds: 5, Samples: 7}},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if got, want := strings.Fields(lines[2]), strings.Fields("chain10 5000 0.25 5.00 10.00 8.00 4.00 0.300 3.00 - - 64 5.0 7"); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestEventsOf reads events as the engine encodes them.
func TestEventsOf(t *testing.T) {
	id := uuid.NewString()
	encode := func(kind event.Type[orchestrator.ExecutionEvent], failure *orchestrator.EventError) []byte {
		b, err := kind.Encode(event.Meta{ID: uuid.NewString(), Source: orchestrator.Service, Subject: id, Time: time.Now(), RequestID: "{"}, orchestrator.ExecutionEvent{ExecutionID: id, Error: failure})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	batch := event.AppendBatch(nil, encode(orchestrator.EventStarted, nil), encode(orchestrator.EventStepFailed, &orchestrator.EventError{Message: `{"specversion":"1.0"`}), encode(orchestrator.EventCompleted, nil))
	var got []string
	for name, of := range eventsOf(batch) {
		got = append(got, name)
		if of != id {
			t.Errorf("%s is of %s", name, of)
		}
	}
	if want := []string{"started", "step_failed", "completed"}; !slices.Equal(got, want) {
		t.Errorf("the events are %v, not %v", got, want)
	}
	for range eventsOf([]byte(`[{"specversion":"1.0","id":"1`)) {
		t.Error("an event that is none")
	}
}

func TestUnknownWorkload(t *testing.T) {
	err := Run(t.Context(), Options{Workloads: []string{"chain11"}, Progress: io.Discard})
	if err == nil || !strings.Contains(err.Error(), `there is no workload "chain11"; the workloads are [raw single`) {
		t.Errorf("got %v", err)
	}
}

// What can not begin says why, and stops what has begun.
func TestWhatDoesNotBegin(t *testing.T) {
	o := Options{Workloads: []string{Single}, Duration: time.Second, Environ: map[string]string{"TURBOCAT_PG_BIN": t.TempDir(), "TURBOCAT_SETUP": "none"}, Progress: io.Discard}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "PostgreSQL") {
		t.Errorf("got %v", err)
	}
}
