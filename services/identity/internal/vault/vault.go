// Package vault keeps users' secrets: sealed, each bound to its owner and its name, and never
// told to who asks by a user's request. Only Open gives values, sealed to the runner that shows a grant.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/seal"
)

// ErrUnknown says that there is no such secret, ErrTooMany that the owner may have no more of them.
var (
	ErrUnknown = errors.New("no such secret")
	ErrTooMany = errors.New("too many secrets")
)

// Row is a secret as it is kept.
type Row struct {
	ID        string
	Owner     string // the user's id
	Name      string
	Version   int // of the value, from 1
	Sealed    seal.Sealed
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (r Row) place() seal.Place { return seal.Place{Owner: r.Owner, Name: r.Name, Version: r.Version} }

// Store keeps secrets. Its errors are errs where the database tells a code.
type Store interface {
	// Put makes the secret of a name, or gives it another value, which seal seals for the version it gets. ErrTooMany when
	// the owner has most others already, ErrUnknown when there is no such user.
	Put(ctx context.Context, r Row, most int, sealed func(Row) seal.Sealed) (stored Row, created bool, err error)
	// Delete removes a secret, or gives ErrUnknown.
	Delete(ctx context.Context, owner, name string) error
	// List gives a page of an owner's secrets, without what is sealed.
	List(ctx context.Context, owner string, page rpc.Page) (rpc.List[Row], error)
	// Named gives those of the names that the owner has.
	Named(ctx context.Context, owner string, names []string) ([]Row, error)
	// Outdated gives secrets behind an id, in the order of the ids, that are sealed under another key, and how many there are behind them.
	Outdated(ctx context.Context, keyID, after string, limit int) (rows []Row, left int, err error)
	// Reseal changes how a value is sealed, unless the secret is another by now: false then.
	Reseal(ctx context.Context, r Row, sealed seal.Sealed) (bool, error)
}

// Vault answers requests about secrets. It is safe for concurrent use.
type Vault struct {
	store  Store
	keys   *seal.Keyring
	grants *grantKey
	now    func() time.Time
}

// New makes a Vault over a store.
func New(store Store, keys *seal.Keyring, fetch FetchKey, now func() time.Time) *Vault {
	return &Vault{store: store, keys: keys, grants: &grantKey{fetch: fetch, now: now}, now: now}
}

var namePattern = regexp.MustCompile(identity.SecretNamePattern)

// Put makes a secret of a user, or gives it another value, by the JSON body of the client. Safe to repeat.
func (v *Vault) Put(ctx context.Context, owner, name string, body json.RawMessage) (identity.PutSecretResponse, error) {
	var none identity.PutSecretResponse
	value, err := readValue(name, body)
	if err != nil {
		return none, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return none, err
	}
	now := v.now().UTC().Truncate(time.Microsecond)
	stored, created, err := v.store.Put(ctx, Row{ID: id.String(), Owner: owner, Name: name, CreatedAt: now, UpdatedAt: now}, identity.MaxSecrets,
		func(r Row) seal.Sealed { return v.keys.Seal(r.place(), value) })
	switch {
	case errors.Is(err, ErrTooMany):
		return none, errs.New(errs.Conflict, "you have %d secrets, and no more are possible; delete one first", identity.MaxSecrets)
	case errors.Is(err, ErrUnknown):
		return none, errs.New(errs.Unauthorized, "the account is no longer there; log in again")
	case err != nil:
		return none, err
	}
	return identity.PutSecretResponse{Secret: shown(stored), Created: created}, nil
}

// readValue reads {"value":"..."}; its error names every fault and nothing of the value.
func readValue(name string, body json.RawMessage) (string, error) {
	var faults form.Faults
	if !namePattern.MatchString(name) {
		faults.Add("name", errs.BadValue, "is no name of a secret; use 1 to 128 letters, digits, - and _, and begin with a letter or _")
	}
	var value string
	if o, ok := form.Read(body, &faults); ok {
		o.Require(true, "value")
		o.String("value", &value, "", 1, identity.MaxSecretValue)
		if len(value) > identity.MaxSecretValue {
			faults.Add("value", errs.OutOfRange, "has %d bytes; give at most %d", len(value), identity.MaxSecretValue)
		}
		o.Only("value")
	}
	return value, faults.Err("secret")
}

// List gives a page of a user's secrets.
func (v *Vault) List(ctx context.Context, owner string, page rpc.Page) (rpc.List[identity.Secret], error) {
	rows, err := v.store.List(ctx, owner, page)
	if err != nil {
		return rpc.List[identity.Secret]{}, err
	}
	list := rpc.List[identity.Secret]{Items: make([]identity.Secret, len(rows.Items)), Pagination: rows.Pagination}
	for i, r := range rows.Items {
		list.Items[i] = shown(r)
	}
	return list, nil
}

// Delete removes a secret of a user; NOT_FOUND when there is none.
func (v *Vault) Delete(ctx context.Context, owner, name string) error {
	if !namePattern.MatchString(name) {
		return unknown()
	}
	err := v.store.Delete(ctx, owner, name)
	if errors.Is(err, ErrUnknown) {
		return unknown()
	}
	return err
}

func unknown() error { return errs.New(errs.NotFound, "you have no secret of this name; check it") }

func shown(r Row) identity.Secret {
	return identity.Secret{Name: r.Name, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt}
}
