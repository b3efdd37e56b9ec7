package orchestrator_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

const (
	// lease is how long a partition stays its owner's without renewal.
	lease = 5 * time.Second
	// busy is what a loaded machine and the race detector may add.
	// The bounds that use it tell what hangs from what is slow; how fast it is tells the benchmark.
	busy = 15 * time.Second
)

// held gives how many partitions each live owner has.
func (in *installation) held(db *sqlx.DB) map[string]int {
	in.t.Helper()
	out := map[string]int{}
	for _, row := range scan[struct {
		Owner string
		N     int
	}](in, db, `SELECT owner, count(*) AS n FROM partitions WHERE lease_until > clock_timestamp() GROUP BY owner`) {
		out[row.Owner] = row.N
	}
	return out
}

func (in *installation) awaitShares(db *sqlx.DB, within time.Duration, shares ...int) {
	in.t.Helper()
	in.eventually(within, "the partitions are shared", func() bool {
		held := in.held(db)
		if len(held) != len(shares) {
			return false
		}
		left := append([]int(nil), shares...)
	owners:
		for _, n := range held {
			for i, want := range left {
				if n == want {
					left = append(left[:i], left[i+1:]...)
					continue owners
				}
			}
			return false
		}
		return true
	})
}

// TestTakeOverAfterKill is not parallel: it measures.
func TestTakeOverAfterKill(t *testing.T) {
	in := newInstallation(t)
	db := in.db()
	first := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	in.eventually(60*time.Second, "STEPS is there", func() bool {
		_, err := in.conn.JetStream().Stream(t.Context(), subject.StepsStream)
		return err == nil
	})

	killed, release := make(chan struct{}), make(chan struct{})
	counts := newCounting()
	in.play(counts.run(func(a attempt) (string, *runner.StepError) {
		switch a.step {
		case "held": // runs while one orchestrator dies and the other takes over
			select {
			case <-release:
			case <-t.Context().Done():
			}
		case "between": // its result comes when nobody applies it
			select {
			case <-killed:
			case <-t.Context().Done():
			}
		case "flaky":
			if a.number == "1" {
				return "", &runner.StepError{Code: runner.CodeError, Message: "not yet", Retryable: true}
			}
		}
		return echo(a)
	}))
	after := func(key string) []catalog.Step {
		return []catalog.Step{{StepKey: key, OnError: catalog.OnErrorRetry, RetryCount: 1, RetryDelayMs: 3000}, {StepKey: "then", DependsOn: []string{key}, Inputs: []byte(`{"x":"{{` + key + `.output}}"}`)}}
	}
	var ids []string
	for _, key := range []string{"held", "between", "flaky"} {
		workflow := in.workflow(after(key)...)
		for range 8 {
			ids = append(ids, in.submit(workflow, `{}`).ID)
		}
	}
	load := in.submitting(in.workflow(diamond()...))
	load.grow(60)
	first.kill()
	close(killed)
	begin := time.Now()
	in.start()
	if took := time.Since(begin); took > lease+2*time.Second+busy {
		t.Errorf("all is taken over after %v", took)
	}
	close(release)
	ids = append(ids, load.stop()...)
	in.completed(db, ids, 60*time.Second)
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
	x := in.get(ids[0])
	if got := string(x.Steps[1].Input); got != `{"x":{"step":"held","input":{}}}` {
		t.Errorf("input after the take-over: %s", got)
	}
}

// awaitFair waits until so many owners have all partitions, none more than one more than another.
func (in *installation) awaitFair(db *sqlx.DB, within time.Duration, owners int) {
	in.t.Helper()
	in.eventually(within, "the partitions are shared fairly", func() bool {
		held, all := in.held(db), 0
		for _, n := range held {
			all += n
			if n < subject.Partitions/owners || n > (subject.Partitions+owners-1)/owners {
				return false
			}
		}
		return len(held) == owners && all == subject.Partitions
	})
}

// TestOrchestratorsComeAndGo is not parallel: it measures. Three orchestrators share, one is killed, another comes, one is stopped.
func TestOrchestratorsComeAndGo(t *testing.T) {
	in := newInstallation(t)
	db := in.db()
	in.start()
	killed, stopped := in.spawn(), in.spawn()
	in.awaitFair(db, 60*time.Second, 3)
	counts := newCounting()
	in.play(counts.run(in.slow(20 * time.Millisecond)))
	load := in.submitting(in.workflow(chain(4)...))
	load.grow(20)

	begin := time.Now()
	killed.kill()
	in.awaitFair(db, lease+2*time.Second+busy, 2)
	t.Logf("killed: the others have its partitions after %v", time.Since(begin))
	in.spawn()
	in.awaitFair(db, 60*time.Second, 3)
	load.grow(20)

	begin = time.Now()
	took := stopped.stop()
	in.awaitFair(db, 2*time.Second+busy, 2)
	t.Logf("stopped within %v: the others have its partitions after %v", took, time.Since(begin))
	load.grow(20)
	in.completed(db, load.stop(), 60*time.Second)
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
}

func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start() // one that survives, so that the others are taken over from
	counts := newCounting()
	in.play(counts.run(in.slow(20 * time.Millisecond)))
	load := in.submitting(in.workflow(chain(5)...))
	for range 2 {
		p := in.spawn()
		in.awaitShares(db, 60*time.Second, 16, 16)
		load.grow(30)
		p.kill()
	}
	in.awaitShares(db, lease+10*time.Second, subject.Partitions)
	in.completed(db, load.stop(), 60*time.Second)
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
}

func TestSharedPartitionsAndPlannedStop(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	other := in.spawn()
	in.awaitShares(db, 60*time.Second, 16, 16)
	in.play(in.slow(20 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(50)
	if took := other.stop(); took > time.Second+busy {
		t.Errorf("the stop took %v", took)
	}
	if n := scan[int](in, db, `SELECT count(*) FROM instances`)[0]; n != 1 {
		t.Errorf("%d instances count as alive after the stop of one of two", n)
	}
	// Handed over, not run out: none of the partitions waits for the end of a lease of the stopped one.
	if n := scan[int](in, db, `SELECT count(*) FROM partitions WHERE lease_until > now() AND NOT EXISTS (SELECT 1 FROM instances WHERE id = owner)`)[0]; n != 0 {
		t.Errorf("%d partitions are still leased to the stopped instance", n)
	}
	in.awaitShares(db, 2*lease+busy, subject.Partitions)
	load.grow(20)
	in.completed(db, load.stop(), 60*time.Second)
	for _, err := range load.refused {
		t.Errorf("refused: %v", err)
	}
	in.checkLedger(db)
	in.checkPublished(db)
}

func TestPausedOwnerWritesNothingMore(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.patience = time.Second // half of the requests reach the paused one
	zombie := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	in.start()
	in.awaitShares(db, 60*time.Second, 16, 16)
	counts := newCounting()
	in.play(counts.run(in.slow(10 * time.Millisecond)))
	load := in.submitting(in.workflow(chain(6)...))
	load.grow(60)
	zombie.signal(syscall.SIGSTOP)
	in.awaitShares(db, lease+10*time.Second, subject.Partitions)
	epochs := scan[int64](in, db, `SELECT epoch FROM partitions ORDER BY p`)
	load.grow(10)
	zombie.signal(syscall.SIGCONT)
	load.grow(60)
	in.awaitShares(db, 60*time.Second, 16, 16)
	for p, epoch := range scan[int64](in, db, `SELECT epoch FROM partitions ORDER BY p`) {
		if epoch < epochs[p] {
			t.Errorf("partition %d went back from epoch %d to %d", p, epochs[p], epoch)
		}
	}
	in.completed(db, load.stop(), 60*time.Second)
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
	if failed := scan[int](in, db, `SELECT count(*) FROM executions WHERE status <> $1`, contract.ExecutionCompleted)[0]; failed > 0 {
		t.Errorf("%d executions failed", failed)
	}
}

func TestStopWithWorkInFlight(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	counts := newCounting()
	in.play(counts.run(in.slow(50 * time.Millisecond)))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(60)
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > time.Second+busy {
		t.Errorf("the stop took %v", took)
	}
	if n := len(in.held(db)); n > 0 {
		t.Error("partitions are still leased after the stop")
	}
	if n := scan[int](in, db, `SELECT count(*) FROM instances`)[0]; n > 0 {
		t.Errorf("%d instances count as alive after the stop", n)
	}
	ids := load.stop()
	in.start()
	in.completed(db, ids, 60*time.Second)
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
}
