package httpapi

import (
	"context"
	"net/http"
	"reflect"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// secretValue documents what PUT secrets/{name} takes.
type secretValue struct {
	Value string `json:"value" minLength:"1" maxLength:"65536" doc:"at most 65,536 bytes of UTF-8; no answer ever has it"`
}

// SecretParam names a secret.
type SecretParam struct {
	Name string `path:"name" doc:"1 to 128 letters, digits, - and _, with a letter or _ first" example:"MODEL_KEY"`
}

// putSecret is the output of PUT secrets/{name}.
type putSecret struct {
	Status int
	Body   envelope[identity.Secret]
}

func (a *API) routeSecrets() {
	const tag, all, one = "secrets", "/secrets", "/secrets/{name}"
	register(a, route{method: http.MethodGet, path: all, id: "listSecrets", sorts: []string{"createdAt", "updatedAt", "name"}, tag: tag, summary: "List one's own secrets, by name; nothing tells their values"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
		},
		) (*listed[identity.Secret], error) {
			list, err := ask(ctx, a, identity.ListSecrets, identity.ListSecretsRequest{Page: page(in.PageParams, in.SortParams)})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPut, path: one, id: "putSecret", tag: tag, summary: "Make a secret (201), or give it another value (200)",
		access: access{body: bodyLimit}, document: reflect.TypeFor[secretValue](), errors: []errs.Code{errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			SecretParam
			RawJSON
		},
		) (*putSecret, error) {
			if err := object(in.RawBody); err != nil {
				return nil, err
			}
			stored, err := ask(ctx, a, identity.PutSecret, identity.PutSecretRequest{Name: in.Name, Body: in.RawBody})
			if err != nil {
				return nil, err
			}
			out := &putSecret{Status: http.StatusOK, Body: enclose(ctx, stored.Secret)}
			if stored.Created {
				out.Status = http.StatusCreated
			}
			return out, nil
		})
	a.documentStatus(one, http.StatusOK, http.StatusCreated)
	register(a, route{
		method: http.MethodDelete, path: one, id: "deleteSecret", tag: tag, summary: "Delete a secret", status: http.StatusNoContent, errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *SecretParam) (*struct{}, error) {
			_, err := ask(ctx, a, identity.DeleteSecret, identity.SecretRequest{Name: in.Name})
			return &struct{}{}, err
		})
}
