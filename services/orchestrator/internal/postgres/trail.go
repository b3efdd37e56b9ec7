package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/inbound"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// The audit trail has what somebody asks of executions and triggers. Their start is not in it: a row of executions says who
// started it, when and how.

var commandActions = map[string]audit.Action{
	execution.CommandCancel: audit.ExecutionCancelled,
	execution.CommandPause:  audit.ExecutionPaused,
	execution.CommandResume: audit.ExecutionResumed,
	execution.CommandSignal: audit.ExecutionSignalled,
}

// recordCommands tells of commands in their transaction.
func recordCommands(ctx context.Context, tx *sqlx.Tx, commands []execution.Command) error {
	ids := make([]string, len(commands))
	for i, c := range commands {
		ids[i] = c.ExecutionID
	}
	var rows []struct {
		ID     string `db:"id"`
		UserID string `db:"user_id"`
	}
	if err := tx.SelectContext(ctx, &rows, `SELECT id, user_id FROM executions WHERE id = ANY($1::uuid[])`, pq.Array(ids)); err != nil {
		return err
	}
	owners := make(map[string]string, len(rows))
	for _, r := range rows {
		owners[r.ID] = r.UserID
	}
	deeds := make([]trail.Deed, len(commands))
	for i, c := range commands {
		deeds[i] = trail.Deed{Action: commandActions[c.Kind], ResourceID: c.ExecutionID, OwnerID: owners[c.ExecutionID]}
		if c.Kind == execution.CommandSignal {
			deeds[i].After = signalTold(c)
		}
	}
	return trail.Record(ctx, tx, deeds...)
}

// signalTold is what is told of a signal: its payload belongs to the execution.
func signalTold(c execution.Command) any {
	var s orchestrator.Signal
	if json.Unmarshal(c.Signal, &s) != nil { // it was made here
		return nil
	}
	return struct {
		Name    string `json:"name"`
		Approve *bool  `json:"approve"`
		Comment string `json:"comment"`
	}{s.Name, s.Approve, s.Comment}
}

// recordAgain tells of executions that are run again, each by its own caller.
func recordAgain(ctx context.Context, tx *postgres.PreparedTx, executions []execution.Accepted) error {
	for _, x := range executions {
		action, of := audit.ExecutionRetried, x.RetryOf
		if recording := x.Definition.Recording; recording != nil && of == "" {
			action, of = audit.ExecutionReplayed, recording.ExecutionID
		}
		if of == "" {
			continue
		}
		if err := trail.Record(rpc.WithCaller(ctx, x.Caller), tx, trail.Deed{
			Action: action, ResourceID: of, OwnerID: x.Caller.UserID, After: map[string]string{"executionId": x.ID},
		}); err != nil {
			return err
		}
	}
	return nil
}

// notDecided are the fields of a trigger that nobody decides.
var notDecided = []string{
	"id", "userId", "type", "createdAt", "updatedAt", "lastFiredAt", "nextFireTimes", "path", "previousSecretUntil", "lastRejectedAt", "lastRejection", "lastError", "skipped",
}

// recordTrigger tells of a trigger that was not there before, is not there any more, or is another; nil is none.
func recordTrigger(ctx context.Context, tx *sqlx.Tx, action audit.Action, before, after trigger.Trigger) error {
	d := trail.Deed{Action: action}
	told := func(t trigger.Trigger) (any, error) {
		if t == nil {
			return nil, nil
		}
		d.ResourceID, d.OwnerID = t.Common().ID, t.Common().WorkflowOwner
		view, err := json.Marshal(t.View())
		if err != nil {
			return nil, fmt.Errorf("tell of the trigger %s: %w", d.ResourceID, err)
		}
		var decided map[string]any
		if err := json.Unmarshal(view, &decided); err != nil {
			return nil, fmt.Errorf("tell of the trigger %s: %w", d.ResourceID, err)
		}
		for _, name := range notDecided {
			delete(decided, name)
		}
		if h, is := t.(*inbound.Hook); is {
			decided["secretVersion"] = h.SecretVersion
		}
		return decided, nil
	}
	var err error
	if d.Before, err = told(before); err != nil {
		return err
	}
	if d.After, err = told(after); err != nil {
		return err
	}
	return trail.Record(ctx, tx, d)
}
