package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/pkg/selection"
	"turbocat.io/services/telemetry/internal/webhook"
)

type deliveryRow struct {
	ID         string         `db:"id"`
	WebhookID  string         `db:"webhook_id"`
	EventID    string         `db:"event_id"`
	EventType  string         `db:"event_type"`
	Subject    string         `db:"subject"`
	Event      []byte         `db:"event"`
	Status     string         `db:"status"`
	Attempts   int            `db:"attempts"`
	Log        string         `db:"log"`
	ReplayOf   sql.NullString `db:"replay_of"`
	CreatedAt  time.Time      `db:"created_at"`
	FinishedAt sql.NullTime   `db:"finished_at"`
	DueAt      sql.NullTime   `db:"due_at"`
	listing.Key
}

func (r deliveryRow) delivery() (telemetry.Delivery, error) {
	d := telemetry.Delivery{
		ID: r.ID, WebhookID: r.WebhookID, EventID: r.EventID, EventType: r.EventType, Subject: r.Subject, Status: r.Status, Attempts: r.Attempts, CreatedAt: r.CreatedAt.UTC(), Event: r.Event,
	}
	if r.ReplayOf.Valid {
		d.ReplayOf = &r.ReplayOf.String
	}
	if at := zeroTime(r.FinishedAt); r.FinishedAt.Valid {
		d.FinishedAt = &at
	}
	if at := zeroTime(r.DueAt); r.DueAt.Valid {
		d.NextAttemptAt = &at
	}
	if r.Log == "" {
		return d, nil
	}
	return d, json.Unmarshal([]byte(r.Log), &d.Log)
}

const deliveryColumns = `d.id, d.webhook_id, d.event_id, d.event_type, d.subject, d.status, d.attempts, d.replay_of, d.created_at, d.finished_at,
	(SELECT q.due_at FROM webhook_queue q WHERE q.delivery_id = d.id) AS due_at`

// Deliveries implements webhook.Store.
func (s *Webhooks) Deliveries(ctx context.Context, q telemetry.ListDeliveriesRequest) (rpc.List[telemetry.Delivery], error) {
	var faults form.Faults
	page := listing.Table{From: "webhook_deliveries d", ID: "d.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "d.created_at", Kind: listing.Time},
	}}.Parse(q.Page, &faults)
	listing.Enum("status", q.Status, telemetry.DeliveryStatuses(), &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[telemetry.Delivery]{}, err
	}
	var where listing.Where
	where.And("d.webhook_id = ?", q.WebhookID)
	if q.Status != "" {
		where.And("d.status = ?", q.Status)
	}
	if q.Search != "" {
		where.Look("d.event_type || ' ' || d.subject ILIKE ?", listing.Contains(q.Search))
	}
	rows, pagination, err := listing.Select[deliveryRow](ctx, s.db, page, deliveryColumns, where)
	list := rpc.List[telemetry.Delivery]{Items: make([]telemetry.Delivery, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i], _ = r.delivery() // without a log
	}
	return list, err
}

// Delivery implements webhook.Store.
func (s *Webhooks) Delivery(ctx context.Context, webhookID, id string) (telemetry.Delivery, error) {
	var row deliveryRow
	err := s.db.GetContext(ctx, &row, `SELECT `+deliveryColumns+`, d.event, d.log FROM webhook_deliveries d WHERE d.id = $1 AND d.webhook_id = $2`, id, webhookID)
	if err != nil {
		return telemetry.Delivery{}, unknown(err)
	}
	return row.delivery()
}

// Record implements webhook.Store.
func (s *Webhooks) Record(ctx context.Context, d telemetry.Delivery) error {
	log, err := json.Marshal(d.Log)
	if err != nil {
		return err
	}
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		var owner string
		if err := tx.GetContext(ctx, &owner, `SELECT user_id FROM webhooks WHERE id = $1`, d.WebhookID); err != nil {
			return unknown(err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, subject, event, status, attempts, log, created_at, finished_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, d.ID, d.WebhookID, d.EventID, d.EventType, d.Subject, []byte(d.Event), d.Status, d.Attempts, string(log), d.CreatedAt, d.FinishedAt); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Deed{Action: audit.WebhookTested, ResourceID: d.WebhookID, OwnerID: owner})
	})
}

// Again implements webhook.Store.
func (s *Webhooks) Again(ctx context.Context, d telemetry.Delivery) (telemetry.Delivery, error) {
	id := uuid.Must(uuid.NewV7()).String()
	err := postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		w, now, err := lock(ctx, tx, d.WebhookID)
		if err != nil {
			return err
		}
		if err := enqueue(ctx, tx, w.ID, now, []queued{{ID: id, EventID: d.EventID, Type: d.EventType, Subject: d.Subject, Event: d.Event, ReplayOf: d.ID}}); err != nil {
			return err
		}
		w.Pending++
		if err := trail.Record(ctx, tx, trail.Deed{Action: audit.WebhookReplayed, ResourceID: w.ID, OwnerID: w.UserID, After: map[string]any{"deliveryId": d.ID}}); err != nil {
			return err
		}
		return save(ctx, tx, w)
	})
	if err != nil {
		return telemetry.Delivery{}, err
	}
	return s.Delivery(ctx, d.WebhookID, id)
}

// maxReplayed is how many events of a feed a replay looks at, at most.
const maxReplayed = 10_000

// Replay implements webhook.Store.
func (s *Webhooks) Replay(ctx context.Context, w webhook.Webhook, q telemetry.ReplayWebhookRequest) (telemetry.ReplayedEvents, error) {
	selector, err := w.Compile()
	if err != nil {
		return telemetry.ReplayedEvents{}, errs.New(errs.Conflict, "the filter of the webhook does not compile any more; correct it first: %s", err)
	}
	until := w.Cursor // what is behind it comes anyway
	if q.Until != nil && *q.Until > 0 {
		until = min(until, *q.Until)
	}
	req := telemetry.FeedRequest{Since: q.From, Limit: telemetry.MaxFeed}
	if q.After != nil {
		req.After = *q.After
	}
	var events []telemetry.FeedEvent
	out := telemetry.ReplayedEvents{Cursor: req.After}
	room := max(webhook.MaxPending-w.Pending, 0)
	for looked, more := 0, true; more && looked < maxReplayed && len(events) < room; {
		read, err := s.feeds.Read(ctx, w.UserID, req)
		if err != nil {
			return telemetry.ReplayedEvents{}, err
		}
		full := false
		for _, e := range read.Events {
			if full = e.Cursor <= until && len(events) == room; full || e.Cursor > until {
				break
			}
			looked++
			out.Cursor = e.Cursor
			if q.To != nil && !happenedBefore(e.Body, *q.To) { // about one time, events may have another order
				continue
			}
			if wanted, err := selector.Wants(e.Type, e.Body); err == nil && wanted {
				events = append(events, e)
			}
		}
		more = !full && read.More && read.Cursor < until
		req = telemetry.FeedRequest{After: read.Cursor, Limit: telemetry.MaxFeed}
		out.More = full || more
	}
	out.Deliveries = len(events)
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		w, now, err := lock(ctx, tx, w.ID)
		if err != nil {
			return err
		}
		if err := enqueue(ctx, tx, w.ID, now, queuedOf(events)); err != nil {
			return err
		}
		w.Pending += len(events)
		if err := trail.Record(ctx, tx, trail.Deed{Action: audit.WebhookReplayed, ResourceID: w.ID, OwnerID: w.UserID, After: out}); err != nil {
			return err
		}
		return save(ctx, tx, w)
	})
	return out, err
}

// happenedBefore tells whether an event is of a time before another.
func happenedBefore(body json.RawMessage, at time.Time) bool {
	var e struct {
		Time time.Time `json:"time"`
	}
	return json.Unmarshal(body, &e) == nil && e.Time.Before(at)
}

// queued is an event that is to become a delivery.
type queued struct {
	ID, EventID, Type, Subject string
	Event                      []byte
	ReplayOf                   string
}

func queuedOf(events []telemetry.FeedEvent) []queued {
	all := make([]queued, len(events))
	for i, e := range events {
		var named struct {
			ID      string `json:"id"`
			Source  string `json:"source"`
			Subject string `json:"subject"`
		}
		_ = json.Unmarshal(e.Body, &named)  // what is in a feed was read before
		if uuid.Validate(named.ID) != nil { // one from outside, of which only source and id together are its own
			named.ID = uuid.NewSHA1(uuid.NameSpaceURL, []byte(named.Source+" "+named.ID)).String()
		}
		all[i] = queued{ID: uuid.Must(uuid.NewV7()).String(), EventID: named.ID, Type: e.Type, Subject: named.Subject, Event: e.Body}
	}
	return all
}

// enqueue makes deliveries for a webhook that is under its lock. The first of each subject is due at once, unless one waits before it.
func enqueue(ctx context.Context, tx *sqlx.Tx, webhookID string, now time.Time, deliveries []queued) error {
	n := len(deliveries)
	if n == 0 {
		return nil
	}
	ids, events, types, subjects, replays := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]sql.NullString, n)
	bodies, first, seen := make([][]byte, n), make([]bool, n), map[string]bool{}
	for i, d := range deliveries {
		ids[i], events[i], types[i], subjects[i], replays[i], bodies[i] = d.ID, d.EventID, d.Type, d.Subject, nullText(d.ReplayOf), d.Event
		first[i], seen[d.Subject] = !seen[d.Subject], true
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_deliveries (id, webhook_id, event_id, event_type, subject, event, status, replay_of, created_at)
		SELECT v.id, $1, v.event_id, v.event_type, v.subject, v.event, 'PENDING', v.replay_of, $2 FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::uuid[])
			v(id, event_id, event_type, subject, event, replay_of)`,
		webhookID, now, pq.Array(ids), pq.Array(events), pq.Array(types), pq.Array(subjects), pq.ByteaArray(bodies), pq.Array(replays)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO webhook_queue (webhook_id, key, delivery_id, due_at)
		SELECT $1, v.key, v.id, CASE WHEN v.first AND NOT EXISTS (SELECT FROM webhook_queue q WHERE q.webhook_id = $1 AND q.key = v.key) THEN $2::timestamptz END
		FROM unnest($3::text[], $4::uuid[], $5::boolean[]) WITH ORDINALITY v(key, id, first, place) ORDER BY v.place`,
		webhookID, now, pq.Array(subjects), pq.Array(ids), pq.Array(first))
	return err
}

// Behind implements webhook.Source.
func (s *Webhooks) Behind(ctx context.Context, users []string) ([]string, error) {
	var ids []string
	err := s.db.SelectContext(ctx, &ids, `SELECT w.id FROM webhooks w JOIN feed_ends f ON f.user_id = w.user_id
		WHERE w.enabled AND w.cursor < f.seq AND w.pending < $1 AND ($2 OR w.user_id = ANY($3::uuid[])) ORDER BY w.id`, webhook.MaxPending, len(users) == 0, pq.Array(users))
	return ids, postgres.Translate(err)
}

// expandAtOnce is how many events of a feed become deliveries in one transaction, at most.
const expandAtOnce = 500

// Expand implements webhook.Source.
func (s *Webhooks) Expand(ctx context.Context, id string) (made int, more bool, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		made, more = 0, false
		var row webhookRow
		err := tx.GetContext(ctx, &row, `SELECT `+webhookColumns+` FROM webhooks w WHERE w.id = $1 AND w.enabled FOR NO KEY UPDATE`, id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		w := row.webhook()
		room := min(webhook.MaxPending-w.Pending, expandAtOnce)
		if room <= 0 {
			return nil
		}
		read, err := s.feeds.Read(ctx, w.UserID, telemetry.FeedRequest{After: w.Cursor, Limit: room})
		if err != nil {
			return err
		}
		selector, err := w.Compile()
		if err != nil {
			w.FilterError = err.Error()
			selector = selection.Selector{}
			read.Events = nil
		}
		wanted := slices.DeleteFunc(read.Events, func(e telemetry.FeedEvent) bool {
			wants, err := selector.Wants(e.Type, e.Body)
			if err != nil {
				w.FilterError = err.Error()
			}
			return !wants
		})
		if err := enqueue(ctx, tx, w.ID, row.Now.UTC(), queuedOf(wanted)); err != nil {
			return err
		}
		made, more = len(wanted), read.More && w.Pending+len(wanted) < webhook.MaxPending
		w.Cursor, w.Pending, w.Skipped = read.Cursor, w.Pending+made, w.Skipped+read.Skipped
		return save(ctx, tx, w)
	})
	return made, more, err
}

// Claim implements webhook.Queue.
func (s *Webhooks) Claim(ctx context.Context, most int, longest time.Duration) (jobs []webhook.Job, wait time.Duration, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		jobs, wait = nil, 0
		var row webhookRow
		err := tx.GetContext(ctx, &row, `SELECT `+webhookColumns+` FROM webhooks w WHERE w.look_at <= clock_timestamp() ORDER BY w.look_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED`)
		if errors.Is(err, sql.ErrNoRows) {
			var us int64
			err := tx.GetContext(ctx, &us, `SELECT coalesce(ceil(extract(epoch FROM min(look_at) - clock_timestamp()) * 1000000), $1)::bigint FROM webhooks WHERE look_at IS NOT NULL`, longest.Microseconds())
			wait = min(max(time.Duration(us)*time.Microsecond, 0), longest)
			return err
		}
		if err != nil {
			return err
		}
		jobs, err = claim(ctx, tx, row.webhook(), row.Now.UTC(), most)
		return err
	})
	return jobs, wait, err
}

// claim leases deliveries of a webhook that is under its lock, as many as there is room for, up to most, and saves the webhook.
func claim(ctx context.Context, tx *sqlx.Tx, w webhook.Webhook, now time.Time, most int) ([]webhook.Job, error) {
	if !w.Enabled || now.Before(w.PausedUntil) {
		return nil, save(ctx, tx, w)
	}
	var under int
	if err := tx.GetContext(ctx, &under, `SELECT count(*) FROM webhook_queue WHERE webhook_id = $1 AND leased AND due_at > $2`, w.ID, now); err != nil {
		return nil, err
	}
	var due []struct {
		N       int64          `db:"n"`
		Attempt int            `db:"attempts"`
		First   time.Time      `db:"first_at"`
		ID      string         `db:"delivery_id"`
		EventID sql.NullString `db:"event_id"`
		Type    sql.NullString `db:"event_type"`
		Event   []byte         `db:"event"`
	}
	if err := tx.SelectContext(ctx, &due, `WITH due AS (SELECT n FROM webhook_queue WHERE webhook_id = $1 AND due_at <= $2 ORDER BY due_at, n LIMIT $3 FOR UPDATE),
		claimed AS (UPDATE webhook_queue q SET leased = true, attempts = q.attempts + 1, due_at = $2::timestamptz + $4 * interval '1 second', first_at = coalesce(q.first_at, $2)
			FROM due WHERE q.n = due.n RETURNING q.n, q.attempts, q.first_at, q.delivery_id)
		SELECT c.n, c.attempts, c.first_at, c.delivery_id, d.event_id, d.event_type, d.event FROM claimed c LEFT JOIN webhook_deliveries d ON d.id = c.delivery_id ORDER BY c.n`,
		w.ID, now, max(min(w.Room()-under, most), 0), webhook.Lease.Seconds()); err != nil {
		return nil, err
	}
	var jobs []webhook.Job
	var over []int64 // whose week is
	for _, d := range due {
		if !d.EventID.Valid {
			over = append(over, d.N)
			continue
		}
		jobs = append(jobs, webhook.Job{
			Webhook: w, N: d.N, First: d.First.UTC(),
			Message: webhook.Message{DeliveryID: d.ID, EventID: d.EventID.String, EventType: d.Type.String, Event: d.Event, Attempt: d.Attempt},
		})
	}
	if err := settle(ctx, tx, &w, now, over); err != nil {
		return nil, err
	}
	if err := save(ctx, tx, w); err != nil {
		return nil, err
	}
	if len(jobs)+under < w.Room() {
		return jobs, nil
	}
	// As many as may be are under way: there is nothing to look for until one of them ends, which looks then.
	_, err := tx.ExecContext(ctx, `UPDATE webhooks SET look_at = (SELECT min(due_at) FROM webhook_queue WHERE webhook_id = $1 AND leased) WHERE id = $1`, w.ID)
	return jobs, err
}

// settle takes deliveries of a webhook out of the queue, and has the next of their keys be due.
func settle(ctx context.Context, tx *sqlx.Tx, w *webhook.Webhook, now time.Time, done []int64) error {
	if len(done) == 0 {
		return nil
	}
	w.Pending -= len(done)
	_, err := tx.ExecContext(ctx, `WITH done AS (DELETE FROM webhook_queue WHERE n = ANY($2) RETURNING key)
		UPDATE webhook_queue SET due_at = $3 WHERE due_at IS NULL AND n IN (
			SELECT (SELECT q.n FROM webhook_queue q WHERE q.webhook_id = $1 AND q.key = done.key AND q.n <> ALL($2) ORDER BY q.n LIMIT 1) FROM done)`,
		w.ID, pq.Array(done), now)
	return err
}

// Finish implements webhook.Queue.
func (s *Webhooks) Finish(ctx context.Context, id string, results []webhook.Result, most int) (more []webhook.Job, err error) {
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		more = nil
		w, now, err := lock(ctx, tx, id)
		if errors.Is(err, webhook.ErrUnknown) { // it was deleted meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		if err := finish(ctx, tx, &w, now, results); err != nil {
			return err
		}
		more, err = claim(ctx, tx, w, now, most)
		return err
	})
	return more, err
}

// finish settles attempts of a webhook that is under its lock, but for those whose delivery another process has by now.
func finish(ctx context.Context, tx *sqlx.Tx, w *webhook.Webhook, now time.Time, results []webhook.Result) error {
	var leased []struct {
		N       int64 `db:"n"`
		Attempt int   `db:"attempts"`
	}
	ns := make([]int64, len(results))
	for i, r := range results {
		ns[i] = r.N
	}
	if err := tx.SelectContext(ctx, &leased, `SELECT n, attempts FROM webhook_queue WHERE n = ANY($1) AND leased`, pq.Array(ns)); err != nil {
		return err
	}
	attempts := map[int64]int{}
	for _, l := range leased {
		attempts[l.N] = l.Attempt
	}
	var done, again, attempted []int64
	var next, finished []sql.NullTime
	var ids, statuses, lines []string
	off := ""
	for _, r := range results {
		if n, mine := attempts[r.N]; !mine || n != r.Attempt {
			continue
		}
		v := r.Judge(w.Standing, now)
		w.Standing, w.LastError = v.Standing, r.Made.Error
		status, at := telemetry.DeliveryPending, sql.NullTime{}
		switch {
		case !v.Done:
			again, next = append(again, r.N), append(next, nullTime(v.Next))
		case r.Made.Error == "":
			status, at, w.LastDeliveredAt = telemetry.DeliveryDelivered, nullTime(now), now
			done = append(done, r.N)
		default:
			status, at = telemetry.DeliveryFailed, nullTime(now)
			done = append(done, r.N)
		}
		line, err := json.Marshal(r.Made)
		if err != nil {
			return err
		}
		ids, statuses, attempted = append(ids, r.DeliveryID), append(statuses, status), append(attempted, int64(r.Attempt))
		finished, lines = append(finished, at), append(lines, string(line))
		off = cmp.Or(off, v.Disable)
	}
	if err := settle(ctx, tx, w, now, done); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE webhook_queue q SET leased = false, due_at = v.due_at FROM unnest($1::bigint[], $2::timestamptz[]) v(n, due_at) WHERE q.n = v.n`,
		pq.Array(again), pq.Array(next)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries d SET status = v.status, attempts = v.attempts, finished_at = v.finished_at,
		log = CASE d.log WHEN '[]' THEN '[' ELSE left(d.log, -1) || ',' END || v.line || ']'
		FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::timestamptz[], $5::text[]) v(id, status, attempts, finished_at, line) WHERE d.id = v.id`,
		pq.Array(ids), pq.Array(statuses), pq.Array(attempted), pq.Array(finished), pq.Array(lines)); err != nil {
		return err
	}
	if off == "" || !w.Enabled {
		return nil
	}
	before := w.Settings()
	w.Enabled, w.DisabledReason = false, off
	if _, err := tx.ExecContext(ctx, `UPDATE webhooks SET notice_due = true WHERE id = $1`, w.ID); err != nil {
		return err
	}
	return trail.Record(rpc.WithCaller(ctx, rpc.System(telemetry.Service)), tx,
		trail.Deed{Action: audit.WebhookDisabled, ResourceID: w.ID, OwnerID: w.UserID, Before: before, After: w.Settings()})
}

// Backlog implements webhook.Queue.
func (s *Webhooks) Backlog(ctx context.Context) (webhook.Backlog, error) {
	var b struct {
		Pending  int     `db:"pending"`
		Paused   int     `db:"paused"`
		Disabled int     `db:"disabled"`
		Late     float64 `db:"late"`
	}
	err := s.db.GetContext(ctx, &b, `SELECT coalesce(sum(pending), 0) AS pending, count(*) FILTER (WHERE enabled AND paused_until > now()) AS paused,
		count(*) FILTER (WHERE disabled_reason IS NOT NULL) AS disabled, greatest(coalesce(extract(epoch FROM now() - min(look_at)), 0), 0) AS late FROM webhooks`)
	return webhook.Backlog{Pending: b.Pending, Paused: b.Paused, Disabled: b.Disabled, Late: time.Duration(b.Late * float64(time.Second))}, postgres.Translate(err)
}
