//go:build unix

package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// byKey gives a client that sends an API key and no access token.
func (c *client) byKey(key string) *client {
	with := *c.as("")
	with.key = key
	return &with
}

func TestAPIKeyFromItsMakingToItsEnd(t *testing.T) {
	t.Parallel()
	c := user(t)
	made := data[identity.IssuedAPIKey](t, c.do(t, "POST", "/api-keys", object{"name": "ci", "scopes": []string{"agents:read", "users:read"}}), 201)
	if !strings.HasPrefix(made.Key, "tc_live_"+made.Prefix+"_") || made.UserID != c.session.User.ID || made.ExpiresAt != nil {
		t.Errorf("made %+v", made)
	}
	shape(t, "a key", data[object](t, c.do(t, "PATCH", "/api-keys/"+made.ID, object{"rateLimitPerMinute": 600}), 200),
		"id userId name prefix scopes rateLimitPerMinute expiresAt lastUsedAt createdAt updatedAt revokedAt")
	k := c.byKey(made.Key)
	a := k.do(t, "GET", "/users/me", nil)
	if me := data[identity.User](t, a, 200); me.ID != c.session.User.ID {
		t.Errorf("the key is of %+v", me)
	}
	if a.header.Get("X-RateLimit-Limit") != "600" {
		t.Errorf("the limit is %q", a.header.Get("X-RateLimit-Limit"))
	}
	data[[]object](t, k.do(t, "GET", "/agents", nil), 200)
	if e := fault(t, k.do(t, "POST", "/agents", object{"name": "a"}), errs.Forbidden); !strings.Contains(e.Message, "agents:write") {
		t.Errorf("what lacks is not named: %s", e.Message)
	}
	fault(t, k.do(t, "POST", "/api-keys", object{"name": "more", "scopes": []string{"agents:write"}}), errs.Forbidden)
	fault(t, k.do(t, "PATCH", "/api-keys/"+made.ID, object{"scopes": []string{"agents:write"}}), errs.Forbidden)
	if e := fault(t, c.do(t, "POST", "/api-keys", object{"name": "ci", "scopes": []string{"agents:destroy"}}), errs.Validation); !hasField(e, "scopes") {
		t.Errorf("%+v", e)
	}
	if keys, pagination := page[identity.APIKey](t, c.do(t, "GET", "/api-keys", nil)); len(keys) != 1 || pagination.Total != 1 || keys[0].LastUsedAt == nil {
		t.Errorf("listed %+v", keys)
	}
	other := user(t)
	fault(t, other.do(t, "DELETE", "/api-keys/"+made.ID, nil), errs.NotFound)
	fault(t, other.do(t, "POST", "/api-keys/"+made.ID+"/rotate", nil), errs.NotFound)

	rotated := data[identity.IssuedAPIKey](t, c.do(t, "POST", "/api-keys/"+made.ID+"/rotate", nil), 200)
	next := c.byKey(rotated.Key)
	data[identity.User](t, next.do(t, "GET", "/users/me", nil), 200)
	awaitRefused(t, k)
	if a := c.do(t, "DELETE", "/api-keys/"+made.ID, nil); a.status != http.StatusNoContent {
		t.Error(a)
	}
	eventually(t, 5*time.Second, func() error {
		if a := next.do(t, "GET", "/agents", nil); a.status != http.StatusUnauthorized {
			return errors.New(a.String())
		}
		return nil
	})
}
