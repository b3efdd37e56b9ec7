// Package access says who may see and change what: an owner everything of theirs, everybody
// what is public, ADMIN all. What a caller may not see does not exist for them.
package access

import (
	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

// CanSee tells whether the caller may read a thing of owner.
func CanSee(caller rpc.Caller, owner string, public bool) bool {
	return public || canChange(caller, owner)
}

func canChange(caller rpc.Caller, owner string) bool {
	return caller.IsAdmin() || caller.UserID != "" && caller.UserID == owner
}

// NotFound says that the caller sees no such thing.
func NotFound(what, id string) error {
	if len(id) > 64 {
		id = id[:64]
	}
	return errs.New(errs.NotFound, "there is no %s %q", what, id)
}

// Change is nil when the caller may change a thing of owner that stands at version; ifMatch
// is the version the caller knows, 0 for any.
func Change(caller rpc.Caller, what, id, owner string, version, ifMatch int) error {
	if !canChange(caller, owner) {
		return NotFound(what, id)
	}
	if ifMatch != 0 && ifMatch != version {
		return errs.New(errs.PreconditionFailed, "the %s is at version %d, not %d; read it again and repeat the change", what, version, ifMatch)
	}
	return nil
}

// ChangeOwner gives whose things the caller may change; "" for everybody's.
func ChangeOwner(caller rpc.Caller, what, id string) (string, error) {
	switch {
	case caller.IsAdmin():
		return "", nil
	case caller.UserID == "":
		return "", NotFound(what, id)
	}
	return caller.UserID, nil
}

// ListOwner gives whose things a list holds; "" for everybody's.
func ListOwner(caller rpc.Caller, public *bool) (string, error) {
	switch {
	case caller.IsAdmin() || public != nil && *public:
		return "", nil
	case caller.UserID == "":
		return "", errs.New(errs.Unauthorized, "sign in to list what is yours, or ask for isPublic=true")
	}
	return caller.UserID, nil
}

// NewID gives the id of a thing that the caller makes: the wanted one, which only ADMIN may
// choose, or a new one.
func NewID(caller rpc.Caller, wanted string) (string, error) {
	if _, err := uuid.Parse(caller.UserID); err != nil {
		return "", errs.New(errs.Unauthorized, "sign in as the user who is to own it")
	}
	if wanted == "" {
		id, err := uuid.NewV7()
		return id.String(), err
	}
	id, err := uuid.Parse(wanted)
	if err != nil {
		return "", errs.Invalid("request", []errs.Detail{{Field: "id", Message: "is no UUID; give one or leave it out", Code: errs.BadValue}})
	}
	if !caller.IsAdmin() {
		return "", errs.New(errs.Forbidden, "only ADMIN may choose an id; leave it out")
	}
	return id.String(), nil
}
