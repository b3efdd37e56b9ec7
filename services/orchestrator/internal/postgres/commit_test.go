package postgres

import (
	"errors"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// A commit goes by what the partition is once it has its lock, and keeps what was written to it meanwhile.
func TestCommitAwaitsThePartition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile string
		lost      bool
		seq       int64
	}{
		"whose lease is renewed":  {`UPDATE partitions SET lease_until = now() + interval '1 hour' WHERE p = $1`, false, 1},
		"that is taken over":      {`UPDATE partitions SET epoch = epoch + 1 WHERE p = $1`, true, 0},
		"that another has moved":  {`UPDATE partitions SET input_seq = 9 WHERE p = $1`, true, 9},
		"where the commit stands": {`UPDATE partitions SET input_seq = 1, event_n = 1 WHERE p = $1`, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			id := l.accept(l.acceptable("a"))
			p := subject.PartitionOf(id)
			gate, err := l.db.BeginTxx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = gate.Rollback() }()
			if _, err := gate.ExecContext(t.Context(), c.meanwhile, p); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() {
				_, err := l.Commit(t.Context(), partition.Batch{
					Partitions: []partition.Advance{{P: p, InputSeq: 1, EventN: 1}},
					Executions: []partition.ExecutionRow{{ID: id, Status: orchestrator.ExecutionRunning, EventSeq: 1}},
					Steps:      []partition.StepRow{{ExecutionID: id, P: p, Row: engine.Row{Task: engine.Task{Status: orchestrator.StepRunning}}}},
					Events:     []partition.EventRow{partitiontest.EventOf(id, p, 1, 1)},
				})
				done <- err
			}()
			deadline := time.After(2 * time.Second) // below the lock timeout
			for waiting := 0; waiting == 0; {
				if err := l.db.Get(&waiting, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); err != nil {
					t.Fatal(err)
				}
				select {
				case <-deadline:
					t.Fatal("the commit does not wait for the partition")
				case err := <-done:
					t.Fatalf("the commit does not wait for the partition: %v", err)
				default:
				}
			}
			if err := gate.Commit(); err != nil {
				t.Fatal(err)
			}
			err = <-done
			if fenced := new(partition.FencedError); errors.As(err, &fenced) != c.lost || err != nil && !c.lost {
				t.Errorf("the commit gives %v", err)
			}
			var found struct {
				Seq     int64 `db:"input_seq"`
				Renewed bool  `db:"renewed"`
				Rows    int   `db:"n"`
			}
			if err := l.db.Get(&found, `SELECT input_seq, coalesce(lease_until > now() + interval '50 minutes', false) AS renewed, (SELECT count(*) FROM steps) + (SELECT count(*) FROM execution_events)
				+ (SELECT count(*) FROM executions WHERE status = 'RUNNING') AS n FROM partitions WHERE p = $1`, p); err != nil {
				t.Fatal(err)
			}
			rows := 0
			if name == "whose lease is renewed" {
				rows = 3
			}
			if found.Seq != c.seq || found.Rows != rows || found.Renewed != (rows > 0) {
				t.Errorf("the partition stands at %d, its lease is renewed: %t; %d rows", found.Seq, found.Renewed, found.Rows)
			}
		})
	}
}
