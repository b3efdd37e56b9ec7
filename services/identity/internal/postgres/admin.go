package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/audit"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/account"
)

// ChangeStanding implements account.Users.
func (s *Store) ChangeStanding(ctx context.Context, id account.UserID, reason string, now time.Time, change func(u *account.User, otherAdmins int) error) (account.User, []account.SessionID, error) {
	var u account.User
	var ended []account.SessionID
	err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// The lock on all of them, in one order, has two of them not make each other no ADMIN at a time.
		var admins []account.UserID
		if err := tx.SelectContext(ctx, &admins, `SELECT id FROM users WHERE role = 'ADMIN' AND active ORDER BY id FOR NO KEY UPDATE`); err != nil {
			return err
		}
		var err error
		if u, err = scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1 FOR NO KEY UPDATE`, id)); err != nil {
			return known(err)
		}
		others := 0
		for _, admin := range admins {
			if admin != id {
				others++
			}
		}
		before := u
		if err := change(&u, others); err != nil || u.Role == before.Role && u.Active == before.Active {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE users SET role = $2, active = $3 WHERE id = $1`, u.ID, u.Role, u.Active); err != nil {
			return err
		}
		if err := recordUser(ctx, tx, audit.UserStandingChanged, &before, &u); err != nil {
			return err
		}
		ended, err = endSessions(ctx, tx, id, account.SessionID{}, reason, now)
		return err
	})
	return u, ended, err
}

// EndSessions implements account.Sessions.
func (s *Store) EndSessions(ctx context.Context, user account.UserID, except account.SessionID, reason string, now time.Time) ([]account.SessionID, error) {
	var ended []account.SessionID
	err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) (err error) {
		ended, err = endSessions(ctx, tx, user, except, reason, now)
		return err
	})
	return ended, err
}

func endSessions(ctx context.Context, tx *sqlx.Tx, user account.UserID, except account.SessionID, reason string, now time.Time) ([]account.SessionID, error) {
	var ended []account.SessionID
	if err := tx.SelectContext(ctx, &ended, `
		UPDATE sessions SET revoked_at = $3, revoke_reason = $4
		WHERE user_id = $1 AND id <> $2 AND expires_at > $3 AND revoked_at IS NULL RETURNING id`, user, except, now, reason); err != nil {
		return nil, err
	}
	deeds := make([]trail.Deed, len(ended))
	for i, id := range ended {
		deeds[i] = trail.Deed{
			Action: audit.SessionRevoked, ResourceID: id.String(), OwnerID: user.String(), After: map[string]any{"revokedAt": now, "reason": reason},
		}
	}
	return ended, trail.Record(ctx, tx, deeds...)
}

type userRow struct {
	ID          account.UserID `db:"id"`
	Email       string         `db:"email"`
	FullName    string         `db:"full_name"`
	Role        string         `db:"role"`
	Active      bool           `db:"active"`
	AvatarURL   *string        `db:"avatar_url"`
	Preferences string         `db:"preferences"`
	CreatedAt   time.Time      `db:"created_at"`
	LastLoginAt *time.Time     `db:"last_login_at"`
	listing.Key
}

// List implements account.Users.
func (s *Store) List(ctx context.Context, q contract.ListUsersRequest) (rpc.List[account.User], error) {
	var faults form.Faults
	page := listing.Table{From: "users u", ID: "u.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "u.created_at", Kind: listing.Time},
		"email":     {SQL: "u.email", Kind: listing.Text},
		"fullName":  {SQL: "u.full_name", Kind: listing.Text},
		"role":      {SQL: "u.role", Kind: listing.Text},
	}}.Parse(q.Page, &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[account.User]{}, err
	}
	var where listing.Where
	if q.Role != "" {
		where.And("u.role = ?", q.Role)
	}
	switch { // in the words of the indexes
	case q.Active == nil && q.Role != "":
		where.Either("u.active", "NOT u.active")
	case q.Active == nil:
	case *q.Active:
		where.And("u.active")
	default:
		where.And("NOT u.active")
	}
	switch address := strings.ToLower(strings.TrimSpace(q.Search)); {
	case strings.Contains(address, "@") && !strings.ContainsAny(address, " \t\n"): // most addresses have the words of its domain
		where.And("u.email LIKE ?", strings.TrimPrefix(listing.Contains(address), "%"))
	case q.Search != "":
		where.Search("u.words @@ search_query(?)", listing.Words(q.Search)...)
	}
	rows, pagination, err := listing.Select[userRow](ctx, s.db, page,
		`u.id, u.email, u.full_name, u.role, u.active, u.avatar_url, u.preferences, u.created_at, u.last_login_at`, where)
	list := rpc.List[account.User]{Pagination: pagination}
	for _, r := range rows {
		list.Items = append(list.Items, account.User{
			ID: r.ID, Email: r.Email, FullName: r.FullName, Role: r.Role, Active: r.Active, AvatarURL: r.AvatarURL,
			Preferences: []byte(r.Preferences), CreatedAt: r.CreatedAt.UTC(), LastLoginAt: utc(r.LastLoginAt),
		})
	}
	return list, err
}

type sessionRow struct {
	ID             account.SessionID `db:"id"`
	UserID         account.UserID    `db:"user_id"`
	Role           string            `db:"role"`
	IP             string            `db:"ip"`
	UserAgent      string            `db:"user_agent"`
	CreatedAt      time.Time         `db:"created_at"`
	LastAccessedAt time.Time         `db:"last_accessed_at"`
	ExpiresAt      time.Time         `db:"expires_at"`
	listing.Key
}

// ListSessions implements account.Sessions.
func (s *Store) ListSessions(ctx context.Context, user account.UserID, now time.Time, q contract.ListSessionsRequest) (rpc.List[account.Session], error) {
	var faults form.Faults
	page := listing.Table{From: "sessions s", ID: "s.id", Columns: map[string]listing.Column{
		"createdAt":      {SQL: "s.created_at", Kind: listing.Time},
		"lastAccessedAt": {SQL: "s.last_accessed_at", Kind: listing.Time},
	}}.Parse(q.Page, &faults)
	if err := faults.Err("query"); err != nil {
		return rpc.List[account.Session]{}, err
	}
	var where listing.Where
	where.And("s.user_id = ?", user)
	where.And("s.expires_at > ? AND s.revoked_at IS NULL", now)
	if q.Search != "" {
		where.Search("s.words @@ search_query(?)", listing.Words(q.Search)...)
	}
	rows, pagination, err := listing.Select[sessionRow](ctx, s.db, page,
		`s.id, s.user_id, s.role, s.ip, s.user_agent, s.created_at, s.last_accessed_at, s.expires_at`, where)
	list := rpc.List[account.Session]{Pagination: pagination}
	for _, r := range rows {
		list.Items = append(list.Items, account.Session{
			ID: r.ID, UserID: r.UserID, Role: r.Role, IP: r.IP, UserAgent: r.UserAgent,
			CreatedAt: r.CreatedAt.UTC(), LastAccessedAt: r.LastAccessedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
		})
	}
	return list, err
}
