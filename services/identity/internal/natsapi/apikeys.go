package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/services/identity/internal/apikey"
)

func registerKeys(s *bus.Server, keys *apikey.Keys, answers *once.Answers) {
	bus.Handle(s, contract.VerifyAPIKey, func(ctx context.Context, _ rpc.Caller, req contract.VerifyAPIKeyRequest) (contract.VerifyAPIKeyResponse, error) {
		return keys.Verify(ctx, req.Key)
	})
	bus.Handle(s, contract.CreateAPIKey, once.Shown(answers, contract.CreateAPIKey.Name, func(ctx context.Context, caller rpc.Caller, req contract.CreateAPIKeyRequest) (contract.IssuedAPIKey, error) {
		k, text, err := keys.Create(ctx, caller, req.Body)
		return contract.IssuedAPIKey{APIKey: toAPIKey(k), Key: text}, err
	}, notShown))
	bus.Handle(s, contract.ListAPIKeys, func(ctx context.Context, caller rpc.Caller, req contract.ListAPIKeysRequest) (rpc.List[contract.APIKey], error) {
		list, err := keys.List(ctx, caller, req)
		items := make([]contract.APIKey, len(list.Items))
		for i, k := range list.Items {
			items[i] = toAPIKey(k)
		}
		return rpc.List[contract.APIKey]{Items: items, Pagination: list.Pagination}, err
	})
	bus.Handle(s, contract.PatchAPIKey, func(ctx context.Context, caller rpc.Caller, req contract.PatchAPIKeyRequest) (contract.APIKey, error) {
		k, err := keys.Patch(ctx, caller, req.ID, req.Body)
		return toAPIKey(k), err
	})
	bus.Handle(s, contract.RotateAPIKey, once.Shown(answers, contract.RotateAPIKey.Name, func(ctx context.Context, caller rpc.Caller, req contract.RotateAPIKeyRequest) (contract.IssuedAPIKey, error) {
		k, text, err := keys.Rotate(ctx, caller, req.ID, req.OverlapMs)
		return contract.IssuedAPIKey{APIKey: toAPIKey(k), Key: text}, err
	}, notShown))
	bus.Handle(s, contract.RevokeAPIKey, func(ctx context.Context, caller rpc.Caller, req contract.APIKeyRequest) (rpc.Empty, error) {
		return rpc.Empty{}, keys.Revoke(ctx, caller, req.ID)
	})
}

// notShown is what a repetition is told that issued the text of a key: which key it was.
func notShown(issued contract.IssuedAPIKey) error {
	if issued.Key != "" {
		return nil
	}
	return errs.New(errs.Conflict, "this Idempotency-Key has issued the API key %s already, and its text is shown once; rotate that key with a new Idempotency-Key, or revoke it", issued.ID)
}

func toAPIKey(k apikey.Key) contract.APIKey {
	return contract.APIKey{
		ID: k.ID.String(), UserID: k.UserID.String(), Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, RateLimitPerMinute: k.RateLimitPerMinute,
		ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt, CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt, RevokedAt: k.RevokedAt,
	}
}
