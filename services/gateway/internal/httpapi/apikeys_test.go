package httpapi_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// keyID is the id of each of alice's API keys.
const keyID = "01930000-0000-7000-8000-0000000000cc"

// keyOf gives a key of alice with these scopes.
func keyOf(scopes ...string) string { return "tc_live_alice_" + strings.Join(scopes, "+") }

// withKey is a header that sends a key.
func withKey(key string) map[string]string { return map[string]string{"X-API-Key": key} }

// serveKeys plays identity as far as it knows API keys: those of keyOf, and "limited" ones that may come twice a minute.
func serveKeys(w *world, id *bus.Server) {
	answer(w, id, identity.VerifyAPIKey, func(_ rpc.Caller, r identity.VerifyAPIKeyRequest) (identity.VerifyAPIKeyResponse, error) {
		scopes, ok := strings.CutPrefix(r.Key, "tc_live_alice_")
		who := identity.VerifyAPIKeyResponse{APIKeyID: keyID, UserID: alice.UserID, Role: alice.Role}
		w.mu.Lock()
		revoked := w.down["key"]
		w.mu.Unlock()
		switch {
		case r.Key == "tc_live_limited":
			who.Scopes, who.RateLimitPerMinute = identity.ScopeNames(), 2
		case !ok || revoked:
			return who, errs.New(errs.Unauthorized, "the API key is not valid: it is unknown, revoked or expired; send another")
		case scopes != "":
			who.Scopes = strings.Split(scopes, "+")
		}
		return who, nil
	})
	shown := func(c rpc.Caller, name string) identity.APIKey {
		return identity.APIKey{ID: keyID, UserID: c.UserID, Name: name, Scopes: []string{"agents:read"}}
	}
	answer(w, id, identity.CreateAPIKey, func(c rpc.Caller, r identity.CreateAPIKeyRequest) (identity.IssuedAPIKey, error) {
		return identity.IssuedAPIKey{APIKey: shown(c, string(r.Body)), Key: "tc_live_x"}, nil
	})
	answer(w, id, identity.ListAPIKeys, func(c rpc.Caller, r identity.ListAPIKeysRequest) (rpc.List[identity.APIKey], error) {
		name, err := asked(r)
		return rpc.List[identity.APIKey]{Items: []identity.APIKey{shown(c, name)}}, err
	})
	answer(w, id, identity.PatchAPIKey, func(c rpc.Caller, r identity.PatchAPIKeyRequest) (identity.APIKey, error) {
		return shown(c, string(r.Body)), nil
	})
	answer(w, id, identity.RotateAPIKey, func(c rpc.Caller, r identity.RotateAPIKeyRequest) (identity.IssuedAPIKey, error) {
		return identity.IssuedAPIKey{APIKey: shown(c, strconv.FormatInt(r.OverlapMs, 10)), Key: "tc_live_y"}, nil
	})
	answer(w, id, identity.RevokeAPIKey, func(rpc.Caller, identity.APIKeyRequest) (rpc.Empty, error) { return rpc.Empty{}, nil })
}

func TestAPIKeyRoutes(t *testing.T) {
	w := start(t, setup{})
	const all, one = "/api/v1/api-keys", "/api/v1/api-keys/" + thingID
	for _, s := range []scenario{
		{name: "create", request: request{method: "POST", path: all, token: aliceToken, body: `{"name":"ci"}`}, status: 201, holds: `"key":"tc_live_x"`},
		{name: "list", request: request{method: "GET", path: all + "?revoked=true&search=x", token: aliceToken}, status: 200, holds: `{\"pageSize\":20,\"search\":\"x\",\"revoked\":true}`},
		{name: "list wrongly", request: request{method: "GET", path: all + "?revoked=perhaps", token: aliceToken}, status: 400, code: errs.Validation, faults: []string{"revoked bad_value"}},
		{name: "change", request: request{method: "PATCH", path: one, token: aliceToken, body: `{"expiresAt":null}`}, status: 200, holds: `{\"expiresAt\":null}`},
		{name: "rotate", request: request{method: "POST", path: one + "/rotate", token: aliceToken}, status: 200, holds: `"name":"0"`},
		{name: "rotate with an overlap", request: request{method: "POST", path: one + "/rotate", token: aliceToken, body: `{"overlapMs":60000}`}, status: 200, holds: `"name":"60000"`},
		{name: "rotate wrongly", request: request{method: "POST", path: one + "/rotate", token: aliceToken, body: `{"overlapMs":604800001,"x":1}`}, status: 400, code: errs.Validation, faults: []string{"overlapMs out_of_range", "x unknown_field"}},
		{name: "revoke", request: request{method: "DELETE", path: one, token: aliceToken}, status: 204},

		{name: "call with a key", request: request{method: "GET", path: "/api/v1/users/me", header: withKey(keyOf("users:read"))}, status: 200, holds: alice.UserID},
		{name: "unknown key", request: request{method: "GET", path: "/api/v1/users/me", header: withKey("tc_live_nobody")}, status: 401, code: errs.Unauthorized},
		{name: "empty key", request: request{method: "GET", path: "/api/v1/users/me", header: withKey("")}, status: 401, code: errs.Unauthorized},
		{name: "very long key", request: request{method: "GET", path: "/api/v1/users/me", header: withKey(strings.Repeat("x", 5000))}, status: 401, code: errs.Unauthorized},
		{name: "a key as a token", request: request{method: "GET", path: "/api/v1/users/me", token: keyOf("users:read")}, status: 401, code: errs.Unauthorized},
		{name: "a token as a key", request: request{method: "GET", path: "/api/v1/users/me", header: withKey(aliceToken)}, status: 401, code: errs.Unauthorized},
		{name: "both", request: request{method: "GET", path: "/api/v1/users/me", token: aliceToken, header: withKey(keyOf("users:read"))}, status: 401, code: errs.Unauthorized},
	} {
		t.Run(s.name, func(t *testing.T) { w.check(t, s) })
	}
	w.do(request{method: "GET", path: "/api/v1/users/me", header: withKey(keyOf("users:read", "agents:read"))})
	if _, c := w.called("identity.get_me"); c.APIKeyID != keyID || c.SessionID != "" || !slices.Equal(c.Scopes, []string{"users:read", "agents:read"}) {
		t.Errorf("the caller is %+v", c)
	}
}

// TestScopesBoundEveryRoute calls each documented route with keys that may not call it, and with one that may.
func TestScopesBoundEveryRoute(t *testing.T) {
	w := start(t, setup{})
	document, _ := loadDocument(t, w)
	needed := map[string]bool{}
	closed := 0
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Security == nil {
				continue // anonymous
			}
			scope := ""
			for _, way := range *op.Security {
				if scopes, ok := way["apiKey"]; ok {
					scope = strings.Join(scopes, " ")
				}
			}
			r := request{method: method, path: strings.NewReplacer("{id}", thingID, "{triggerId}", thingID, "{name}", "paid").Replace(path)}
			if method != http.MethodGet {
				r.body = `{}`
			}
			if scope == "" {
				closed++
				r.header = withKey(keyOf(identity.ScopeNames()...))
				if got := w.do(r); got.status != 403 || !strings.Contains(got.body.Error.Message, "no API key may call this route") {
					t.Errorf("%s %s with a key: %d %s", method, path, got.status, got.text)
				}
				continue
			}
			needed[scope] = true
			others := slices.DeleteFunc(identity.ScopeNames(), func(s string) bool { return s == scope })
			for _, key := range []string{keyOf(others...), keyOf()} {
				r.header = withKey(key)
				if got := w.do(r); got.status != 403 || got.body.Error.Code != errs.Forbidden || !strings.Contains(got.body.Error.Message, "lacks the scope "+scope) {
					t.Errorf("%s %s with %s: %d %s", method, path, key, got.status, got.text)
				}
			}
			if r.header = withKey(keyOf(scope)); strings.HasSuffix(path, "/events") || strings.HasSuffix(path, "/stream") {
				r.header["Last-Event-ID"] = "x" // it is let in, and does not stream
			}
			if got := w.do(r); got.status == 401 || strings.Contains(got.text, "lacks the scope") || strings.Contains(got.text, "no API key may") {
				t.Errorf("%s %s with its scope: %d %s", method, path, got.status, got.text)
			}
		}
	}
	var scopes []string
	for scope := range needed {
		scopes = append(scopes, scope)
	}
	slices.Sort(scopes)
	if !slices.Equal(scopes, identity.ScopeNames()) {
		t.Errorf("routes need   %v\ncontracts has %v; correct Scopes in contracts/identity/scope.go", scopes, identity.ScopeNames())
	}
	if closed < 6 {
		t.Errorf("only %d routes are closed to keys", closed)
	}
	if scheme := document.Components.SecuritySchemes["apiKey"].Value; scheme.Name != "X-API-Key" || scheme.Extensions["x-scopes"] == nil {
		t.Errorf("the security scheme is %+v", scheme)
	}
}

// TestKeyLimits has a key of its own limit, within that of its user.
func TestKeyLimits(t *testing.T) {
	w := start(t, setup{userPerSecond: 50})
	me := request{method: "GET", path: "/api/v1/users/me", header: withKey("tc_live_limited")}
	for left := 1; left >= 0; left-- {
		got := w.do(me)
		if got.status != 200 || got.header.Get("X-RateLimit-Limit") != "2" || got.header.Get("X-RateLimit-Remaining") != strconv.Itoa(left) {
			t.Fatalf("status %d, headers %v, want %d left", got.status, got.header, left)
		}
	}
	got := w.do(me)
	if wait, err := strconv.Atoi(got.header.Get("Retry-After")); got.status != 429 || got.body.Error.Code != errs.RateLimited || err != nil || wait < 1 || wait > 30 {
		t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.text)
	}
	for name, r := range map[string]request{
		"another key of the user": {method: "GET", path: "/api/v1/users/me", header: withKey(keyOf("users:read"))},
		"a login of the user":     {method: "GET", path: "/api/v1/users/me", token: aliceToken},
	} {
		if got := w.do(r); got.status != 200 || got.header.Get("X-RateLimit-Limit") != "100" {
			t.Errorf("%s: status %d, limit %q", name, got.status, got.header.Get("X-RateLimit-Limit"))
		}
	}
}

// TestRevokedKeysEnd has two gateways, both of which have seen a key that is revoked then.
func TestRevokedKeysEnd(t *testing.T) {
	w := start(t, setup{})
	other := start(t, setup{conn: w.bus}) // what it is told by identity is either's
	me := request{method: "GET", path: "/api/v1/users/me", header: withKey(keyOf("users:read"))}
	for _, g := range []*world{w, other} {
		if got := g.do(me); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.text)
		}
	}
	for _, g := range []*world{w, other} {
		g.mu.Lock()
		g.down["key"] = true
		g.mu.Unlock()
	}
	revoked := time.Now()
	for _, g := range []*world{w, other} {
		for g.do(me).status != 401 {
			if time.Since(revoked) > 5*time.Second {
				t.Fatal("a revoked key still works after 5 s")
			}
		}
	}
}
