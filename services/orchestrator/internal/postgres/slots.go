package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/postgres"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// The slots of concurrency limits.
//
// Nothing waits in a circle. Every transaction takes its locks in one order: partitions by p; then rows of executions, steps and
// the rest, which only it writes, as the owner of their partition, or because it makes them; last the groups, all at once, by their hash.
// Rows of slots are written under the lock of their group alone, which is why they are not columns of the executions: of those a grant
// would write rows that another partition's commit has, and waits for the group. Who has locked groups waits for nothing more.
//
// The lock is an advisory one, as those who wait for it get it in their order. Of a row that each of them changes, anyone may be
// next, and somebody never.

const (
	slotHeld    = "HELD"
	slotWaiting = "WAITING"
	slotDropped = "DROPPED"
)

var slotStates = map[string]engine.Slot{slotHeld: engine.SlotHeld, slotWaiting: engine.SlotWaiting, slotDropped: engine.SlotDropped}

// slotsOf reads how executions that have not ended stand to their limits.
func (s *Store) slotsOf(ctx context.Context, executions []executionRow) (map[string]engine.Slot, error) {
	var ids []string
	for _, x := range executions {
		if x.Limited && !engine.Terminal(x.Status) {
			ids = append(ids, x.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []struct {
		ExecutionID string `db:"execution_id"`
		State       string `db:"state"`
	}
	if err := s.db.SelectContext(ctx, &rows, `SELECT execution_id, state FROM concurrency_slots WHERE execution_id = ANY($1::uuid[])`, pq.Array(ids)); err != nil {
		return nil, postgres.Translate(err)
	}
	out := map[string]engine.Slot{}
	for _, r := range rows {
		out[r.ExecutionID] = slotStates[r.State]
	}
	return out, nil
}

// freeOfAncestors takes the limit from the executions that another one waits for which holds a slot of the same group: else it
// would wait for itself.
func freeOfAncestors(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) error {
	for i := range executions {
		x := &executions[i]
		if x.Limit == nil || x.Parent == nil || x.Detached {
			continue
		}
		var holds bool
		if err := tx.GetContext(ctx, &holds, `WITH RECURSIVE ancestors AS (
				SELECT id, parent_execution_id, detached, 1 AS height FROM executions WHERE id = $1
				UNION ALL
				SELECT e.id, e.parent_execution_id, e.detached, a.height + 1 FROM ancestors a JOIN executions e ON e.id = a.parent_execution_id
				WHERE NOT a.detached AND a.height < $4)
			SELECT EXISTS (SELECT 1 FROM ancestors a JOIN concurrency_slots s ON s.execution_id = a.id AND s.state = 'HELD' AND s.workflow_id = $2 AND s.key = $3)`,
			x.Parent.ExecutionID, x.Definition.WorkflowID, []byte(x.Limit.Key), catalog.MaxDepth); err != nil {
			return err
		}
		if holds {
			x.Limit = nil
		}
	}
	return nil
}

// group is a row of concurrency_groups as an accept knows it.
type group struct {
	max, version int
	newcomers    int
}

// takeSlots gives the executions, which were inserted just now, their places under their limits, and notes them in their outcomes.
func takeSlots(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, outcomes []execution.Outcome) ([]partition.Control, error) {
	if len(executions) == 0 {
		return nil, nil
	}
	groups := map[[2]string]*group{}
	var order [][2]string
	places := make([]int, len(executions)) // among the newcomers of the group
	for i, x := range executions {
		id := [2]string{x.Definition.WorkflowID, x.Limit.Key}
		g := groups[id]
		if g == nil {
			g = &group{}
			groups[id], order = g, append(order, id)
		}
		if x.Definition.WorkflowVersion >= g.version { // of an execution that is run again it may be an older one
			g.max, g.version = x.Limit.Max, x.Definition.WorkflowVersion
		}
		places[i] = g.newcomers
		g.newcomers++
	}
	if err := lockGroups(ctx, tx, order); err != nil {
		return nil, err
	}
	first, err := enter(ctx, tx, groups, order)
	if err != nil {
		return nil, err
	}
	n := len(executions)
	ids, workflows, keys := make([]string, n), make([]string, n), make([][]byte, n)
	priorities, ns, evicts := make([]int64, n), make([]int64, n), make([]bool, n)
	for i, x := range executions {
		ids[i], workflows[i], keys[i] = x.ID, x.Definition.WorkflowID, []byte(x.Limit.Key)
		priorities[i], ns[i] = int64(x.Priority), first[[2]string{workflows[i], x.Limit.Key}]+int64(places[i])
		evicts[i] = x.Limit.OnLimit == catalog.OnLimitCancelOldest
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO concurrency_slots (execution_id, workflow_id, key, state, priority, n, evicts)
		SELECT id, workflow, key, 'WAITING', priority, n, evicts
		FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::smallint[], $5::bigint[], $6::boolean[]) v(id, workflow, key, priority, n, evicts)`,
		pq.Array(ids), pq.Array(workflows), pq.ByteaArray(keys), pq.Array(priorities), pq.Array(ns), pq.Array(evicts)); err != nil {
		return nil, err
	}
	granted, evictions, err := settle(ctx, tx, order)
	if err != nil {
		return nil, err
	}
	var dropped []string
	for _, x := range executions {
		o := &outcomes[slices.IndexFunc(outcomes, func(o execution.Outcome) bool { return o.ID == x.ID })]
		at := slices.Index(granted, x.ID)
		switch {
		case at >= 0:
			o.Slot, granted = engine.SlotHeld, slices.Delete(granted, at, at+1)
		case x.Limit.OnLimit == catalog.OnLimitDrop:
			o.Slot, dropped = engine.SlotDropped, append(dropped, x.ID)
		default:
			o.Slot = engine.SlotWaiting
		}
	}
	if len(dropped) > 0 {
		if _, err := tx.ExecContext(ctx, `UPDATE concurrency_slots SET state = 'DROPPED' WHERE execution_id = ANY($1::uuid[])`, pq.Array(dropped)); err != nil {
			return nil, err
		}
	}
	return append(evictions, submitted(granted)...), nil
}

// lockGroups keeps others from the slots of groups until the transaction ends. It is called once in one.
func lockGroups(ctx context.Context, tx *postgres.PreparedTx, ids [][2]string) error {
	hashes := make([]int64, len(ids))
	for i, id := range ids {
		sum := sha256.Sum256([]byte("concurrency " + id[0] + " " + id[1]))
		hashes[i] = int64(binary.BigEndian.Uint64(sum[:]))
	}
	slices.Sort(hashes)
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(h) FROM unnest($1::bigint[]) h`, pq.Array(hashes))
	return err
}

// enter makes groups, or gives them their newest max, and gives the first of the numbers that their newcomers have.
func enter(ctx context.Context, tx *postgres.PreparedTx, groups map[[2]string]*group, order [][2]string) (map[[2]string]int64, error) {
	n := len(order)
	workflows, keys := columns(order)
	maxima, versions, newcomers := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, id := range order {
		g := groups[id]
		maxima[i], versions[i], newcomers[i] = int64(g.max), int64(g.version), int64(g.newcomers)
	}
	var rows []struct {
		WorkflowID string `db:"workflow_id"`
		Key        []byte `db:"key"`
		Last       int64  `db:"last_n"`
	}
	if err := tx.SelectContext(ctx, &rows, `INSERT INTO concurrency_groups AS g (workflow_id, key, max, version, last_n)
		SELECT workflow, key, max, version, n FROM unnest($1::uuid[], $2::bytea[], $3::int[], $4::int[], $5::bigint[]) v(workflow, key, max, version, n)
		ON CONFLICT (workflow_id, key) DO UPDATE SET max = CASE WHEN excluded.version >= g.version THEN excluded.max ELSE g.max END,
			version = greatest(g.version, excluded.version), last_n = g.last_n + excluded.last_n
		RETURNING workflow_id, key, last_n`,
		pq.Array(workflows), pq.ByteaArray(keys), pq.Array(maxima), pq.Array(versions), pq.Array(newcomers)); err != nil {
		return nil, err
	}
	first := map[[2]string]int64{}
	for _, r := range rows {
		id := [2]string{r.WorkflowID, string(r.Key)}
		first[id] = r.Last - int64(groups[id].newcomers) + 1
	}
	return first, nil
}

// settle gives the free slots of groups, which the transaction has locked, to those next in line. Then it sees to it that one
// holder is being cancelled for each that waits for that: the longest that are not yet.
func settle(ctx context.Context, tx *postgres.PreparedTx, ids [][2]string) (granted []string, evictions []partition.Control, err error) {
	workflows, keys := columns(ids)
	if err := tx.SelectContext(ctx, &granted, `WITH next AS (
			SELECT s.execution_id, g.workflow_id, g.key, g.last_n + row_number() OVER (PARTITION BY g.workflow_id, g.key ORDER BY s.priority DESC, s.n) AS n
			FROM unnest($1::uuid[], $2::bytea[]) v(workflow_id, key) JOIN concurrency_groups g ON g.workflow_id = v.workflow_id AND g.key = v.key
			CROSS JOIN LATERAL (SELECT w.execution_id, w.priority, w.n FROM concurrency_slots w
				WHERE w.workflow_id = g.workflow_id AND w.key = g.key AND w.state = 'WAITING'
				ORDER BY w.priority DESC, w.n LIMIT greatest(g.max - g.held, 0)) s),
		granted AS (UPDATE concurrency_slots t SET state = 'HELD', n = next.n FROM next WHERE t.execution_id = next.execution_id),
		counted AS (UPDATE concurrency_groups g SET held = g.held + c.n, last_n = g.last_n + c.n
			FROM (SELECT workflow_id, key, count(*) AS n FROM next GROUP BY workflow_id, key) c WHERE g.workflow_id = c.workflow_id AND g.key = c.key)
		SELECT execution_id FROM next ORDER BY workflow_id, key, n`, pq.Array(workflows), pq.ByteaArray(keys)); err != nil {
		return nil, nil, err
	}
	var oldest []string
	if err := tx.SelectContext(ctx, &oldest, `SELECT execution_id FROM (
			SELECT s.execution_id, s.n, c.cancelling, w.wanted - count(*) FILTER (WHERE c.cancelling) OVER (PARTITION BY s.workflow_id, s.key) AS missing,
				row_number() OVER (PARTITION BY s.workflow_id, s.key, c.cancelling ORDER BY s.n) AS nth
			FROM unnest($1::uuid[], $2::bytea[]) g(workflow_id, key)
			JOIN LATERAL (SELECT count(*) AS wanted FROM concurrency_slots w
				WHERE w.workflow_id = g.workflow_id AND w.key = g.key AND w.state = 'WAITING' AND w.evicts) w ON w.wanted > 0
			JOIN concurrency_slots s ON s.workflow_id = g.workflow_id AND s.key = g.key AND s.state = 'HELD'
			CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM commands c WHERE c.execution_id = s.execution_id AND c.kind = 'CANCEL') AS cancelling) c) v
		WHERE NOT cancelling AND nth <= missing ORDER BY n`, pq.Array(workflows), pq.ByteaArray(keys)); err != nil {
		return nil, nil, err
	}
	for _, id := range oldest {
		c := execution.Eviction(id)
		if _, err := tx.ExecContext(ctx, `INSERT INTO commands (id, execution_id, p, kind, user_id) VALUES ($1, $2, $3, $4, '')`,
			c.ID, c.ExecutionID, c.Partition, c.Kind); err != nil {
			return nil, nil, err
		}
		control, err := c.Control()
		if err != nil {
			return nil, nil, err
		}
		evictions = append(evictions, control)
	}
	return granted, evictions, nil
}

// releases tells whether an execution has no more use of its slot.
func releases(r partition.ExecutionRow) bool { return r.Limited && engine.Terminal(r.Status) }

// releaseSlots takes the executions that have ended out of their groups, and gives what follows from that.
func releaseSlots(ctx context.Context, tx *postgres.PreparedTx, rows []partition.ExecutionRow) ([]partition.Control, error) {
	var ended []string
	for _, r := range rows {
		if releases(r) {
			ended = append(ended, r.ID)
		}
	}
	if len(ended) == 0 {
		return nil, nil
	}
	var groups []struct {
		WorkflowID string `db:"workflow_id"`
		Key        []byte `db:"key"`
	}
	if err := tx.SelectContext(ctx, &groups, `SELECT DISTINCT workflow_id, key FROM concurrency_slots WHERE execution_id = ANY($1::uuid[])`, pq.Array(ended)); err != nil {
		return nil, err
	}
	ids := make([][2]string, len(groups))
	for i, g := range groups {
		ids[i] = [2]string{g.WorkflowID, string(g.Key)}
	}
	if err := lockGroups(ctx, tx, ids); err != nil {
		return nil, err
	}
	// Their rows are gone then, so that nothing is released twice.
	if _, err := tx.ExecContext(ctx, `WITH gone AS (DELETE FROM concurrency_slots WHERE execution_id = ANY($1::uuid[]) RETURNING workflow_id, key, state)
		UPDATE concurrency_groups g SET held = g.held - c.held
		FROM (SELECT workflow_id, key, count(*) FILTER (WHERE state = 'HELD') AS held FROM gone GROUP BY workflow_id, key) c
		WHERE g.workflow_id = c.workflow_id AND g.key = c.key`, pq.Array(ended)); err != nil {
		return nil, err
	}
	granted, evictions, err := settle(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	workflows, keys := columns(ids)
	_, err = tx.ExecContext(ctx, `DELETE FROM concurrency_groups g USING unnest($1::uuid[], $2::bytea[]) v(workflow_id, key)
		WHERE g.workflow_id = v.workflow_id AND g.key = v.key AND g.held = 0
		AND NOT EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.workflow_id = g.workflow_id AND s.key = g.key)`, pq.Array(workflows), pq.ByteaArray(keys))
	return append(submitted(granted), evictions...), err
}

// columns gives the ids of groups as a statement takes them.
func columns(ids [][2]string) (workflows []string, keys [][]byte) {
	for _, id := range ids {
		workflows, keys = append(workflows, id[0]), append(keys, []byte(id[1]))
	}
	return workflows, keys
}

// submitted gives the inputs with which executions begin.
func submitted(ids []string) []partition.Control {
	out := make([]partition.Control, len(ids))
	for i, id := range ids {
		out[i] = partition.Control{P: subject.PartitionOf(id), Kind: engine.Submitted, ExecutionID: id}
	}
	return out
}

// Queue implements execution.Store.
func (s *Store) Queue(ctx context.Context, id string) (execution.Queue, bool, error) {
	var row struct {
		Key     []byte         `db:"key"`
		Max     int            `db:"max"`
		Held    int            `db:"held"`
		Place   int            `db:"place"`
		Waiting int            `db:"waiting"`
		Holders pq.StringArray `db:"holders"`
	}
	err := s.db.GetContext(ctx, &row, `SELECT g.key, g.max, g.held,
			(SELECT count(*) FROM concurrency_slots o WHERE o.workflow_id = g.workflow_id AND o.key = g.key AND o.state = 'WAITING'
				AND (o.priority > s.priority OR o.priority = s.priority AND o.n <= s.n)) AS place,
			(SELECT count(*) FROM concurrency_slots o WHERE o.workflow_id = g.workflow_id AND o.key = g.key AND o.state = 'WAITING') AS waiting,
			ARRAY(SELECT o.execution_id::text FROM concurrency_slots o WHERE o.workflow_id = g.workflow_id AND o.key = g.key AND o.state = 'HELD'
				ORDER BY o.n LIMIT $2) AS holders
		FROM concurrency_slots s JOIN concurrency_groups g ON g.workflow_id = s.workflow_id AND g.key = s.key
		WHERE s.execution_id = $1 AND s.state = 'WAITING'`, id, execution.MaxHolders)
	if err != nil {
		if err = notFound(err, "slot"); errs.CodeOf(err) == errs.NotFound {
			return execution.Queue{}, false, nil
		}
		return execution.Queue{}, false, err
	}
	return execution.Queue{Key: string(row.Key), Max: row.Max, Held: row.Held, Holders: row.Holders, Place: row.Place, Waiting: row.Waiting}, true, nil
}
