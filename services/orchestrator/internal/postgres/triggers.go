package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/orchestrator/internal/inbound"
	"turbocat.io/services/orchestrator/internal/schedule"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// triggerRow is what all triggers have.
type triggerRow struct {
	ID            string    `db:"id"`
	WorkflowID    string    `db:"workflow_id"`
	WorkflowOwner string    `db:"workflow_owner"`
	UserID        string    `db:"user_id"`
	Type          string    `db:"type"`
	Name          string    `db:"name"`
	Enabled       bool      `db:"enabled"`
	Inputs        []byte    `db:"inputs"`
	Priority      *int      `db:"priority"`
	CreatedAt     time.Time `db:"created_at"`
	UpdatedAt     time.Time `db:"updated_at"`
	Now           time.Time `db:"now"`
}

const triggerColumns = `t.id, t.workflow_id, t.workflow_owner, t.user_id, t.type, t.name, t.enabled, t.inputs, t.priority, t.created_at, t.updated_at, clock_timestamp() AS now`

func (r triggerRow) base() trigger.Base {
	return trigger.Base{
		ID: r.ID, WorkflowID: r.WorkflowID, WorkflowOwner: r.WorkflowOwner, UserID: r.UserID, Type: r.Type, Name: r.Name, Enabled: r.Enabled, Inputs: r.Inputs, Priority: r.Priority,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), Now: r.Now.UTC(),
	}
}

// anyTriggerRow is a trigger with what it has as one of its type.
type anyTriggerRow struct {
	triggerRow
	scheduleRow
	hookRow
	listenerRow
	Fired sql.NullTime `db:"fired_at"`
}

// lastFired is when what came in for a trigger became an execution last.
const lastFired = `(SELECT max(d.received_at) FROM trigger_deliveries d WHERE d.trigger_id = t.id AND d.status = 'ACCEPTED') AS fired_at`

const (
	anyTriggerColumns = triggerColumns + `, ` + scheduleColumns + `, ` + hookColumns + `, ` + listenerColumns + `, ` + lastFired
	triggersJoin      = `LEFT JOIN schedules s ON s.trigger_id = t.id LEFT JOIN hooks h ON h.trigger_id = t.id LEFT JOIN listeners l ON l.trigger_id = t.id`
)

func (r anyTriggerRow) trigger() (trigger.Trigger, error) {
	switch r.Type {
	case orchestrator.TriggerTypeSchedule:
		return r.schedule(r.base()), nil
	case orchestrator.TriggerTypeWebhook:
		return r.hook(r.base(), zeroTime(r.Fired))
	case orchestrator.TriggerTypeEvent:
		return r.listener(r.base(), zeroTime(r.Fired)), nil
	}
	return nil, fmt.Errorf("the trigger %s is of the type %q, which this version does not know", r.ID, r.Type)
}

func zeroTime(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func nullTime(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

// Clock implements trigger.Store and schedule.Store.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	err := s.db.GetContext(ctx, &now, `SELECT clock_timestamp()`)
	return now.UTC(), postgres.Translate(err)
}

// AddTrigger implements trigger.Store.
func (s *Store) AddTrigger(ctx context.Context, t trigger.Trigger, most int) error {
	b := t.Common()
	return postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var there int
		if err := lockTriggers(ctx, tx, b.WorkflowID); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &there, `SELECT count(*) FROM triggers WHERE workflow_id = $1`, b.WorkflowID); err != nil {
			return err
		}
		if there >= most {
			return errs.New(errs.Conflict, "the workflow has %d triggers, which is the most; delete one first", there)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO triggers (id, workflow_id, workflow_owner, user_id, type, name, enabled, inputs, priority, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, b.ID, b.WorkflowID, b.WorkflowOwner, b.UserID, b.Type, b.Name, b.Enabled, b.Inputs,
			b.Priority, b.CreatedAt, b.UpdatedAt); err != nil {
			return err
		}
		var err error
		switch t := t.(type) {
		case *schedule.Trigger:
			if err = addSchedule(ctx, tx, t); err == nil {
				err = noteSchedules(ctx, tx, b.WorkflowID)
			}
		case *inbound.Hook:
			err = addHook(ctx, tx, t)
		case *inbound.Listener:
			err = addListener(ctx, tx, t)
		}
		if err != nil {
			return err
		}
		if err := recordTrigger(ctx, tx, audit.TriggerCreated, nil, t); err != nil {
			return err
		}
		return once.Keep(ctx, tx, orchestrator.IssuedTrigger{Trigger: t.View()})
	})
}

// lockTriggers keeps others from changing which triggers a workflow has until the transaction ends.
func lockTriggers(ctx context.Context, tx *sqlx.Tx, workflowID string) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('triggers'), hashtext($1))`, workflowID)
	return err
}

// Trigger implements trigger.Store and inbound.HookStore.
func (s *Store) Trigger(ctx context.Context, id string) (trigger.Trigger, error) {
	return triggerOf(ctx, s.lists, id)
}

func triggerOf(ctx context.Context, q sqlx.QueryerContext, id string) (trigger.Trigger, error) {
	if uuid.Validate(id) != nil {
		return nil, errs.New(errs.NotFound, "trigger not found")
	}
	var row anyTriggerRow
	if err := sqlx.GetContext(ctx, q, &row, `SELECT `+anyTriggerColumns+` FROM triggers t `+triggersJoin+` WHERE t.id = $1`, id); err != nil {
		return nil, notFound(err, "trigger")
	}
	return row.trigger()
}

var triggerTable = listing.Table{
	From: "triggers t", Join: triggersJoin, ID: "t.id",
	Columns: map[string]listing.Column{
		"createdAt": {SQL: "t.created_at", Kind: listing.Time}, "updatedAt": {SQL: "t.updated_at", Kind: listing.Time}, "name": {SQL: "t.name", Kind: listing.Text},
	},
}

// Triggers implements trigger.Store.
func (s *Store) Triggers(ctx context.Context, req orchestrator.ListTriggersRequest) ([]trigger.Trigger, rpc.Pagination, error) {
	var faults form.Faults
	page := triggerTable.Parse(req.Page, &faults)
	workflow, err := uuid.Parse(req.WorkflowID)
	if err != nil {
		faults.Add("workflowId", errs.BadValue, "is no UUID; give the id of a workflow")
	}
	if err := faults.Err("query"); err != nil {
		return nil, rpc.Pagination{}, err
	}
	var where listing.Where
	where.And("t.workflow_id = ?::uuid", workflow.String())
	if req.Search != "" {
		where.And("t.name ILIKE ?", listing.Contains(req.Search))
	}
	type row struct {
		anyTriggerRow
		listing.Key
	}
	rows, pagination, err := listing.Select[row](ctx, s.lists, page, anyTriggerColumns, where)
	if err != nil {
		return nil, rpc.Pagination{}, err
	}
	out := make([]trigger.Trigger, len(rows))
	for i, r := range rows {
		if out[i], err = r.trigger(); err != nil {
			return nil, rpc.Pagination{}, err
		}
	}
	return out, pagination, nil
}

// lockTrigger keeps others from changing a trigger, or deciding a time of it, until the transaction ends. Who decides times locks the schedule alone.
func lockTrigger(ctx context.Context, tx *sqlx.Tx, id string) error {
	for _, table := range []string{"schedules", "hooks", "listeners"} {
		if _, err := tx.ExecContext(ctx, `SELECT 1 FROM `+table+` WHERE trigger_id = $1 FOR UPDATE`, id); err != nil {
			return err
		}
	}
	return nil
}

// ChangeTrigger implements trigger.Store.
func (s *Store) ChangeTrigger(ctx context.Context, id string, change func(trigger.Trigger) (trigger.Trigger, error)) (trigger.Trigger, error) {
	if uuid.Validate(id) != nil {
		return nil, errs.New(errs.NotFound, "trigger not found")
	}
	var t trigger.Trigger
	err := postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		// The clock of the statement that has the lock: one that waited for it would otherwise go by the time at which it came.
		if err := lockTrigger(ctx, tx, id); err != nil {
			return err
		}
		was, err := triggerOf(ctx, tx, id)
		if err != nil {
			return err
		}
		if t, err = change(was); err != nil || reflect.DeepEqual(t, was) {
			return err
		}
		b := t.Common()
		if _, err := tx.ExecContext(ctx, `UPDATE triggers SET name = $2, enabled = $3, inputs = $4, priority = $5, updated_at = $6 WHERE id = $1`,
			id, b.Name, b.Enabled, b.Inputs, b.Priority, b.UpdatedAt); err != nil {
			return err
		}
		switch t := t.(type) {
		case *schedule.Trigger:
			if err = saveSchedule(ctx, tx, t); err == nil {
				err = noteSchedules(ctx, tx, b.WorkflowID)
			}
		case *inbound.Hook:
			err = saveHook(ctx, tx, t)
		case *inbound.Listener:
			err = saveListener(ctx, tx, t)
		}
		if err != nil {
			return err
		}
		if err := recordTrigger(ctx, tx, audit.TriggerUpdated, was, t); err != nil {
			return err
		}
		return once.Keep(ctx, tx, orchestrator.IssuedTrigger{Trigger: t.View()})
	})
	return t, err
}

// RemoveTrigger implements trigger.Store.
func (s *Store) RemoveTrigger(ctx context.Context, id string) error {
	return postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		// In the order of ChangeTrigger.
		if err := lockTrigger(ctx, tx, id); err != nil {
			return err
		}
		was, err := triggerOf(ctx, tx, id)
		var missing *errs.Error
		if errors.As(err, &missing) && missing.Code == errs.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM triggers WHERE id = $1`, id); err != nil {
			return err
		}
		if _, is := was.(*schedule.Trigger); is {
			if err := noteSchedules(ctx, tx, was.Common().WorkflowID); err != nil {
				return err
			}
		}
		return recordTrigger(ctx, tx, audit.TriggerDeleted, was, nil)
	})
}
