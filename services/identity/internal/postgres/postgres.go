// Package postgres keeps accounts and sessions in the identity schema.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"

	contract "turbocat.io/contracts/audit"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/account"
)

// Store is an account.Store. It is safe for concurrent use.
type Store struct{ db *sqlx.DB }

// New makes a store over the identity schema.
func New(db *sqlx.DB) *Store { return &Store{db} }

// Create adds an account, and its first session unless that is nil; account.ErrTaken when the address or the id is.
func (s *Store) Create(ctx context.Context, u account.User, session *account.Session) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO users (id, email, full_name, password_hash, role, active, avatar_url, preferences, created_at, last_login_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			u.ID, u.Email, u.FullName, u.PasswordHash, u.Role, u.Active, u.AvatarURL, string(u.Preferences), u.CreatedAt, u.LastLoginAt)
		if pg.IsUnique(err, "") {
			return account.ErrTaken
		}
		if err != nil {
			return err
		}
		if session == nil {
			return recordUser(ctx, tx, contract.UserCreated, nil, &u)
		}
		if err := trail.Record(ctx, tx, trail.Deed{
			Action: contract.UserRegistered, ResourceID: u.ID.String(), OwnerID: u.ID.String(), After: tellUser(u), Actor: as(*session),
		}); err != nil {
			return err
		}
		return insertSession(ctx, tx, *session)
	})
}

const userColumns = `users.id, users.email, users.full_name, users.password_hash, users.role, users.active, users.avatar_url, users.preferences, users.created_at, users.last_login_at`

// ByID gives an account or account.ErrUnknown.
func (s *Store) ByID(ctx context.Context, id account.UserID) (account.User, error) {
	return s.user(s.db.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1`, id))
}

// ByEmail gives the account of a normalised address or account.ErrUnknown.
func (s *Store) ByEmail(ctx context.Context, email string) (account.User, error) {
	return s.user(s.db.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE email = $1`, email))
}

func (s *Store) user(row *sql.Row) (account.User, error) {
	u, err := scanUser(row)
	return u, known(err)
}

// Update changes the profile of an account under a lock; account.ErrUnknown when there is none.
func (s *Store) Update(ctx context.Context, id account.UserID, change func(*account.User)) (account.User, error) {
	var u account.User
	err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) (err error) {
		u, err = scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1 FOR NO KEY UPDATE`, id))
		if err != nil {
			return known(err)
		}
		before := u
		change(&u)
		if reflect.DeepEqual(before, u) {
			return nil
		}
		if err := recordUser(ctx, tx, contract.UserUpdated, &before, &u); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE users SET full_name = $2, avatar_url = $3, preferences = $4 WHERE id = $1`,
			u.ID, u.FullName, u.AvatarURL, string(u.Preferences))
		return err
	})
	return u, err
}

// Open implements account.Sessions.
func (s *Store) Open(ctx context.Context, session account.Session, owner account.User) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// The account first: it orders logins of one account, so that they can not deadlock over old sessions, and none gets
		// in behind a change that ends them all.
		var id account.UserID
		err := tx.GetContext(ctx, &id, `UPDATE users SET last_login_at = $2 WHERE id = $1 AND active AND role = $3 AND password_hash = $4 RETURNING id`,
			session.UserID, session.CreatedAt, owner.Role, owner.PasswordHash)
		if err != nil {
			return known(err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE user_id = $1 AND expires_at < $2`, session.UserID, session.CreatedAt); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, trail.Deed{
			Action: contract.AuthLogin, ResourceID: session.UserID.String(), OwnerID: session.UserID.String(), Actor: as(session),
		}); err != nil {
			return err
		}
		return insertSession(ctx, tx, session)
	})
}

func insertSession(ctx context.Context, tx *sqlx.Tx, s account.Session) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO sessions (id, user_id, role, current_token, previous_token, ip, user_agent, created_at, last_accessed_at, expires_at)
		VALUES ($1, $2, $3, $4, NULL, $5, $6, $7, $8, $9)`,
		s.ID, s.UserID, s.Role, s.CurrentToken, s.IP, s.UserAgent, s.CreatedAt, s.LastAccessedAt, s.ExpiresAt)
	return err
}

// UpdateSession changes a session under a lock and commits when change returns; account.ErrUnknown when there is none.
func (s *Store) UpdateSession(ctx context.Context, id account.SessionID, change func(s *account.Session, owner account.User)) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		session, err := scanSession(tx.QueryRowContext(ctx, `
			SELECT id, user_id, role, current_token, previous_token, ip, user_agent, created_at, last_accessed_at, expires_at, revoked_at, revoke_reason
			FROM sessions WHERE id = $1 FOR UPDATE`, id))
		if err != nil {
			return known(err)
		}
		owner, err := scanUser(tx.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE id = $1`, session.UserID))
		if err != nil {
			return known(err)
		}
		ended := session.RevokedAt != nil
		change(&session, owner)
		if !ended && session.RevokedAt != nil {
			if err := recordEnd(ctx, tx, session); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE sessions SET current_token = $2, previous_token = $3, last_accessed_at = $4, expires_at = $5, revoked_at = $6, revoke_reason = $7
			WHERE id = $1`,
			session.ID, session.CurrentToken, session.PreviousToken, session.LastAccessedAt, session.ExpiresAt, session.RevokedAt, session.RevokeReason)
		return err
	})
}

// Live tells whether a session is not revoked and its user is active in the role the session has.
func (s *Store) Live(ctx context.Context, id account.SessionID) (bool, error) {
	var live bool
	err := s.db.QueryRowContext(ctx, `
		SELECT sessions.revoked_at IS NULL AND users.active AND users.role = sessions.role
		FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = $1`, id).Scan(&live)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return live, pg.Translate(err)
}

func scanUser(row *sql.Row) (account.User, error) {
	var u account.User
	var preferences string
	err := row.Scan(&u.ID, &u.Email, &u.FullName, &u.PasswordHash, &u.Role, &u.Active, &u.AvatarURL, &preferences, &u.CreatedAt, &u.LastLoginAt)
	u.Preferences = []byte(preferences)
	u.CreatedAt, u.LastLoginAt = u.CreatedAt.UTC(), utc(u.LastLoginAt)
	return u, err
}

func scanSession(row *sql.Row) (account.Session, error) {
	var s account.Session
	err := row.Scan(&s.ID, &s.UserID, &s.Role, &s.CurrentToken, &s.PreviousToken, &s.IP, &s.UserAgent,
		&s.CreatedAt, &s.LastAccessedAt, &s.ExpiresAt, &s.RevokedAt, &s.RevokeReason)
	return s, err
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// known names the error of a row that is not there.
func known(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return account.ErrUnknown
	}
	return pg.Translate(err)
}
