package orchestrator_test

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/proxytest"
)

// checkRefused fails the test unless every refusal says that something is away.
func (l *load) checkRefused() {
	l.in.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.refused {
		if errs.CodeOf(err) != errs.DependencyUnavailable {
			l.in.t.Errorf("refused with %v", err)
		}
	}
}

// lastInput gives the last sequence of the input log.
func (in *installation) lastInput() (last uint64) {
	in.t.Helper()
	in.eventually(60*time.Second, "the input log is there", func() bool {
		ctx, cancel := context.WithTimeout(in.t.Context(), time.Second)
		defer cancel()
		stream, err := in.conn.JetStream().Stream(ctx, subject.ExecutionInputStream)
		if err == nil {
			last = stream.CachedInfo().State.LastSeq
		}
		return err == nil
	})
	return last
}

// applyBeyond waits until several partitions have applied inputs after a sequence.
func (in *installation) applyBeyond(db *sqlx.DB, seq uint64) {
	in.t.Helper()
	in.eventually(60*time.Second, "inputs are applied", func() bool {
		return scan[int](in, db, `SELECT count(*) FROM partitions WHERE input_seq > $1`, seq)[0] >= 8
	})
}

func TestStoreLost(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(in.slow(30 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	for range 2 {
		load.grow(60)
		in.nats.stop()
		in.nats.loseStore()
		in.nats.start()
	}
	load.grow(30)
	in.completed(db, load.stop(), 60*time.Second)
	load.checkRefused()
	in.checkLedger(db)
}

func TestStoreLostWhileNobodyRuns(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	in.play(in.slow(30 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(60)
	stop()
	ids := load.stop()
	in.nats.stop()
	in.nats.loseStore()
	in.nats.start()
	in.start()
	in.completed(db, ids, 60*time.Second)
	in.checkLedger(db)
}

func TestStoreRolledBack(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(in.slow(30 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(40)
	in.nats.stop()
	backup := in.nats.backUp()
	in.nats.start()
	in.applyBeyond(db, in.lastInput()) // these sequences come again
	in.nats.stop()
	in.nats.putBack(backup)
	in.nats.start()
	load.grow(60)
	in.completed(db, load.stop(), 60*time.Second)
	load.checkRefused()
	in.checkLedger(db)
	if n := scan[int](in, db, `SELECT count(*) FROM partitions WHERE generation > 0`)[0]; n < 8 {
		t.Errorf("%d partitions noticed that the log is another", n)
	}
}

// TestStoreRolledBackAndGrown has the log longer than the ledger knows it, with other inputs.
func TestStoreRolledBackAndGrown(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	stop := in.start()
	in.play(in.slow(10 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(20)
	in.nats.stop()
	backup := in.nats.backUp()
	in.nats.start()
	in.applyBeyond(db, in.lastInput())
	stop()
	ids := load.stop()
	in.nats.stop()
	in.nats.putBack(backup)
	in.nats.start()
	in.eventually(60*time.Second, "connected again", func() bool { return in.conn.NATS().IsConnected() })
	for range 2000 {
		in.inject(input{partition: 3, kind: "io.turbocat.nothing.v1"})
	}
	in.start()
	more := in.submitting(in.workflow(diamond()...))
	more.grow(20)
	in.completed(db, append(ids, more.stop()...), 60*time.Second)
	in.checkLedger(db)
	if n := scan[int](in, db, `SELECT count(*) FROM partitions WHERE generation > 0`)[0]; n < 8 {
		t.Errorf("%d partitions noticed that the log is another", n)
	}
}

func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(in.slow(30 * time.Millisecond))
	load := in.submitting(in.workflow(diamond()...))
	for range 2 {
		load.grow(40)
		in.nats.stop()
		wait(t.Context(), time.Second)
		in.nats.start()
	}
	load.grow(20)
	in.completed(db, load.stop(), 60*time.Second)
	load.checkRefused()
	in.checkLedger(db)
}

func TestPostgresAway(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	wire, database := proxytest.Before(t, in.database)
	environ := in.environ()
	environ["DATABASE_URL"] = database
	in.startWith(environ)
	counts := newCounting()
	in.play(counts.run(in.slow(30 * time.Millisecond)))
	load := in.submitting(in.workflow(diamond()...))
	load.grow(40)
	wire.Cut()
	wait(t.Context(), 4*time.Second)
	wire.Heal()
	load.grow(40)
	for range 5 { // connections that end in the middle of anything
		wire.Reset()
		load.grow(2)
	}
	in.completed(db, load.stop(), 60*time.Second)
	load.mu.Lock()
	if len(load.refused) == 0 {
		t.Error("nothing was refused while the database was away")
	}
	load.mu.Unlock()
	load.checkRefused()
	in.checkLedger(db)
	in.checkPublished(db)
	if n := counts.rerun(); n > 0 {
		t.Errorf("%d steps ran again although their result was in the log", n)
	}
	if n := scan[int](in, db, `SELECT count(*) FROM executions WHERE status = 'FAILED'`)[0]; n > 0 {
		t.Errorf("%d executions failed", n)
	}
}

// TestNATSConnectionsReset cuts the orchestrator's own connection, again and again, while
// everybody else's stands.
func TestNATSConnectionsReset(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	wire, url := proxytest.Before(t, in.nats.url)
	environ := in.environ()
	environ["NATS_URL"] = url
	in.startWith(environ)
	in.play(in.slow(10 * time.Millisecond))
	load := in.submitting(in.workflow(chain(6)...))
	for range 2 {
		load.grow(20)
		wire.Reset()
	}
	wire.Cut()
	wait(t.Context(), 1500*time.Millisecond)
	wire.Heal()
	load.grow(20)
	in.completed(db, load.stop(), 60*time.Second)
	load.checkRefused()
	in.checkLedger(db)
	for p, seen := range in.published(true) {
		for i, e := range seen {
			if i > 0 && e.N <= seen[i-1].N {
				t.Errorf("partition %d: event %d after %d", p, e.N, seen[i-1].N)
			}
		}
	}
}
