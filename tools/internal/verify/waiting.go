package verify

import (
	"context"
	"fmt"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/tools/internal/promises"
)

// told is how many rows of one kind are named.
const told = 100

// waiting checks that nothing waits for longer than it should for one who is to do it at once.
func (v *verifier) waiting(ctx context.Context) error {
	return v.settled(ctx, v.findWaiting)
}

// wait is what somebody is to do at once.
type wait struct{ promise, says, query string }

func (v *verifier) findWaiting(ctx context.Context, found *findings) error {
	waits := []wait{
		{"I1", "the execution %s is PENDING since %s, and waits behind no limit", `SELECT id AS what, created_at AS since FROM executions
			WHERE completed_at IS NULL AND status = 'PENDING' AND created_at < clock_timestamp() - $1::interval
			AND NOT (limited AND EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.execution_id = executions.id AND s.state = 'WAITING'))`},
		{"I1", "the command %s is not applied, since %s", `SELECT kind || ' ' || id || ' of ' || execution_id AS what, created_at AS since FROM commands
			WHERE applied_at IS NULL AND created_at < clock_timestamp() - $1::interval`},
		{"I7", "no runner is told that the step %s is stopped, since %s", `SELECT execution_id || '/' || step_index || '/' || iteration AS what, completed_at AS since FROM steps
			WHERE status = 'CANCELLED' AND sent > 0 AND completed_at < clock_timestamp() - $1::interval`},
		{"I1", "a timer of the step %s is due since %s", `SELECT * FROM (SELECT s.execution_id || '/' || s.step_index || '/' || s.iteration || ' (attempt ' || s.attempt || ')' AS what,
			least(s.wake_at, s.backstop, CASE WHEN e.status <> 'PAUSED' THEN s.retry_at END) AS since FROM executions e JOIN steps s ON s.execution_id = e.id
			WHERE e.completed_at IS NULL AND s.status = 'RUNNING') timers WHERE since < clock_timestamp() - $1::interval`},
		{"I1", "the step %s waits since %s for an execution that is not there", `SELECT s.execution_id || '/' || s.step_index || '/' || s.iteration AS what, s.started_at AS since
			FROM executions e JOIN steps s ON s.execution_id = e.id WHERE e.completed_at IS NULL AND s.status = 'RUNNING' AND s.child_id IS NOT NULL
			AND s.started_at < clock_timestamp() - $1::interval AND s.retry_at IS NULL AND NOT EXISTS (SELECT 1 FROM executions c WHERE c.id = s.child_id)`},
		{"I1", "the step %s waits for an execution that has ended, since %s", `SELECT s.execution_id || '/' || s.step_index || '/' || s.iteration AS what, c.completed_at AS since
			FROM executions e JOIN steps s ON s.execution_id = e.id JOIN executions c ON c.id = s.child_id
			WHERE e.completed_at IS NULL AND s.status = 'RUNNING' AND s.retry_at IS NULL AND c.completed_at < clock_timestamp() - $1::interval`},
	}
	idle, err := v.runnersIdle(ctx)
	if err != nil {
		return err
	}
	if idle { // else ready steps wait for their turn
		waits = append(waits, wait{"I1", "the step %s, ready since %s, is not sent", `SELECT s.execution_id || '/' || s.step_index || '/' || s.iteration || ' (attempt ' || s.attempt || ')' AS what,
			s.started_at AS since FROM executions e JOIN steps s ON s.execution_id = e.id WHERE e.completed_at IS NULL AND s.status = 'RUNNING' AND s.token <> ''
			AND s.sent = 0 AND s.child_id IS NULL AND s.started_at < clock_timestamp() - $1::interval`})
	}
	for _, w := range waits {
		rows, err := many[struct {
			What  string `db:"what"`
			Since string `db:"since"`
		}](ctx, v, fmt.Sprintf(`SELECT what, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since FROM (%s LIMIT %d) found`, w.query, told), v.old())
		if err != nil {
			return err
		}
		for _, r := range rows {
			found.say(w.promise, w.says, r.What, r.Since)
		}
	}
	return v.findUnpublished(ctx, found)
}

// runnersIdle tells whether STEPS has nothing for them.
func (v *verifier) runnersIdle(ctx context.Context) (bool, error) {
	if v.bus == nil {
		return v.Quiet, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	steps, err := v.ready(ctx, func(string, string, ...any) {}) // that it is not there is told already
	return err == nil && steps == 0, err
}

// findUnpublished looks at the oldest event of each partition that EVENTS has not taken.
func (v *verifier) findUnpublished(ctx context.Context, found *findings) error {
	rows, err := many[struct {
		Published uint64    `db:"published_n"`
		Events    []byte    `db:"events"`
		Now       time.Time `db:"now"`
	}](ctx, v, `SELECT t.published_n, e.events, clock_timestamp() AS now FROM partitions t JOIN execution_events e ON e.p = t.p
		AND e.n = (SELECT min(n) FROM execution_events c WHERE c.p = t.p AND c.n > t.published_n)`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		bodies, _ := event.Split(r.Events) // what does not decode is told of its execution
		for _, body := range bodies {
			e, err := promises.ParseEvent(body)
			if err == nil && e.N == r.Published+1 && (v.Quiet || r.Now.Sub(e.At) > v.Patience) {
				found.say("I7", "event %d of the partition %d is not published, since %s", e.N, e.P, e.At.Format(time.RFC3339))
			}
		}
	}
	return nil
}

// orphans checks that what belongs to an execution has one, as far as retention can not have deleted that.
func (v *verifier) orphans(ctx context.Context) error {
	for _, o := range []struct{ says, query string }{
		{"steps of the execution %s are there, and it is not", `SELECT DISTINCT s.execution_id FROM steps s WHERE s.execution_id >= $1 AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = s.execution_id)`},
		{"events of the execution %s are there, and it is not", `SELECT s.execution_id FROM execution_events s WHERE s.seq = s.event_count AND s.execution_id >= $1 AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = s.execution_id)`},
		{"commands of the execution %s are there, and it is not", `SELECT DISTINCT s.execution_id FROM commands s WHERE s.execution_id >= $1 AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = s.execution_id)`},
		{"the execution %s is of a step of an execution that is not there", `SELECT s.id FROM executions s WHERE s.id >= $1 AND s.completed_at IS NULL AND s.parent_execution_id IS NOT NULL
			AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = s.parent_execution_id)`},
		// Its cancel comes with the commit by which nobody waits for it; when that is not applied, it is told so.
		{"the execution %s runs on, nobody waits for it any more, and it has no cancel", `SELECT c.id FROM executions c WHERE c.id >= $1 AND c.completed_at IS NULL AND c.parent_token IS NOT NULL AND NOT c.detached
			AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.execution_id = c.parent_execution_id AND s.child_id = c.id AND s.status = 'RUNNING')
			AND NOT EXISTS (SELECT 1 FROM commands k WHERE k.execution_id = c.id AND k.kind = 'CANCEL')`},
	} {
		rows, err := many[string](ctx, v, fmt.Sprintf(`%s LIMIT %d`, o.query, told), v.kept())
		if err != nil {
			return err
		}
		for _, id := range rows {
			v.say("I2", o.says, id)
		}
		v.tell(false)
	}
	return nil
}

// limits checks the slots of concurrency limits, which change in one transaction with the executions that have them or wait for them.
func (v *verifier) limits(ctx context.Context) error {
	for _, l := range []struct{ promise, says, query string }{
		{"I1", "%s wait for a slot that is free", `SELECT 'executions of the workflow ' || g.workflow_id || ' under the key ' || encode(g.key, 'escape') FROM concurrency_groups g
			WHERE g.held < g.max AND EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.workflow_id = g.workflow_id AND s.key = g.key AND s.state = 'WAITING')`},
		{"I6", "%s", `SELECT 'the workflow ' || workflow_id || ' under the key ' || encode(key, 'escape') || ' counts ' || coalesce(g.held, 0) || ' slots that are held, and '
			|| coalesce(s.held, 0) || ' are' FROM concurrency_groups g FULL JOIN (SELECT workflow_id, key, count(*) FILTER (WHERE state = 'HELD') AS held
			FROM concurrency_slots GROUP BY 1, 2) s USING (workflow_id, key) WHERE coalesce(g.held, 0) <> coalesce(s.held, 0) OR g.max IS NULL OR s.held IS NULL`},
		{"I7", "the execution %s has ended, and has a place under a limit", `SELECT s.execution_id FROM concurrency_slots s JOIN executions e ON e.id = s.execution_id WHERE e.completed_at IS NOT NULL`},
		{"I2", "the execution %s has a place under a limit, and is not there", `SELECT s.execution_id FROM concurrency_slots s
			WHERE NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = s.execution_id)`},
		{"I2", "the execution %s has a limit and no place under it", `SELECT e.id FROM executions e WHERE e.limited AND e.completed_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM concurrency_slots s WHERE s.execution_id = e.id)`},
	} {
		rows, err := many[string](ctx, v, fmt.Sprintf(`%s LIMIT %d`, l.query, told))
		if err != nil {
			return err
		}
		for _, what := range rows {
			v.say(l.promise, l.says, what)
		}
		v.tell(false)
	}
	return nil
}

func (v *verifier) deadLetters(ctx context.Context) error {
	rows, err := many[DeadLetter](ctx, v, fmt.Sprintf(`SELECT p, subject, reason, created_at FROM dead_letters ORDER BY created_at DESC, id LIMIT %d`, MaxDeadLetters))
	v.report.DeadLetters = append(v.report.DeadLetters, rows...)
	return err
}
