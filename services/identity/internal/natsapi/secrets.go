package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/identity/internal/vault"
)

// RegisterSecrets lets the service answer the methods about secrets. A user asks for his own alone, an ADMIN too.
func RegisterSecrets(s *bus.Server, secrets *vault.Vault) {
	handleOwn(s, contract.ListSecrets, func(ctx context.Context, owner string, req contract.ListSecretsRequest) (rpc.List[contract.Secret], error) {
		return secrets.List(ctx, owner, req.Page)
	})
	handleOwn(s, contract.PutSecret, func(ctx context.Context, owner string, req contract.PutSecretRequest) (contract.PutSecretResponse, error) {
		return secrets.Put(ctx, owner, req.Name, req.Body)
	})
	handleOwn(s, contract.DeleteSecret, func(ctx context.Context, owner string, req contract.SecretRequest) (rpc.Empty, error) {
		return rpc.Empty{}, secrets.Delete(ctx, owner, req.Name)
	})
	bus.Handle(s, contract.OpenSecrets, func(ctx context.Context, caller rpc.Caller, req contract.OpenSecretsRequest) (contract.OpenSecretsResponse, error) {
		if caller.UserID != "" || !caller.IsAdmin() {
			return contract.OpenSecretsResponse{}, errs.New(errs.Forbidden, "only runners are given secrets")
		}
		return secrets.Open(ctx, req.Grant, req.PublicKey)
	})
	bus.Handle(s, contract.RotateSecrets, func(ctx context.Context, caller rpc.Caller, req contract.RotateSecretsRequest) (contract.RotateSecretsResponse, error) {
		if caller.UserID != "" || !caller.IsAdmin() {
			return contract.RotateSecretsResponse{}, errs.New(errs.Forbidden, "only operators rotate keys, by turbocat secrets rotate")
		}
		return secrets.Rotate(ctx, req.After, req.Limit)
	})
}

// GrantKey asks the orchestrator for the key of grants.
func GrantKey(conn *bus.Conn) vault.FetchKey {
	return func(ctx context.Context) ([]byte, error) {
		key, err := bus.Call(ctx, conn, orchestrator.GrantKey, rpc.System(""), rpc.Empty{})
		return key.PublicKey, err
	}
}

// handleOwn answers a method about what belongs to the caller.
func handleOwn[Req, Resp any](s *bus.Server, m rpc.Method[Req, Resp], fn func(ctx context.Context, owner string, req Req) (Resp, error)) {
	bus.Handle(s, m, func(ctx context.Context, caller rpc.Caller, req Req) (resp Resp, err error) {
		if caller.UserID == "" {
			return resp, errs.New(errs.Unauthorized, "only a user has secrets; log in")
		}
		return fn(ctx, caller.UserID, req)
	})
}
