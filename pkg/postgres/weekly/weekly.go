// Package weekly keeps tables in partitions of a week, by the UUIDv7 that says when a row was begun, and drops the weeks
// whose time is over.
//
// Each table is partitioned by RANGE of its key and has a DEFAULT partition named <table>_default, which has the storage options
// of all and catches keys of which there is no week: of a clock that is far off, or older than what was dropped. A week is made
// before it begins. Whoever makes or drops one locks the table itself for a moment, at most lockWait until it has the lock, so that
// statements of others wait for no longer than that; when it has none by then it gives up and tries again later.
package weekly

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/pkg/postgres"
)

const (
	week = 7 * 24 * time.Hour
	// ahead is for how long after now there are weeks.
	ahead = 2 * week
	// lockWait bounds how long a statement of others stands behind ours in the queue of a lock.
	lockWait = "200ms"
	// maxMoved is how many rows of a table are moved from DEFAULT into the week that is made for them. Where there are more they
	// stay, and the week is not made.
	maxMoved = 10_000
)

// Tables are partitioned tables of one schema whose rows belong together: those of a week are dropped in one transaction.
type Tables struct {
	DB    *sqlx.DB
	Names []string // in the order in which transactions touch them, so that nobody waits for another in a circle
}

// Week is the partition of each table for the keys that were made From a time To another.
type Week struct {
	From, To time.Time // From is zero for what was there before there were weeks

	partitions []partition
}

// FromID and ToID are the bounds of its keys; ToID is beyond them.
func (w Week) FromID() string { return IDAt(w.From) }

// ToID is the lowest key after the week.
func (w Week) ToID() string { return IDAt(w.To) }

// IDAt gives the lowest UUIDv7 of a time; the lowest of all for none.
func IDAt(t time.Time) string {
	var id uuid.UUID
	if t.IsZero() {
		return id.String()
	}
	ms := t.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id.String()
}

// TimeOf gives the time that a UUIDv7 was made.
func TimeOf(id string) (time.Time, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 {
		return time.Time{}, fmt.Errorf("%q is no UUID", id)
	}
	ms := int64(0)
	for _, c := range b[:6] {
		ms = ms<<8 | int64(c)
	}
	return time.UnixMilli(ms).UTC(), nil
}

type partition struct {
	table, name string
	from, to    time.Time
}

func (p partition) covers(from, to time.Time) bool { return !p.from.After(from) && !p.to.Before(to) }

const bound = `'([0-9a-f-]{36})'`

func (t Tables) partitions(ctx context.Context, q sqlx.QueryerContext) ([]partition, error) {
	var rows []struct {
		Parent string `db:"parent"`
		Name   string `db:"name"`
		From   string `db:"low"`
		To     string `db:"high"`
	}
	if err := sqlx.SelectContext(ctx, q, &rows, `SELECT parent, name, coalesce(substring(bounds FROM $2), '') AS low, coalesce(substring(bounds FROM $3), '') AS high FROM (
			SELECT p.relname AS parent, c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
			WHERE p.relnamespace = current_schema()::regnamespace AND p.relname = ANY($1) AND p.relkind = 'p' AND c.relkind = 'r') s
		WHERE bounds <> 'DEFAULT'`, pq.Array(t.Names), `FROM \(`+bound, `TO \(`+bound); err != nil {
		return nil, postgres.Translate(err)
	}
	out := make([]partition, len(rows))
	for i, r := range rows {
		out[i] = partition{table: r.Parent, name: r.Name}
		var err error
		if out[i].to, err = TimeOf(r.To); err != nil {
			return nil, err
		}
		if r.From != "" {
			if out[i].from, err = TimeOf(r.From); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// Weeks gives the weeks that there are, the oldest first.
func (t Tables) Weeks(ctx context.Context) ([]Week, error) {
	all, err := t.partitions(ctx, t.DB)
	if err != nil {
		return nil, err
	}
	var weeks []Week
	for _, p := range all {
		i := slices.IndexFunc(weeks, func(w Week) bool { return w.From.Equal(p.from) && w.To.Equal(p.to) })
		if i < 0 {
			weeks = append(weeks, Week{From: p.from, To: p.to})
			i = len(weeks) - 1
		}
		weeks[i].partitions = append(weeks[i].partitions, p)
	}
	slices.SortFunc(weeks, func(a, b Week) int { return a.To.Compare(b.To) })
	return weeks, nil
}

// Make makes the weeks from now on that are missing, and tells how many partitions it has made. An error says what could not be made;
// the others are. Safe to repeat, and by several at once.
func (t Tables) Make(ctx context.Context, now time.Time) (made int, err error) {
	there, err := t.partitions(ctx, t.DB)
	if err != nil {
		return 0, err
	}
	var failed []error
	for from := now.UTC().Truncate(week); !from.After(now.Add(ahead)); from = from.Add(week) { // a Monday: so Truncate counts
		for _, table := range t.Names {
			if slices.ContainsFunc(there, func(p partition) bool { return p.table == table && p.covers(from, from.Add(week)) }) {
				continue
			}
			done, err := t.make(ctx, table, from)
			if err != nil {
				failed = append(failed, fmt.Errorf("make the week of %s of %s: %w", from.Format(time.DateOnly), table, err))
			}
			if done {
				made++
			}
		}
	}
	return made, errors.Join(failed...)
}

func (t Tables) make(ctx context.Context, table string, from time.Time) (made bool, err error) {
	name, parent, rest := pq.QuoteIdentifier(table+from.Format("_20060102")), pq.QuoteIdentifier(table), pq.QuoteIdentifier(table+"_default")
	low, high := pq.QuoteLiteral(IDAt(from)), pq.QuoteLiteral(IDAt(from.Add(week)))
	err = postgres.InTx(ctx, t.DB, func(tx *sqlx.Tx) error {
		if mine, err := t.alone(ctx, tx); err != nil || !mine {
			return err
		}
		var there bool
		if err := tx.GetContext(ctx, &there, `SELECT to_regclass($1) IS NOT NULL`, name); err != nil || there {
			return err
		}
		var options sql.NullString
		var key string
		if err := tx.QueryRowxContext(ctx, `SELECT (SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = $1::regclass),
			substring(pg_get_partkeydef($2::regclass) FROM '\((.*)\)')`, rest, parent).Scan(&options, &key); err != nil {
			return err
		}
		create := fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL)`, name, rest)
		if options.String != "" {
			create += ` WITH (` + options.String + `)`
		}
		within := fmt.Sprintf(`WHERE %s >= %s AND %s < %s`, key, low, key, high)
		for _, statement := range []string{
			create,
			`SET LOCAL lock_timeout = '` + lockWait + `'`,
			// Who has the table itself has everything that goes through it, which is everything.
			fmt.Sprintf(`LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE`, parent),
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		var strays int
		if err := tx.GetContext(ctx, &strays, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %s %s LIMIT %d) s`, rest, within, maxMoved+1)); err != nil {
			return err
		}
		if strays > maxMoved {
			return fmt.Errorf("%s has more than %d rows of it, which stay there until their time is over", rest, maxMoved)
		}
		for _, statement := range []string{
			fmt.Sprintf(`WITH gone AS (DELETE FROM %s %s RETURNING *) INSERT INTO %s SELECT * FROM gone`, rest, within, name),
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)`, parent, name, low, high),
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		made = true
		return nil
	})
	return made && err == nil, err
}

// alone tells whether nobody else makes or drops weeks of the schema; nobody does then until the transaction ends.
func (t Tables) alone(ctx context.Context, tx *sqlx.Tx) (mine bool, err error) {
	err = tx.GetContext(ctx, &mine, `SELECT pg_try_advisory_xact_lock(hashtextextended('weekly ' || current_schema(), 0))`)
	return mine, err
}

// Drop drops a week with all of its rows when over says so, and tells how many bytes it had. over is asked twice: before the tables are locked,
// and when nobody can change anything any more. Nothing is dropped while another makes or drops weeks. Safe to repeat.
func (t Tables) Drop(ctx context.Context, w Week, over func(context.Context, sqlx.QueryerContext, Week) (bool, error)) (dropped bool, bytes int64, err error) {
	if is, err := over(ctx, t.DB, w); err != nil || !is {
		return false, 0, postgres.Translate(err)
	}
	err = postgres.InTx(ctx, t.DB, func(tx *sqlx.Tx) error {
		mine, err := t.alone(ctx, tx)
		if err != nil || !mine {
			return err
		}
		locks, drops := make([]string, 0, len(t.Names)), make([]string, 0, len(w.partitions))
		for _, table := range t.Names {
			locks = append(locks, "ONLY "+pq.QuoteIdentifier(table))
		}
		for _, p := range w.partitions {
			var size int64
			name := pq.QuoteIdentifier(p.name)
			if err := tx.GetContext(ctx, &size, `SELECT coalesce(pg_total_relation_size(to_regclass($1)), 0)`, name); err != nil {
				return err
			}
			bytes += size
			drops = append(drops, name)
		}
		if _, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout = '`+lockWait+`'`); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `LOCK TABLE `+strings.Join(locks, ", ")+` IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		if dropped, err = over(ctx, tx, w); err != nil || !dropped {
			return err
		}
		_, err = tx.ExecContext(ctx, `DROP TABLE IF EXISTS `+strings.Join(drops, ", "))
		return err
	})
	if err != nil || !dropped {
		return false, 0, err
	}
	return true, bytes, nil
}
