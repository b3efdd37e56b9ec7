package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// moveSchedules moves the schedules of scheduled executions on to the times that follow, and leaves out the executions whose time is
// decided already or whose schedule was changed. Rows are locked in the order of their ids.
func moveSchedules(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted, outcomes []execution.Outcome) ([]execution.Accepted, error) {
	var scheduled []execution.Accepted
	for _, x := range executions {
		if x.Scheduled != nil {
			scheduled = append(scheduled, x)
		}
	}
	slices.SortFunc(scheduled, func(a, b execution.Accepted) int {
		return strings.Compare(a.Scheduled.TriggerID, b.Scheduled.TriggerID)
	})
	obsolete := map[string]bool{}
	for _, x := range scheduled {
		at := x.Scheduled
		var moved bool
		err := tx.GetContext(ctx, &moved, `UPDATE schedules SET last_time = next_time, next_time = $4, next_fire_at = $5, look_at = $5
			WHERE trigger_id = $1 AND revision = $2 AND next_time = $3 AND look_at IS NOT NULL RETURNING true`,
			at.TriggerID, at.Revision, at.For, nullTime(at.Next), nullTime(at.NextFireAt))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			obsolete[x.ID] = true
		case err != nil:
			return nil, err
		}
	}
	if len(obsolete) == 0 {
		return executions, nil
	}
	for i := range outcomes {
		outcomes[i].Obsolete = outcomes[i].Obsolete || obsolete[outcomes[i].ID]
	}
	kept := executions[:0:0]
	for _, x := range executions {
		if !obsolete[x.ID] {
			kept = append(kept, x)
		}
	}
	return kept, nil
}

// scheduleRow is what of a schedule all triggers do not have. It is of nothing when there is none.
type scheduleRow struct {
	Revision        sql.NullInt64  `db:"s_revision"`
	Cron            sql.NullString `db:"cron"`
	TimeZone        sql.NullString `db:"time_zone"`
	Overlap         sql.NullString `db:"overlap"`
	CatchUpWindowMs sql.NullInt64  `db:"catch_up_window_ms"`
	JitterMs        sql.NullInt64  `db:"jitter_ms"`
	NextTime        sql.NullTime   `db:"next_time"`
	NextFireAt      sql.NullTime   `db:"next_fire_at"`
	LastTime        sql.NullTime   `db:"last_time"`
}

const scheduleColumns = `s.revision AS s_revision, s.cron, s.time_zone, s.overlap, s.catch_up_window_ms, s.jitter_ms, s.next_time, s.next_fire_at, s.last_time`

func (r scheduleRow) schedule(b trigger.Base) *schedule.Trigger {
	return &schedule.Trigger{
		Base: b, Cron: r.Cron.String, TimeZone: r.TimeZone.String, Overlap: r.Overlap.String,
		CatchUpWindow: time.Duration(r.CatchUpWindowMs.Int64) * time.Millisecond, Jitter: time.Duration(r.JitterMs.Int64) * time.Millisecond, Revision: r.Revision.Int64,
		Place: schedule.Place{Time: zeroTime(r.NextTime), FireAt: zeroTime(r.NextFireAt)}, Last: zeroTime(r.LastTime),
	}
}

// lookAt is when a schedule is to be looked at; never while it is off.
func lookAt(t *schedule.Trigger) sql.NullTime {
	if !t.Enabled {
		return sql.NullTime{}
	}
	return nullTime(t.Place.FireAt)
}

func addSchedule(ctx context.Context, tx *sqlx.Tx, t *schedule.Trigger) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO schedules (trigger_id, cron, time_zone, overlap, catch_up_window_ms, jitter_ms, next_time, next_fire_at, look_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, t.ID, t.Cron, t.TimeZone, t.Overlap, t.CatchUpWindow.Milliseconds(), t.Jitter.Milliseconds(),
		nullTime(t.Place.Time), nullTime(t.Place.FireAt), lookAt(t))
	return err
}

// saveSchedule saves a changed schedule as a new revision, and the times that the change has passed over.
func saveSchedule(ctx context.Context, tx *sqlx.Tx, t *schedule.Trigger) error {
	if t.Passed != nil {
		if err := addSkip(ctx, tx, t.ID, *t.Passed); err != nil {
			return err
		}
	}
	// Its skips end where it goes on, which another timetable may do earlier than the last of them says.
	if _, err := tx.ExecContext(ctx, `UPDATE schedule_skips SET until = $2 WHERE trigger_id = $1 AND until > $2`, t.ID, nullTime(t.Place.Time)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE schedules SET revision = revision + 1, cron = $2, time_zone = $3, overlap = $4, catch_up_window_ms = $5, jitter_ms = $6,
			next_time = $7, next_fire_at = $8, look_at = $9 WHERE trigger_id = $1`,
		t.ID, t.Cron, t.TimeZone, t.Overlap, t.CatchUpWindow.Milliseconds(), t.Jitter.Milliseconds(), nullTime(t.Place.Time), nullTime(t.Place.FireAt), lookAt(t))
	return err
}

// noteSchedules has the catalog told whether a schedule of a workflow is on by now. Changes of a workflow's triggers come one after
// the other from here on, so that the higher revision is the later one.
func noteSchedules(ctx context.Context, tx *sqlx.Tx, workflowID string) error {
	if err := lockTriggers(ctx, tx, workflowID); err != nil {
		return err
	}
	state := catalog.ScheduleState{WorkflowID: workflowID}
	if err := tx.QueryRowxContext(ctx, `SELECT nextval('schedule_states'), EXISTS (SELECT FROM triggers WHERE workflow_id = $1 AND type = $2 AND enabled)`,
		workflowID, orchestrator.TriggerTypeSchedule).Scan(&state.Revision, &state.Enabled); err != nil {
		return err
	}
	body, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the state of the schedules of workflow %s: %w", workflowID, err)
	}
	return outbox.Enqueue(ctx, tx, outbox.Message{
		ID: uuid.Must(uuid.NewV7()).String(), Type: schedule.TypeNoted, Subject: workflowID, RequestID: rpc.CallerOf(ctx).RequestID, Body: body,
	})
}

var skipTable = listing.Table{
	From: "schedule_skips", ID: "trigger_id", // the times of one trigger differ
	Columns: map[string]listing.Column{"createdAt": {SQL: "created_at", Kind: listing.Time}, "scheduledFor": {SQL: "scheduled_for", Kind: listing.Time}},
}

type skipRow struct {
	ScheduledFor time.Time `db:"scheduled_for"`
	Until        time.Time `db:"until"`
	Reason       string    `db:"reason"`
	Message      string    `db:"message"`
	CreatedAt    time.Time `db:"created_at"`
	listing.Key
}

var skipReasons = []string{
	orchestrator.SkipOverlap, orchestrator.SkipCatchUpWindow, orchestrator.SkipDisabled, orchestrator.SkipChanged, orchestrator.SkipRefused,
}

// Skips implements schedule.Store.
func (s *Store) Skips(ctx context.Context, req orchestrator.ListSkipsRequest) ([]schedule.Skip, rpc.Pagination, error) {
	var faults form.Faults
	req.SortBy = "scheduledFor"
	page := skipTable.Parse(req.Page, &faults)
	listing.Enum("reason", req.Reason, skipReasons, &faults)
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	var where listing.Where
	where.And("trigger_id = ?::uuid", req.ID)
	if req.Reason != "" {
		where.And("reason = ?", req.Reason)
	}
	rows, pagination, err := listing.Select[skipRow](ctx, s.lists, page, `scheduled_for, until, reason, message, created_at`, where)
	if err != nil {
		return nil, rpc.Pagination{}, err
	}
	out := make([]schedule.Skip, len(rows))
	for i, r := range rows {
		out[i] = schedule.Skip{Time: r.ScheduledFor.UTC(), Until: r.Until.UTC(), Reason: r.Reason, Message: r.Message, CreatedAt: r.CreatedAt.UTC()}
	}
	return out, pagination, nil
}

// addSkip records a skip. One that follows the last one, for the same reason, makes that longer: what is off or refused for a year is one row.
func addSkip(ctx context.Context, tx *sqlx.Tx, id string, skip schedule.Skip) error {
	_, err := tx.ExecContext(ctx, `WITH longer AS (
			UPDATE schedule_skips SET until = $3 WHERE trigger_id = $1 AND until = $2 AND reason = $4 AND message = $5
				AND scheduled_for = (SELECT max(scheduled_for) FROM schedule_skips WHERE trigger_id = $1) RETURNING true)
		INSERT INTO schedule_skips (trigger_id, scheduled_for, until, reason, message) SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM longer)
		ON CONFLICT DO NOTHING`, id, skip.Time, skip.Until, skip.Reason, plain(skip.Message))
	return err
}

// ClaimDue implements schedule.Store.
func (s *Store) ClaimDue(ctx context.Context, lease time.Duration, n int) ([]schedule.Due, error) {
	if n == 0 {
		return nil, nil
	}
	var rows []struct {
		triggerRow
		scheduleRow
		Running sql.NullString `db:"running"`
	}
	err := s.db.SelectContext(ctx, &rows, `WITH due AS (
			SELECT trigger_id FROM schedules WHERE look_at <= statement_timestamp() ORDER BY look_at LIMIT $2 FOR UPDATE SKIP LOCKED)
		UPDATE schedules s SET look_at = clock_timestamp() + $1 * interval '1 microsecond' FROM due JOIN triggers t ON t.id = due.trigger_id
		WHERE s.trigger_id = due.trigger_id
		RETURNING `+triggerColumns+`, `+scheduleColumns+`, (SELECT e.id FROM executions e WHERE e.trigger_id = s.trigger_id AND e.completed_at IS NULL ORDER BY e.scheduled_for LIMIT 1) AS running`,
		microseconds(lease), n)
	if err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]schedule.Due, len(rows))
	for i, r := range rows {
		out[i] = schedule.Due{Trigger: *r.schedule(r.base()), Running: r.Running.String}
	}
	return out, nil
}

// UntilNextLook implements schedule.Store.
func (s *Store) UntilNextLook(ctx context.Context, most time.Duration) (time.Duration, error) {
	var us int64
	err := s.db.GetContext(ctx, &us, `SELECT coalesce(ceil(extract(epoch FROM min(look_at) - clock_timestamp()) * 1000000), $1)::bigint FROM schedules WHERE look_at IS NOT NULL`, microseconds(most))
	return min(max(time.Duration(us)*time.Microsecond, 0), most), postgres.Translate(err)
}

// SkipTimes implements schedule.Store.
func (s *Store) SkipTimes(ctx context.Context, t schedule.Trigger, skip schedule.Skip, next schedule.Place) error {
	// Not prepared: preparing takes another connection of the pool, and many skip at once.
	return postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var moved bool
		err := tx.GetContext(ctx, &moved, `UPDATE schedules SET next_time = $4, next_fire_at = $5, look_at = $5
			WHERE trigger_id = $1 AND revision = $2 AND next_time = $3 AND look_at IS NOT NULL RETURNING true`,
			t.ID, t.Revision, t.Place.Time, nullTime(next.Time), nullTime(next.FireAt))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return addSkip(ctx, tx, t.ID, skip)
	})
}

// Postpone implements schedule.Store.
func (s *Store) Postpone(ctx context.Context, t schedule.Trigger, wait time.Duration) error {
	_, err := s.db.ExecContext(ctx, `UPDATE schedules SET look_at = clock_timestamp() + $4 * interval '1 microsecond'
		WHERE trigger_id = $1 AND revision = $2 AND next_time = $3 AND look_at IS NOT NULL`, t.ID, t.Revision, t.Place.Time, microseconds(wait))
	return postgres.Translate(err)
}
