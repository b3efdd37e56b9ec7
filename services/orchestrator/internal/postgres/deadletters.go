package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/orchestrator/internal/partition"
)

func insertDeadLetters(ctx context.Context, tx *postgres.PreparedTx, letters []partition.DeadLetter) error {
	for _, d := range letters {
		headers, body := event.HeaderMap(d.Headers, d.Body)
		encoded, err := json.Marshal(headers)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO dead_letters (p, seq, subject, headers, body, code, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			d.P, d.Seq, plain(d.Subject), encoded, nonNil(body), d.Code, plain(d.Reason)); err != nil {
			return err
		}
	}
	return nil
}

var deadTable = listing.Table{From: "dead_letters", ID: "id", Columns: map[string]listing.Column{"createdAt": {SQL: "created_at", Kind: listing.Time}}}

const deadColumns = `id, code, reason, p, seq, subject, headers, length(body) AS size, replays, replayed_at, created_at`

type deadRow struct {
	ID         string       `db:"id"`
	Code       string       `db:"code"`
	Reason     string       `db:"reason"`
	P          int          `db:"p"`
	Seq        uint64       `db:"seq"`
	Subject    string       `db:"subject"`
	Headers    []byte       `db:"headers"`
	Size       int          `db:"size"`
	Replays    int          `db:"replays"`
	ReplayedAt sql.NullTime `db:"replayed_at"`
	CreatedAt  time.Time    `db:"created_at"`
	listing.Key
}

func (r deadRow) letter() orchestrator.DeadLetter {
	d := orchestrator.DeadLetter{
		ID: r.ID, Reason: r.Code, Message: r.Reason, Partition: r.P, Sequence: r.Seq, Subject: r.Subject, Headers: map[string][]string{}, Size: r.Size,
		Replays: r.Replays, ReplayedAt: utc(r.ReplayedAt.Time, r.ReplayedAt.Valid), CreatedAt: r.CreatedAt.UTC(),
	}
	_ = json.Unmarshal(r.Headers, &d.Headers) // what earlier versions kept of some is nothing
	return d
}

// DeadLetters implements deadletter.Store.
func (s *Store) DeadLetters(ctx context.Context, req orchestrator.DeadLettersRequest) (rpc.List[orchestrator.DeadLetter], error) {
	var list rpc.List[orchestrator.DeadLetter]
	var faults form.Faults
	page := deadTable.Parse(req.Page, &faults)
	listing.Enum("reason", req.Reason, orchestrator.DeadReasons(), &faults)
	listing.Enum("replayed", req.Replayed, []string{"true", "false"}, &faults)
	if err := faults.Err("query"); err != nil {
		return list, err
	}
	var where listing.Where
	if req.Reason != "" {
		where.And("code = ?", req.Reason)
	}
	if replayed, err := strconv.ParseBool(req.Replayed); err == nil {
		where.And("(replays > 0) = ?", replayed)
	}
	rows, pagination, err := listing.Select[deadRow](ctx, s.lists, page, deadColumns, where)
	if err != nil {
		return list, err
	}
	list = rpc.List[orchestrator.DeadLetter]{Items: make([]orchestrator.DeadLetter, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.letter()
	}
	return list, nil
}

// DeadLetter implements deadletter.Store.
func (s *Store) DeadLetter(ctx context.Context, id string) (d orchestrator.DeadLetter, body []byte, err error) {
	var r struct {
		deadRow
		Body []byte `db:"body"`
	}
	if len(validUUIDs([]string{id})) == 0 {
		return d, nil, errs.New(errs.NotFound, "dead letter not found")
	}
	if err := s.lists.GetContext(ctx, &r, `SELECT `+deadColumns+`, body FROM dead_letters WHERE id = $1`, id); err != nil {
		return d, nil, notFound(err, "dead letter")
	}
	return r.letter(), r.Body, nil
}

// CountDeadLetters implements deadletter.Store.
func (s *Store) CountDeadLetters(ctx context.Context) ([]orchestrator.DeadLetterCount, error) {
	var rows []struct {
		Code     string    `db:"code"`
		Count    int       `db:"count"`
		Replayed int       `db:"replayed"`
		Oldest   time.Time `db:"oldest"`
		Newest   time.Time `db:"newest"`
	}
	if err := s.lists.SelectContext(ctx, &rows, `SELECT code, count(*), count(*) FILTER (WHERE replays > 0) AS replayed, min(created_at) AS oldest, max(created_at) AS newest
		FROM dead_letters GROUP BY code`); err != nil {
		return nil, postgres.Translate(err)
	}
	counts := make([]orchestrator.DeadLetterCount, 0, len(rows))
	for _, reason := range orchestrator.DeadReasons() {
		c := orchestrator.DeadLetterCount{Reason: reason}
		for _, r := range rows {
			if r.Code == reason {
				c.Count, c.Replayed, c.Oldest, c.Newest = r.Count, r.Replayed, utc(r.Oldest, true), utc(r.Newest, true)
			}
		}
		counts = append(counts, c)
	}
	return counts, nil
}

// NoteReplay implements deadletter.Store.
func (s *Store) NoteReplay(ctx context.Context, id string) (d orchestrator.DeadLetter, err error) {
	err = postgres.InTx(ctx, s.lists, func(tx *sqlx.Tx) error {
		var r deadRow
		if err := tx.GetContext(ctx, &r, `UPDATE dead_letters SET replays = replays + 1, replayed_at = now() WHERE id = $1 RETURNING `+deadColumns, id); err != nil {
			return notFound(err, "dead letter")
		}
		d = r.letter()
		if err := trail.Record(ctx, tx, trail.Deed{Action: audit.DeadLetterReplayed, ResourceID: id, After: map[string]any{"replays": d.Replays}}); err != nil {
			return fmt.Errorf("record the replay: %w", err)
		}
		return nil
	})
	return d, err
}
