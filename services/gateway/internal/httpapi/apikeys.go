package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/pkg/form"
)

// newAPIKey documents what POST api-keys takes.
type newAPIKey struct {
	Name   string   `json:"name" minLength:"1" maxLength:"100"`
	Scopes []string `json:"scopes" minItems:"1" example:"[\"workflows:read\",\"workflows:execute\"]" doc:"what the key may be used for; the security scheme apiKey lists them"`
	APIKeyOptions
	UserID string `json:"userId,omitempty" format:"uuid" doc:"an AGENT account, for whom an ADMIN makes the key; one's own otherwise"`
}

// apiKeyPatch documents what PATCH api-keys/{id} takes.
type apiKeyPatch struct {
	Name   string   `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Scopes []string `json:"scopes,omitempty" minItems:"1" doc:"replaced whole"`
	APIKeyOptions
}

// APIKeyOptions is what a key may be given beside name and scopes.
type APIKeyOptions struct {
	ExpiresAt          *string `json:"expiresAt,omitempty" format:"date-time" nullable:"true" doc:"null for never"`
	RateLimitPerMinute *int    `json:"rateLimitPerMinute,omitempty" nullable:"true" minimum:"1" maximum:"600000" doc:"null for that of the user alone"`
}

// rotateBody documents what POST api-keys/{id}/rotate takes.
type rotateBody struct {
	OverlapMs int64 `json:"overlapMs,omitempty" minimum:"0" maximum:"604800000" default:"0" doc:"how long the old secret works on; without it, it ends at once"`
}

func (a *API) routeAPIKeys() {
	const tag, one = "api-keys", "/api-keys/{id}"
	register(a, route{method: http.MethodGet, path: "/api-keys", id: "listApiKeys", sorts: []string{"createdAt", "updatedAt", "name"}, tag: tag, scope: noKey, summary: "List API keys"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
			UserID  string `query:"userId" format:"uuid" doc:"of this user; for an ADMIN" example:"01a2060a-ce51-7e9f-b2f4-8b54a1c078a0"`
			Revoked bool   `query:"revoked" doc:"those that are revoked, which are not listed otherwise"`
		},
		) (*listed[identity.APIKey], error) {
			list, err := ask(ctx, a, identity.ListAPIKeys, identity.ListAPIKeysRequest{Page: page(in.PageParams, in.SortParams), UserID: in.UserID, Revoked: in.Revoked})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/api-keys", id: "createApiKey", tag: tag, scope: noKey, summary: "Make an API key; its text is shown this once",
		status: http.StatusCreated, access: access{body: bodyLimit}, document: reflect.TypeFor[newAPIKey](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			KeyParam
			RawJSON
		},
		) (*answer[identity.IssuedAPIKey], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			key, err := ask(ctx, a, identity.CreateAPIKey, identity.CreateAPIKeyRequest{Body: in.RawBody})
			return answerWith(ctx, key, err)
		})
	register(a, route{
		method: http.MethodPatch, path: one, id: "updateApiKey", tag: tag, scope: noKey, summary: "Change an API key",
		access: access{body: bodyLimit}, document: reflect.TypeFor[apiKeyPatch](), errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			IDParam
			RawJSON
		},
		) (*answer[identity.APIKey], error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			key, err := ask(ctx, a, identity.PatchAPIKey, identity.PatchAPIKeyRequest{ID: in.ID, Body: in.RawBody})
			return answerWith(ctx, key, err)
		})
	register(a, route{
		method: http.MethodDelete, path: one, id: "revokeApiKey", tag: tag, scope: noKey, summary: "End an API key for ever",
		status: http.StatusNoContent, errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*struct{}, error) {
			_, err := ask(ctx, a, identity.RevokeAPIKey, identity.APIKeyRequest{ID: in.ID})
			return &struct{}{}, err
		})
	register(a, route{
		method: http.MethodPost, path: one + "/rotate", id: "rotateApiKey", tag: tag, scope: noKey, summary: "Give an API key a new secret, which is shown this once",
		access: access{body: bodyLimit}, document: reflect.TypeFor[rotateBody](), optional: true, errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
		},
		) (*answer[identity.IssuedAPIKey], error) {
			overlap, err := parseRotate(in.RawBody)
			if err != nil {
				return nil, err
			}
			key, err := ask(ctx, a, identity.RotateAPIKey, identity.RotateAPIKeyRequest{ID: in.ID, OverlapMs: overlap})
			return answerWith(ctx, key, err)
		})
}

// parseRotate reads the body of a rotation, which may be absent.
func parseRotate(body []byte) (overlapMs int64, err error) {
	if len(body) == 0 {
		return 0, nil
	}
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Only("overlapMs")
		o.Int("overlapMs", &overlapMs, 0, 0, 7*24*3600*1000)
	}
	return overlapMs, faults.Err("request")
}
