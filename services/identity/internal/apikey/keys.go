package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/account"
)

// What a Store tells beside failures.
var (
	ErrUnknown = errors.New("no such key, or no such owner")
	ErrTooMany = errors.New("the owner has as many keys as may be")
)

// Store keeps API keys.
type Store interface {
	// Insert adds a key when allow, given its owner under a lock, has no error; ErrUnknown without the owner, ErrTooMany
	// when there are most keys of it that are not revoked.
	Insert(ctx context.Context, k Key, most int, allow func(owner account.User) error) error
	// Update changes a key that is not revoked under a lock and gives it as it is then; ErrUnknown when there is none. An error of change changes nothing.
	Update(ctx context.Context, id ID, change func(k *Key, owner account.User) error) (Key, error)
	// ByPrefix gives a key with its owner, or ErrUnknown.
	ByPrefix(ctx context.Context, prefix string) (Key, account.User, error)
	// Refused tells the audit trail that a key was tried in vain, unless it was told so for the same reason within the hour before now.
	Refused(ctx context.Context, k Key, reason string, now time.Time) error
	// Used records that a key was used.
	Used(ctx context.Context, id ID, at time.Time) error
	// List reads a page of the keys of owner, of all users when it is "".
	List(ctx context.Context, owner string, q contract.ListAPIKeysRequest) (rpc.List[Key], error)
}

// Keys is what people do with API keys. It is safe for concurrent use.
type Keys struct {
	store Store
	now   func() time.Time
	log   zerolog.Logger
}

// New makes Keys over a store.
func New(store Store, now func() time.Time, log zerolog.Logger) *Keys { return &Keys{store, now, log} }

// usedEvery is how exact the last use is.
const usedEvery = time.Minute

// Verify gives the identity behind a key; UNAUTHORIZED, whatever is wrong with it.
func (s *Keys) Verify(ctx context.Context, text string) (contract.VerifyAPIKeyResponse, error) {
	prefix, ok := prefixOf(text)
	if !ok {
		return contract.VerifyAPIKeyResponse{}, invalid()
	}
	k, owner, err := s.store.ByPrefix(ctx, prefix)
	if errors.Is(err, ErrUnknown) {
		return contract.VerifyAPIKeyResponse{}, invalid()
	}
	if err != nil {
		return contract.VerifyAPIKeyResponse{}, err
	}
	now := s.time()
	until, refusal := k.opens(text, now)
	if refusal == "" && !owner.Active {
		refusal = refusedInactive
	}
	if refusal != "" {
		account.Security(s.log, account.ClientOf(rpc.CallerOf(ctx)), "api_key_refused").Info().Str("reason", refusal).
			Stringer("userId", k.UserID).Stringer("apiKeyId", k.ID).Msg("security event")
		if err := s.store.Refused(ctx, k, refusal, now); err != nil {
			return contract.VerifyAPIKeyResponse{}, err
		}
		return contract.VerifyAPIKeyResponse{}, invalid()
	}
	if k.LastUsedAt == nil || now.Sub(*k.LastUsedAt) >= usedEvery {
		if err := s.store.Used(ctx, k.ID, now); err != nil {
			s.log.Warn().Err(err).Stringer("apiKeyId", k.ID).Msg("the use of an API key is not recorded")
		}
	}
	who := contract.VerifyAPIKeyResponse{APIKeyID: k.ID.String(), UserID: owner.ID.String(), Role: owner.Role, Scopes: k.Scopes, ExpiresAt: until}
	if k.RateLimitPerMinute != nil {
		who.RateLimitPerMinute = *k.RateLimitPerMinute
	}
	return who, nil
}

// Create makes a key of the caller, or by an ADMIN for an AGENT, and gives its text.
func (s *Keys) Create(ctx context.Context, caller rpc.Caller, body json.RawMessage) (Key, string, error) {
	if err := bySession(caller); err != nil {
		return Key{}, "", err
	}
	now := s.time()
	k := Key{Prefix: newPrefix(), CreatedAt: now, UpdatedAt: now}
	wanted, err := k.parse(body, true, now)
	if err != nil {
		return Key{}, "", err
	}
	if wanted == "" {
		wanted = caller.UserID
	}
	owner, err := uuid.Parse(wanted)
	if err != nil {
		return Key{}, "", errs.Invalid("API key", []errs.Detail{{Field: "userId", Message: "is not an id; give that of an AGENT account, or leave it out", Code: errs.BadValue}})
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, "", err
	}
	k.ID, k.UserID = ID{id}, account.UserID{UUID: owner}
	if k.UserID.String() != caller.UserID && !caller.IsAdmin() {
		return Key{}, "", notOthers()
	}
	text := newText(k.Prefix)
	k.Digest = digest(text)
	err = s.store.Insert(ctx, k, MaxKeys, func(owner account.User) error { return mayHold(caller, owner) })
	switch {
	case errors.Is(err, ErrUnknown):
		return Key{}, "", errs.Invalid("API key", []errs.Detail{{Field: "userId", Message: "is no account; give that of an AGENT account, or leave it out", Code: errs.BadValue}})
	case errors.Is(err, ErrTooMany):
		return Key{}, "", errs.New(errs.Conflict, "there are %d API keys already; revoke one that is not used", MaxKeys)
	case err != nil:
		return Key{}, "", err
	}
	s.tell(caller, "api_key_created", k)
	return k, text, nil
}

// mayHold tells whether the caller may have the secret of a key of owner: whoever has it can act as that user.
func mayHold(caller rpc.Caller, owner account.User) error {
	if owner.ID.String() == caller.UserID || caller.IsAdmin() && owner.Role == rpc.RoleAgent {
		return nil
	}
	return notOthers()
}

// List reads a page of the caller's keys; of everybody's for an ADMIN.
func (s *Keys) List(ctx context.Context, caller rpc.Caller, q contract.ListAPIKeysRequest) (rpc.List[Key], error) {
	if err := bySession(caller); err != nil {
		return rpc.List[Key]{}, err
	}
	owner := caller.UserID
	if caller.IsAdmin() {
		owner = q.UserID
	} else if q.UserID != "" && q.UserID != owner {
		return rpc.List[Key]{}, errs.New(errs.Forbidden, "only an ADMIN may list the API keys of others; leave userId out")
	}
	return s.store.List(ctx, owner, q)
}

// Patch changes a key by a JSON object; the error names every fault in it.
func (s *Keys) Patch(ctx context.Context, caller rpc.Caller, id string, body json.RawMessage) (Key, error) {
	k, err := s.update(ctx, caller, id, func(k *Key, _ account.User) error {
		now := s.time()
		_, err := k.parse(body, false, now)
		k.UpdatedAt = now
		return err
	})
	if err == nil {
		s.tell(caller, "api_key_changed", k)
	}
	return k, err
}

// Rotate gives a key a new secret; the old one works for overlapMs more.
func (s *Keys) Rotate(ctx context.Context, caller rpc.Caller, id string, overlapMs int64) (Key, string, error) {
	if overlapMs < 0 || overlapMs > maxOverlap.Milliseconds() {
		return Key{}, "", errs.Invalid("request", []errs.Detail{{Field: "overlapMs", Message: "is out of range; give 0 to 604800000, which is a week", Code: errs.OutOfRange}})
	}
	var text string
	k, err := s.update(ctx, caller, id, func(k *Key, owner account.User) error {
		text = newText(k.Prefix)
		k.rotate(text, time.Duration(overlapMs)*time.Millisecond, s.time())
		return mayHold(caller, owner)
	})
	if err != nil {
		return Key{}, "", err
	}
	s.tell(caller, "api_key_rotated", k)
	return k, text, nil
}

// Revoke ends a key for ever.
func (s *Keys) Revoke(ctx context.Context, caller rpc.Caller, id string) error {
	k, err := s.update(ctx, caller, id, func(k *Key, _ account.User) error {
		now := s.time()
		k.RevokedAt, k.UpdatedAt = &now, now
		return nil
	})
	if err == nil {
		s.tell(caller, "api_key_revoked", k)
	}
	return err
}

// update changes a key of the caller, an ADMIN any. One that is revoked is not there any more.
func (s *Keys) update(ctx context.Context, caller rpc.Caller, id string, change func(k *Key, owner account.User) error) (Key, error) {
	if err := bySession(caller); err != nil {
		return Key{}, err
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return Key{}, notFound()
	}
	k, err := s.store.Update(ctx, ID{parsed}, func(k *Key, owner account.User) error {
		if owner.ID.String() != caller.UserID && !caller.IsAdmin() {
			return notFound()
		}
		return change(k, owner)
	})
	if errors.Is(err, ErrUnknown) {
		return Key{}, notFound()
	}
	return k, err
}

func (s *Keys) tell(caller rpc.Caller, event string, k Key) {
	account.Security(s.log, account.ClientOf(caller), event).Info().Str("actorId", caller.UserID).
		Stringer("userId", k.UserID).Stringer("apiKeyId", k.ID).Strs("scopes", k.Scopes).Msg("security event")
}

// time has the precision of the database, so that what is answered is what is stored.
func (s *Keys) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// bySession refuses who came with an API key, which could make itself a stronger one. The gateway refuses them before.
func bySession(caller rpc.Caller) error {
	switch {
	case caller.UserID == "":
		return errs.New(errs.Unauthorized, "nobody is logged in; log in first")
	case caller.APIKeyID != "":
		return errs.New(errs.Forbidden, "an API key can not manage API keys; log in and send an access token")
	}
	return nil
}

func invalid() error {
	return errs.New(errs.Unauthorized, "the API key is not valid: it is unknown, revoked or expired; send another")
}

func notFound() error { return errs.New(errs.NotFound, "there is no such API key; check the id") }

func notOthers() error {
	return errs.New(errs.Forbidden, "API keys are made for oneself, or by an ADMIN for an AGENT account; leave userId out, or log in as their owner")
}
