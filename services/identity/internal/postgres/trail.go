package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jmoiron/sqlx"

	contract "turbocat.io/contracts/audit"
	pg "turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/apikey"
	"turbocat.io/services/identity/internal/vault"
)

// What the audit trail tells of the things of this schema: no digest, no sealed value, nothing that opens anything.

type userTold struct {
	Email       string          `json:"email"`
	FullName    string          `json:"fullName"`
	Role        string          `json:"role"`
	Active      bool            `json:"active"`
	AvatarURL   *string         `json:"avatarUrl"`
	Preferences json.RawMessage `json:"preferences"`
}

func tellUser(u account.User) userTold {
	return userTold{u.Email, u.FullName, u.Role, u.Active, u.AvatarURL, u.Preferences}
}

type keyTold struct {
	Name               string     `json:"name"`
	Prefix             string     `json:"prefix"`
	Scopes             []string   `json:"scopes"`
	RateLimitPerMinute *int       `json:"rateLimitPerMinute"`
	ExpiresAt          *time.Time `json:"expiresAt"`
	RotatedAway        *time.Time `json:"previousWorksUntil"`
	RevokedAt          *time.Time `json:"revokedAt"`
}

func tellKey(k apikey.Key) keyTold {
	return keyTold{k.Name, k.Prefix, k.Scopes, k.RateLimitPerMinute, k.ExpiresAt, k.PreviousUntil, k.RevokedAt}
}

type secretTold struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// as makes the user of a session the one who did something, who was nobody before.
func as(s account.Session) *contract.TrailActor {
	return &contract.TrailActor{UserID: s.UserID.String(), Role: s.Role, Via: contract.ViaSession, SessionID: s.ID.String()}
}

func recordUser(ctx context.Context, tx *sqlx.Tx, action contract.Action, before, after *account.User) error {
	d := trail.Deed{Action: action}
	if before != nil {
		d.ResourceID, d.Before = before.ID.String(), tellUser(*before)
	}
	if after != nil {
		d.ResourceID, d.After = after.ID.String(), tellUser(*after)
	}
	d.OwnerID = d.ResourceID
	return trail.Record(ctx, tx, d)
}

// recordEnd tells of a session that has ended just now.
func recordEnd(ctx context.Context, tx *sqlx.Tx, s account.Session) error {
	action, refused := s.Ended()
	d := trail.Deed{
		Action: action, ResourceID: s.ID.String(), OwnerID: s.UserID.String(), Refused: refused,
		After: map[string]any{"revokedAt": s.RevokedAt, "reason": s.RevokeReason},
	}
	if action == contract.AuthLogout {
		d.ResourceID, d.Actor = s.UserID.String(), as(s)
	}
	if action == contract.AuthRefreshRefused {
		d.ResourceID = s.UserID.String()
	}
	return trail.Record(ctx, tx, d)
}

// Refused implements account.Sessions.
func (s *Store) Refused(ctx context.Context, r account.Refusal) error {
	d := trail.Deed{Action: r.Action, Refused: true, After: map[string]any{"reason": r.Reason}}
	if r.User != (account.UserID{}) {
		d.ResourceID, d.OwnerID = r.User.String(), r.User.String()
	}
	return pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error { return trail.Record(ctx, tx, d) })
}

func recordKey(ctx context.Context, tx *sqlx.Tx, before *apikey.Key, k apikey.Key) error {
	d := trail.Deed{Action: contract.APIKeyCreated, ResourceID: k.ID.String(), OwnerID: k.UserID.String(), After: tellKey(k)}
	if before != nil {
		d.Action, d.Before = contract.APIKeyUpdated, tellKey(*before)
		switch {
		case k.RevokedAt != nil:
			d.Action = contract.APIKeyRevoked
		case string(before.Digest) != string(k.Digest):
			d.Action = contract.APIKeyRotated
		}
	}
	return trail.Record(ctx, tx, d)
}

func recordSecret(ctx context.Context, tx *sqlx.Tx, action contract.Action, r vault.Row) error {
	d := trail.Deed{Action: action, ResourceID: r.Name, OwnerID: r.Owner}
	now := secretTold{r.Name, r.Version}
	switch action {
	case contract.SecretDeleted:
		d.Before = now
	case contract.SecretUpdated:
		d.Before, d.After = secretTold{r.Name, r.Version - 1}, now
	default:
		d.After = now
	}
	return trail.Record(ctx, tx, d)
}
