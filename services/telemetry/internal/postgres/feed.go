package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/services/telemetry/internal/feed"
)

// Feed keeps the feeds of users. It is safe for concurrent use.
type Feed struct{ db *sqlx.DB }

// NewFeed makes a store over telemetry's schema.
func NewFeed(db *sqlx.DB) *Feed { return &Feed{db: db} }

// Hold implements feed.Store.
func (s *Feed) Hold(ctx context.Context, owner string) (numbers feed.Numbers, held bool, err error) {
	return turnOfFeed.hold(ctx, s.db, owner)
}

// Append implements feed.Store.
func (s *Feed) Append(ctx context.Context, owner string, from feed.Numbers, events []feed.Event) (map[string]uint64, error) {
	rows := feed.Rows(events)
	ends := map[string]uint64{}
	err := postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		clear(ends)
		if err := turnOfFeed.advance(ctx, tx, owner, from, events); err != nil {
			return err
		}
		if err := grow(ctx, tx, rows, ends); err != nil {
			return err
		}
		return insertFeed(ctx, tx, rows, ends)
	})
	return ends, err
}

// grow counts the events of rows, and gives where the feeds end.
func grow(ctx context.Context, tx *sqlx.Tx, rows []feed.Row, ends map[string]uint64) error {
	counts := map[string]int64{}
	var users []string
	for _, r := range rows {
		if counts[r.UserID] == 0 {
			users = append(users, r.UserID)
		}
		counts[r.UserID] += int64(r.Count)
	}
	n := make([]int64, len(users))
	for i, user := range users {
		n[i] = counts[user]
	}
	var found []struct {
		UserID string `db:"user_id"`
		Seq    uint64 `db:"seq"`
	}
	if err := tx.SelectContext(ctx, &found, `INSERT INTO feed_ends AS t (user_id, seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])
		ON CONFLICT (user_id) DO UPDATE SET seq = t.seq + excluded.seq RETURNING user_id, seq`, pq.Array(users), pq.Array(n)); err != nil {
		return err
	}
	for _, f := range found {
		ends[f.UserID] = f.Seq
	}
	return nil
}

func insertFeed(ctx context.Context, tx *sqlx.Tx, rows []feed.Row, ends map[string]uint64) error {
	users, ids, batches := make([]string, len(rows)), make([]string, len(rows)), make([][]byte, len(rows))
	seqs, counts := make([]int64, len(rows)), make([]int64, len(rows))
	last := map[string]uint64{}
	for i := len(rows) - 1; i >= 0; i-- { // the last row of a user ends where the feed does
		r := rows[i]
		if _, seen := last[r.UserID]; !seen {
			last[r.UserID] = ends[r.UserID]
		}
		users[i], ids[i], batches[i], seqs[i], counts[i] = r.UserID, r.ID, r.Events, int64(last[r.UserID]), int64(r.Count)
		last[r.UserID] -= uint64(r.Count)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO feed (user_id, seq, id, event_count, events) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[], $5::bytea[])`,
		pq.Array(users), pq.Array(seqs), pq.Array(ids), pq.Array(counts), pq.ByteaArray(batches))
	return err
}

// What one answer looks at, at most: rows, and bytes of events in it.
const (
	maxFeedRows  = 256
	maxFeedBytes = 4 << 20
)

// Read reads a user's feed.
func (s *Feed) Read(ctx context.Context, userID string, req telemetry.FeedRequest) (telemetry.FeedResponse, error) {
	out := telemetry.FeedResponse{Events: []telemetry.FeedEvent{}, Cursor: req.After}
	var end uint64
	err := s.db.GetContext(ctx, &end, `SELECT seq FROM feed_ends WHERE user_id = $1`, userID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		out.Cursor = 0 // whoever has another one has it of an installation that was there before
		return out, nil
	case err != nil:
		return out, postgres.Translate(err)
	case req.Latest || req.After > end:
		out.Cursor = end
		return out, nil
	}
	if req.Since != nil {
		if out.Cursor, err = s.before(ctx, userID, *req.Since, end); err != nil {
			return out, err
		}
	}
	after := out.Cursor
	rows, err := s.db.QueryxContext(ctx, `SELECT seq, event_count, events FROM feed WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, userID, int64(min(after, math.MaxInt64)), maxFeedRows)
	if err != nil {
		return out, postgres.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	kept := false
	for rows.Next() {
		var r feedRow
		if err := rows.StructScan(&r); err != nil {
			return out, postgres.Translate(err)
		}
		if begins := r.Seq - uint64(r.Count); !kept && begins > after {
			out.Skipped = begins - after
		}
		kept = true
		full, err := r.add(&out, after, req)
		if err != nil {
			return out, fmt.Errorf("the feed of %s up to %d: %w", userID, r.Seq, err)
		}
		if full {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return out, postgres.Translate(err)
	}
	if !kept {
		out.Skipped, out.Cursor = end-after, end
	}
	out.More = out.Cursor < end
	return out, nil
}

type feedRow struct {
	Seq    uint64 `db:"seq"`
	Count  int    `db:"event_count"`
	Events []byte `db:"events"`
}

// add puts the events of a row behind a cursor into an answer, and tells whether it is full.
func (r feedRow) add(out *telemetry.FeedResponse, after uint64, req telemetry.FeedRequest) (full bool, err error) {
	bodies, err := event.Split(r.Events)
	if err != nil {
		return false, err
	}
	limit := telemetry.MaxFeed
	if req.Limit > 0 {
		limit = min(req.Limit, limit)
	}
	size := 0
	for _, e := range out.Events {
		size += len(e.Body)
	}
	for i, body := range bodies {
		cursor := r.Seq - uint64(len(bodies)-1-i)
		if cursor <= after {
			continue
		}
		var e struct {
			Type string    `json:"type"`
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(body, &e); err != nil {
			return false, err
		}
		wanted := len(req.Types) == 0 || slices.Contains(req.Types, e.Type)
		if req.Since != nil && e.Time.Before(*req.Since) {
			wanted = false // it was taken in together with later ones
		}
		if wanted {
			if size += len(body); len(out.Events) == limit || size > maxFeedBytes && len(out.Events) > 0 {
				return true, nil
			}
			out.Events = append(out.Events, telemetry.FeedEvent{Cursor: cursor, Type: e.Type, Body: body})
		}
		out.Cursor = cursor
	}
	return false, nil
}

// before gives the cursor behind which a time begins. Ids have the time of their events, to the millisecond, and what was taken in
// at about one time may have them in another order.
func (s *Feed) before(ctx context.Context, userID string, since time.Time, end uint64) (uint64, error) {
	var begins *uint64
	err := s.db.GetContext(ctx, &begins, `SELECT min(begins) FROM (SELECT seq - event_count AS begins FROM feed WHERE user_id = $1 AND id >= $2 ORDER BY id LIMIT 200) x`,
		userID, weekly.IDAt(since))
	if begins == nil || err != nil {
		return end, postgres.Translate(err)
	}
	return *begins, nil
}
