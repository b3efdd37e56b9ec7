package orchestrator_test

import (
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/service/servicetest"
	"turbocat.io/services/orchestrator"
)

// Executions that only wait are in nobody's memory; their signals and timers find them, also at another owner.
func TestExecutionsThatWaitCostNothing(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	first := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	in.play(echo)
	const each, duration = 40, 45 * time.Second
	wait := waitStep("w", `{"signal":"go"}`, "a")
	wait.TimeoutMs = 3_600_000
	signaled := in.define(catalog.Definition{TimeoutMs: 3_600_000}, catalog.Step{StepKey: "a"}, wait, catalog.Step{StepKey: "b", DependsOn: []string{"w"}})
	timed := in.workflow(waitStep("w", `{"durationMs":45000}`), catalog.Step{StepKey: "b", DependsOn: []string{"w"}})
	var bySignal, byTime []string
	for range each {
		bySignal = append(bySignal, in.submit(signaled, `{}`).ID)
		byTime = append(byTime, in.submit(timed, `{}`).ID)
	}
	in.eventually(60*time.Second, "those without an end sleep", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM executions WHERE sleeps_until >= now() + interval '10 minutes'`)[0] == each
	})
	first.kill() // the next owner takes none of them into its memory
	environ := in.environ()
	environ["LOG_LEVEL"] = "info" // it says where it can be watched
	second := servicetest.Start(t, orchestrator.Spec().Unit(), environ)
	live := func() (n float64) {
		for _, m := range second.Metrics(t)["turbocat_orchestrator_executions_live"].GetMetric() {
			n += m.GetGauge().GetValue()
		}
		return n
	}
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	in.eventually(60*time.Second, "nothing of them is in memory", func() bool { return live() == 0 })
	for _, id := range bySignal {
		ask(in, contract.SendSignal, contract.SignalRequest{ID: id, Name: "go"})
	}
	in.completed(db, append(byTime, bySignal...), 90*time.Second)
	for _, id := range byTime {
		if w := stepOf(in.get(id), "w"); w.CompletedAt.Sub(*w.StartedAt) < duration {
			t.Errorf("%s waited from %v to %v", id, w.StartedAt, w.CompletedAt)
		}
	}
	in.checkPublished(db)
}
