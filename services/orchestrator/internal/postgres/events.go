package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/partition"
)

// maxRowEvents bounds the events of a row. Of an execution with more in a commit there are several rows.
const maxRowEvents = 512

// eventsRow is what one commit has of an execution's events.
type eventsRow struct {
	executionID string
	p           int
	seq         uint64   // of the last event
	n           uint64   // up to which number the commit has the partition's events
	bodies      [][]byte // in the order of their seq
}

// eventRows puts the events of a batch into rows, and fails with partition.ErrRefused for what would leave a gap.
func eventRows(b partition.Batch) ([]*eventsRow, error) {
	upTo, last := map[int]uint64{}, map[int]uint64{}
	for _, a := range b.Partitions {
		upTo[a.P] = a.EventN
	}
	var rows []*eventsRow
	open := map[string]*eventsRow{} // the last of each execution
	for _, e := range b.Events {
		if before, begun := last[e.P]; begun && e.N != before+1 {
			return nil, fmt.Errorf("%w: event %d of the partition %d follows %d", partition.ErrRefused, e.N, e.P, before)
		}
		last[e.P] = e.N
		r := open[e.ExecutionID]
		if r != nil && (e.P != r.p || e.Seq != r.seq+1) {
			return nil, fmt.Errorf("%w: event %d of %s follows %d", partition.ErrRefused, e.Seq, e.ExecutionID, r.seq)
		}
		if r == nil || len(r.bodies) == maxRowEvents {
			r = &eventsRow{executionID: e.ExecutionID, p: e.P, n: upTo[e.P]}
			rows, open[e.ExecutionID] = append(rows, r), r
		}
		r.seq, r.bodies = e.Seq, append(r.bodies, e.Body)
	}
	for p, n := range last {
		if n != upTo[p] {
			return nil, fmt.Errorf("%w: the partition %d has events up to %d and counts %d", partition.ErrRefused, p, n, upTo[p])
		}
	}
	return rows, nil
}

// eventArguments are the arguments of told in moveStatement.
func eventArguments(b partition.Batch) ([]any, error) {
	rows, err := eventRows(b)
	if err != nil {
		return nil, err
	}
	size := 2 * len(rows)
	for _, e := range b.Events {
		size += len(e.Body) + 1
	}
	n, all := len(rows), make([]byte, 0, size)
	ids, batches := make([]string, n), make([][]byte, n)
	seqs, ps, ns, counts := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, r := range rows {
		from := len(all)
		all = event.AppendBatch(all, r.bodies...)
		ids[i], batches[i] = r.executionID, all[from:]
		seqs[i], ps[i], ns[i], counts[i] = int64(r.seq), int64(r.p), int64(r.n), int64(len(r.bodies))
	}
	return []any{postgres.UUIDs(ids), postgres.Int8s(seqs), postgres.Int2s(ps), postgres.Int8s(ns), postgres.Int4s(counts), postgres.Bytes(batches)}, nil
}

// The last row to read for a number of events is the first that has or is beyond the last of them.
const (
	eventsOfPartition = `SELECT execution_id, seq, events FROM execution_events WHERE p = $1 AND n > $2
		AND n <= coalesce((SELECT min(n) FROM execution_events WHERE p = $1 AND n >= $3), $3) ORDER BY n`
	eventsOfExecution = `SELECT execution_id, seq, events FROM execution_events WHERE execution_id = $1 AND seq > $2
		AND seq <= coalesce((SELECT min(seq) FROM execution_events WHERE execution_id = $1 AND seq >= $3), $3) ORDER BY seq`
)

// Events implements partition.Ledger.
func (s *Store) Events(ctx context.Context, p int, after uint64, limit int) ([]partition.EventRow, error) {
	events, err := s.events(ctx, eventsOfPartition, p, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]partition.EventRow, 0, len(events))
	for _, e := range events {
		if e.N > after { // else an earlier one of the commit
			out = append(out, partition.EventRow{ExecutionID: e.ExecutionID, P: p, Seq: e.Seq, N: e.N, Type: e.Type, Body: e.Body})
		}
	}
	slices.SortFunc(out, func(a, b partition.EventRow) int { return cmp.Compare(a.N, b.N) })
	return out, nil
}

// History implements execution.Store.
func (s *Store) History(ctx context.Context, id string, after uint64, limit int) ([]orchestrator.StoredEvent, error) {
	events, err := s.events(ctx, eventsOfExecution, id, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]orchestrator.StoredEvent, 0, min(len(events), limit))
	for _, e := range events {
		if e.Seq > after && len(out) < limit {
			out = append(out, orchestrator.StoredEvent{Seq: e.Seq, Type: e.Type, Body: e.Body})
		}
	}
	return out, nil
}

// storedEvent is an event with what its place in a row and itself tell of it.
type storedEvent struct {
	ExecutionID string          `json:"-"`
	Seq         uint64          `json:"-"`
	N           uint64          `json:"n,string"`
	Type        string          `json:"type"`
	Body        json.RawMessage `json:"-"`
}

// events gives those of the rows of a query from one number to another, and with them others of these rows.
func (s *Store) events(ctx context.Context, query string, of any, after uint64, limit int) ([]storedEvent, error) {
	from := int64(min(after, math.MaxInt64-uint64(limit)))
	var rows []struct {
		ExecutionID string `db:"execution_id"`
		Seq         uint64 `db:"seq"`
		Events      []byte `db:"events"`
	}
	if err := s.db.SelectContext(ctx, &rows, query, of, from, from+int64(limit)); err != nil {
		return nil, postgres.Translate(err)
	}
	var events []storedEvent
	for _, r := range rows {
		bodies, err := event.Split(r.Events)
		if err != nil {
			return nil, fmt.Errorf("events of %s up to %d: %w", r.ExecutionID, r.Seq, err)
		}
		for i, body := range bodies {
			e := storedEvent{ExecutionID: r.ExecutionID, Seq: r.Seq - uint64(len(bodies)-1-i), Body: body}
			if err := json.Unmarshal(body, &e); err != nil {
				return nil, fmt.Errorf("event %d of %s: %w", e.Seq, r.ExecutionID, err)
			}
			events = append(events, e)
		}
	}
	return events, nil
}
