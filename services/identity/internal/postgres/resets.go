package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/account"
)

// AskReset implements account.Resets.
func (s *Store) AskReset(ctx context.Context, client account.Client, email string, now time.Time) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO password_reset_requests (email, asked_at, due_at, ip, user_agent, request_id) VALUES ($1, $2, now(), $3, $4, $5)
			ON CONFLICT (email) DO UPDATE SET asked_at = excluded.asked_at, due_at = excluded.due_at, tries = 0,
				ip = excluded.ip, user_agent = excluded.user_agent, request_id = excluded.request_id`,
			email, now, client.IP, client.UserAgent, client.RequestID); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Deed{Action: audit.AuthResetRequested})
	})
}

// DueReset implements account.Resets.
func (s *Store) DueReset(ctx context.Context) (account.ResetRequest, error) {
	var r account.ResetRequest
	err := s.db.QueryRowContext(ctx, `
		UPDATE password_reset_requests SET tries = tries + 1, due_at = now() + least(30 * 2 ^ least(tries, 10), 3600) * interval '1 second'
		WHERE email = (SELECT email FROM password_reset_requests WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING email, asked_at, tries, ip, user_agent, request_id`).Scan(&r.Email, &r.AskedAt, &r.Tries, &r.Client.IP, &r.Client.UserAgent, &r.Client.RequestID)
	return r, known(err)
}

// SettleReset implements account.Resets.
func (s *Store) SettleReset(ctx context.Context, r account.ResetRequest) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM password_reset_requests WHERE email = $1 AND asked_at = $2`, r.Email, r.AskedAt)
	return pg.Translate(err)
}

// IssueReset implements account.Resets.
func (s *Store) IssueReset(ctx context.Context, client account.Client, user account.UserID, digest []byte, expires time.Time) error {
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO password_reset_tokens (user_id, digest, expires_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id) DO UPDATE SET digest = excluded.digest, expires_at = excluded.expires_at`, user, digest, expires)
		if err != nil {
			return err
		}
		asker := rpc.Caller{IP: client.IP, UserAgent: client.UserAgent, RequestID: client.RequestID}
		return trail.Record(rpc.WithCaller(ctx, asker), tx, trail.Deed{
			Action: audit.AuthResetIssued, ResourceID: user.String(), OwnerID: user.String(), After: map[string]any{"expiresAt": expires},
		})
	})
}

// CanReset implements account.Resets.
func (s *Store) CanReset(ctx context.Context, digest []byte, now time.Time) (bool, error) {
	var good bool
	err := s.db.GetContext(ctx, &good, `SELECT EXISTS (SELECT FROM password_reset_tokens WHERE digest = $1 AND expires_at > $2)`, digest, now)
	return good, pg.Translate(err)
}

// RedeemReset implements account.Resets.
func (s *Store) RedeemReset(ctx context.Context, digest []byte, hash, reason string, now time.Time) (account.UserID, []account.SessionID, error) {
	var user account.UserID
	var ended []account.SessionID
	err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// Of two that come at a time one deletes the row; the other finds none.
		if err := tx.GetContext(ctx, &user, `DELETE FROM password_reset_tokens WHERE digest = $1 AND expires_at > $2 RETURNING user_id`, digest, now); err != nil {
			return known(err)
		}
		if err := tx.GetContext(ctx, &user, `UPDATE users SET password_hash = $2 WHERE id = $1 AND active AND role <> 'AGENT' RETURNING id`, user, hash); err != nil {
			return known(err)
		}
		if err := trail.Record(ctx, tx, trail.Deed{Action: audit.AuthPasswordReset, ResourceID: user.String(), OwnerID: user.String()}); err != nil {
			return err
		}
		var err error
		ended, err = endSessions(ctx, tx, user, account.SessionID{}, reason, now)
		return err
	})
	return user, ended, err
}
