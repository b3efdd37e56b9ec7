// Package seed fills an installation with its first accounts, agents and workflows. All of it may be repeated:
// what is there, or was and has been deleted, is left as it is.
package seed

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

const (
	adminID = "01930000-0000-7000-8000-000000000001"
	demoID  = "01930000-0000-7000-8000-000000000002"

	requestID = "seed"
)

// DemoEmail is the address of the demo account.
const DemoEmail = "demo@turbocat.dev"

//go:embed samples.json
var samples []byte

// Account is what an account is made of, and what came of it.
type Account struct {
	Email    string
	Password string
	Created  bool // now, and not by an earlier start
	userID   string
}

// Admin makes the account with role ADMIN.
func Admin(ctx context.Context, b *bus.Conn, email, password string) (Account, error) {
	return account(ctx, b, identity.SeedUserRequest{ID: adminID, Email: email, Password: password, FullName: "Administrator", Role: rpc.RoleAdmin})
}

// Demo makes the account that owns the samples.
func Demo(ctx context.Context, b *bus.Conn, password string) (Account, error) {
	return account(ctx, b, identity.SeedUserRequest{ID: demoID, Email: DemoEmail, Password: password, FullName: "Demo", Role: rpc.RoleUser})
}

func account(ctx context.Context, b *bus.Conn, req identity.SeedUserRequest) (Account, error) {
	made, err := bus.Call(ctx, b, identity.SeedUser, rpc.System(requestID), req)
	if err != nil {
		return Account{}, err
	}
	return Account{Email: made.User.Email, Password: req.Password, Created: made.Created, userID: made.User.ID}, nil
}

// Works tells whether one can log in with the account's password: one that was there before may have another.
func (a Account) Works(ctx context.Context, b *bus.Conn) bool {
	if a.Created {
		return true
	}
	_, err := bus.Call(ctx, b, identity.Login, rpc.System(requestID), identity.LoginRequest{Email: a.Email, Password: a.Password})
	return err == nil
}

// Samples makes the sample agents and workflows of the owner.
func Samples(ctx context.Context, b *bus.Conn, owner Account) error {
	var all struct{ Agents, Workflows []catalog.CreateRequest }
	if err := json.Unmarshal(samples, &all); err != nil {
		return err
	}
	caller := rpc.Caller{UserID: owner.userID, Role: rpc.RoleAdmin, RequestID: requestID}
	for _, req := range all.Agents {
		if err := create(ctx, b, catalog.CreateAgent, caller, req); err != nil {
			return err
		}
	}
	for _, req := range all.Workflows {
		if err := create(ctx, b, catalog.CreateWorkflow, caller, req); err != nil {
			return err
		}
	}
	return nil
}

func create[T any](ctx context.Context, b *bus.Conn, m rpc.Method[catalog.CreateRequest, T], caller rpc.Caller, req catalog.CreateRequest) error {
	_, err := bus.Call(ctx, b, m, caller, req)
	if err != nil && errs.CodeOf(err) != errs.Conflict {
		return fmt.Errorf("make the sample %s: %w", req.ID, err)
	}
	return nil
}
