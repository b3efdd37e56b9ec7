package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	contract "turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/audit"
)

// Audit keeps the audit trail; it is an audit.Store. It is safe for concurrent use.
type Audit struct{ db *sqlx.DB }

// NewAudit makes a store over the identity schema.
func NewAudit(db *sqlx.DB) *Audit { return &Audit{db} }

// auditRow is an entry as the table has it.
type auditRow struct {
	Seq          int64     `db:"seq"`
	ID           string    `db:"id"`
	Time         time.Time `db:"time"`
	ActorID      string    `db:"actor_id"`
	ActorRole    string    `db:"actor_role"`
	Via          string    `db:"via"`
	SessionID    string    `db:"session_id"`
	APIKeyID     string    `db:"api_key_id"`
	Action       string    `db:"action"`
	Outcome      string    `db:"outcome"`
	ResourceType string    `db:"resource_type"`
	ResourceID   string    `db:"resource_id"`
	OwnerID      string    `db:"owner_id"`
	Changes      string    `db:"changes"`
	IP           string    `db:"ip"`
	UserAgent    string    `db:"user_agent"`
	RequestID    string    `db:"request_id"`
	Hash         []byte    `db:"hash"`
	listing.Key
}

const auditColumns = `seq, id, "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash`

func (r auditRow) entry() (contract.TrailEntry, error) {
	e := contract.TrailEntry{
		ID: r.ID, Seq: r.Seq, Time: r.Time.UTC(), Action: contract.Action(r.Action), Outcome: r.Outcome,
		Actor:        contract.TrailActor{UserID: r.ActorID, Role: r.ActorRole, Via: r.Via, SessionID: r.SessionID, APIKeyID: r.APIKeyID},
		ResourceType: r.ResourceType, ResourceID: r.ResourceID, OwnerID: r.OwnerID, IP: r.IP, UserAgent: r.UserAgent, RequestID: r.RequestID,
	}
	if len(r.Hash) == len(audit.Hash{}) {
		e.Hash = audit.Hash(r.Hash).String()
	}
	if json.Unmarshal([]byte(r.Changes), &e.Changes) != nil { // somebody has written something else there; the hash tells
		quoted, err := json.Marshal(r.Changes)
		e.Changes = []contract.TrailChange{{Path: "unreadable", After: quoted}}
		return e, err
	}
	return e, nil
}

func entries(rows []auditRow) ([]contract.TrailEntry, error) {
	out := make([]contract.TrailEntry, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = r.entry(); err != nil {
			return nil, fmt.Errorf("entry %d of the audit trail: %w", r.Seq, err)
		}
	}
	return out, nil
}

// Append implements audit.Store. The lock on the head makes one appender at a time of all replicas.
func (s *Audit) Append(ctx context.Context, entries []contract.TrailEntry) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		head, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		ids := make([]string, len(entries))
		for i, e := range entries {
			ids[i] = e.ID
		}
		there, err := stored(ctx, tx, ids)
		if err != nil {
			return err
		}
		before := head.Seq
		for _, e := range entries {
			if slices.Contains(there, e.ID) {
				continue
			}
			if head, err = appendEntry(ctx, tx, head, e); err != nil {
				return err
			}
			there = append(there, e.ID) // the same may come twice in a batch
		}
		if head.Seq == before {
			return nil
		}
		return moveHead(ctx, tx, head)
	})
}

// lockHead gives the end of the chain to the only transaction that may append to it.
func lockHead(ctx context.Context, tx *sqlx.Tx) (audit.Head, error) {
	var row headRow
	if err := tx.GetContext(ctx, &row, `SELECT seq, hash FROM audit_head FOR UPDATE`); err != nil {
		return audit.Head{}, err
	}
	return row.head()
}

func moveHead(ctx context.Context, tx *sqlx.Tx, head audit.Head) error {
	_, err := tx.ExecContext(ctx, `UPDATE audit_head SET seq = $1, hash = $2`, head.Seq, head.Hash[:])
	return err
}

// appendEntry puts an entry behind head, and gives the head that it makes.
func appendEntry(ctx context.Context, tx *sqlx.Tx, head audit.Head, e contract.TrailEntry) (audit.Head, error) {
	head, err := audit.After(head, e)
	if err != nil {
		return head, err
	}
	changes, err := json.Marshal(e.Changes)
	if err != nil {
		return head, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO audit_log (`+auditColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
		head.Seq, e.ID, e.Time, e.Actor.UserID, e.Actor.Role, e.Actor.Via, e.Actor.SessionID, e.Actor.APIKeyID, string(e.Action), e.Outcome,
		e.ResourceType, e.ResourceID, e.OwnerID, string(changes), e.IP, e.UserAgent, e.RequestID, head.Hash[:])
	return head, err
}

type headRow struct {
	Seq  int64  `db:"seq"`
	Hash []byte `db:"hash"`
}

func (r headRow) head() (audit.Head, error) {
	if len(r.Hash) != len(audit.Hash{}) {
		return audit.Head{}, fmt.Errorf("the head or the start of the audit trail has a hash of %d bytes; somebody has changed it by hand", len(r.Hash))
	}
	return audit.Head{Seq: r.Seq, Hash: audit.Hash(r.Hash)}, nil
}

// Head implements audit.Reader.
func (s *Audit) Head(ctx context.Context) (audit.Head, error) {
	var row headRow
	if err := s.db.GetContext(ctx, &row, `SELECT seq, hash FROM audit_head`); err != nil {
		return audit.Head{}, pg.Translate(err)
	}
	return row.head()
}

// Entries implements audit.Reader.
func (s *Audit) Entries(ctx context.Context, from int64, most int) ([]contract.TrailEntry, error) {
	var rows []auditRow
	if err := s.db.SelectContext(ctx, &rows, `SELECT `+auditColumns+` FROM audit_log WHERE seq >= $1 ORDER BY seq LIMIT $2`, from, most); err != nil {
		return nil, pg.Translate(err)
	}
	return entries(rows)
}

// Deny implements audit.Store.
func (s *Audit) Deny(ctx context.Context, d contract.Denial) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		return trail.Record(ctx, tx, trail.Deed{
			Action: contract.AccessDenied, ResourceID: d.Operation, Refused: true, After: map[string]any{"path": d.Path, "reason": d.Reason},
		})
	})
}

// Stored implements audit.Store.
func (s *Audit) Stored(ctx context.Context, ids []string) ([]string, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return uuid.Validate(id) != nil })
	found, err := stored(ctx, s.db, ids)
	return found, pg.Translate(err)
}

func stored(ctx context.Context, q sqlx.QueryerContext, ids []string) ([]string, error) {
	found := []string{}
	return found, sqlx.SelectContext(ctx, q, &found, `SELECT id FROM audit_log WHERE id = ANY($1::uuid[])`, pq.Array(ids))
}

var auditTable = listing.Table{From: "audit_log", ID: "id", Columns: map[string]listing.Column{"createdAt": {SQL: `"time"`, Kind: listing.Time}, "time": {SQL: `"time"`, Kind: listing.Time}}}

// List implements audit.Store.
func (s *Audit) List(ctx context.Context, userID string, req contract.ListRequest) (rpc.List[contract.TrailEntry], error) {
	var faults form.Faults
	page := auditTable.Parse(req.Page, &faults)
	actions := make([]string, 0, len(contract.Actions()))
	for _, a := range contract.Actions() {
		actions = append(actions, string(a.Action))
	}
	listing.Enum("action", req.Action, actions, &faults)
	listing.Enum("outcome", req.Outcome, []string{contract.Success, contract.Failure}, &faults)
	var where listing.Where
	switch userID {
	case "":
	case req.ActorID: // the condition of the filter
	default:
		const ofOthers = "owner_id = ? AND owner_id <> actor_id"
		if req.ActorID == "" {
			where.Either("actor_id = ?", ofOthers, userID)
		} else {
			where.And(ofOthers, userID)
		}
	}
	for _, filter := range []struct{ name, column, value string }{
		{"actorId", "actor_id", req.ActorID},
		{"action", "action", req.Action},
		{"resourceType", "resource_type", req.ResourceType},
		{"resourceId", "resource_id", req.ResourceID},
		{"outcome", "outcome", req.Outcome},
	} {
		if strings.ContainsRune(filter.value, 0) || len(filter.value) > 1024 {
			faults.Add(filter.name, errs.BadValue, "must be a text of at most 1024 bytes, without NUL")
		}
		if filter.value != "" {
			where.And(filter.column+" = ?", filter.value)
		}
	}
	if req.From != nil && req.To != nil && !req.From.Before(*req.To) {
		faults.Add("to", errs.OutOfRange, "is not after from; give a later time")
	}
	if err := faults.Err("query"); err != nil {
		return rpc.List[contract.TrailEntry]{}, err
	}
	if req.From != nil {
		where.And(`"time" >= ?`, req.From.UTC())
	}
	if req.To != nil {
		where.And(`"time" < ?`, req.To.UTC())
	}
	if req.Search != "" {
		where.Search("words @@ search_query(?)", listing.Words(req.Search)...)
	}
	rows, pagination, err := listing.Select[auditRow](ctx, s.db, page, auditColumns, where)
	if err != nil {
		return rpc.List[contract.TrailEntry]{}, err
	}
	items, err := entries(rows)
	return rpc.List[contract.TrailEntry]{Items: items, Pagination: pagination}, err
}
