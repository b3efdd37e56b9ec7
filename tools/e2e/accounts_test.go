//go:build unix

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

func TestRegisterAndLogin(t *testing.T) {
	t.Parallel()
	c := user(t)
	email := c.session.User.Email

	a := c.do(t, "POST", "/auth/login", object{"email": strings.ToUpper(email), "password": password})
	answered := data[object](t, a, 200)
	shape(t, "a session", answered, "user accessToken refreshToken tokenType expiresAt refreshExpiresAt")
	shape(t, "a user", answered["user"], "id email fullName role active avatarUrl preferences createdAt lastLoginAt")
	session := data[identity.Session](t, a, 200)
	u := session.User
	if u.ID != c.session.User.ID || u.Email != email || u.FullName != "A User" || u.Role != "USER" || !u.Active || u.LastLoginAt == nil || string(u.Preferences) != "{}" {
		t.Errorf("logged in as %+v", u)
	}
	if left := time.Until(session.ExpiresAt); left < 14*time.Minute || left > 15*time.Minute {
		t.Errorf("the access token lives for %s", left)
	}
	if left := time.Until(session.RefreshExpiresAt); left < 167*time.Hour || left > 168*time.Hour {
		t.Errorf("the refresh token lives for %s", left)
	}

	fault(t, c.do(t, "POST", "/auth/register", object{"email": email, "password": password, "fullName": "Another"}), errs.Conflict)
	wrong := fault(t, c.do(t, "POST", "/auth/login", object{"email": email, "password": password + "x"}), errs.Unauthorized)
	unknown := fault(t, c.do(t, "POST", "/auth/login", object{"email": "nobody-" + email, "password": password}), errs.Unauthorized)
	if wrong.Message != unknown.Message {
		t.Errorf("a wrong password and an unknown address are told apart: %q, %q", wrong.Message, unknown.Message)
	}

	got := fault(t, c.do(t, "POST", "/auth/register", object{"email": "not an address", "password": "short", "fullName": ""}), errs.Validation)
	for _, field := range []string{"email", "password", "fullName"} {
		if !hasField(got, field) {
			t.Errorf("%s is not at fault in %+v", field, got)
		}
	}
	fault(t, c.do(t, "POST", "/auth/register", object{"email": "x-" + email, "password": password, "fullName": "X", "role": "ADMIN"}), errs.Validation)
}

func hasField(e errs.Error, field string) bool {
	for _, d := range e.Details {
		if d.Field == field {
			return true
		}
	}
	return false
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	c := user(t)
	first := c.session
	second := data[identity.Session](t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": first.RefreshToken}), 200)
	if second.RefreshToken == first.RefreshToken || second.User.ID != first.User.ID {
		t.Errorf("a refresh does not make a new token of the same user")
	}
	data[identity.User](t, c.as(second.AccessToken).do(t, "GET", "/users/me", nil), 200)

	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": first.RefreshToken}), errs.Unauthorized)
	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": second.RefreshToken}), errs.Unauthorized)
	awaitRefused(t, c.as(second.AccessToken))
	awaitRefused(t, c)

	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": first.AccessToken}), errs.Unauthorized)
	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": "x"}), errs.Unauthorized)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	c := user(t)
	other := data[identity.Session](t, c.do(t, "POST", "/auth/login", object{"email": c.session.User.Email, "password": password}), 200)
	if a := c.do(t, "POST", "/auth/logout", object{"refreshToken": c.session.RefreshToken}); a.status != 204 {
		t.Fatal(a)
	}
	awaitRefused(t, c)
	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": c.session.RefreshToken}), errs.Unauthorized)
	data[identity.User](t, c.as(other.AccessToken).do(t, "GET", "/users/me", nil), 200)
}

// awaitRefused waits until the access token works no more; a gateway may believe in it for two seconds.
func awaitRefused(t *testing.T, c *client) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		if a := c.do(t, "GET", "/users/me", nil); a.status != http.StatusUnauthorized {
			return errors.New(a.String())
		}
		return nil
	})
}

func TestOwnAccount(t *testing.T) {
	t.Parallel()
	c := user(t)
	patch := func(body object) identity.User {
		t.Helper()
		return data[identity.User](t, c.do(t, "PATCH", "/users/me", body), 200)
	}
	u := patch(object{"fullName": "Ada", "avatarUrl": "https://example.com/a.png", "preferences": object{"theme": "dark", "deep": object{"n": 1}}})
	if u.FullName != "Ada" || u.AvatarURL == nil || *u.AvatarURL != "https://example.com/a.png" || string(u.Preferences) == "{}" {
		t.Errorf("changed to %+v", u)
	}
	u = patch(object{"avatarUrl": nil})
	if u.FullName != "Ada" || u.AvatarURL != nil || string(u.Preferences) == "{}" {
		t.Errorf("an absent field does not stay, or null does not clear: %+v", u)
	}
	c.do(t, "PATCH", "/users/me", object{"role": "ADMIN", "active": false})
	if me := data[identity.User](t, c.do(t, "GET", "/users/me", nil), 200); me.Role != "USER" || !me.Active || me.FullName != "Ada" {
		t.Errorf("the account is %+v", me)
	}
	fault(t, c.do(t, "PATCH", "/users/me", object{"fullName": 7}), errs.Validation)
	fault(t, c.do(t, "PATCH", "/users/me", object{"nickname": "A"}), errs.Validation)
}

func TestAccessTokens(t *testing.T) {
	t.Parallel()
	c := user(t)
	header, rest, _ := strings.Cut(c.session.AccessToken, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	for name, token := range map[string]string{
		"none":           "",
		"garbage":        "garbage",
		"a refresh":      c.session.RefreshToken,
		"unsigned":       none + "." + payload + ".",
		"wrong alg":      none + "." + payload + "." + signature,
		"bad signature":  header + "." + payload + "." + strings.Repeat("A", len(signature)),
		"other payload":  header + "." + changed(t, payload, func(claims object) { claims["role"] = "ADMIN" }) + "." + signature,
		"other audience": sign(header, changed(t, payload, func(claims object) { claims["aud"] = "elsewhere" })),
		"very long":      strings.Repeat("x", 5000),
	} {
		if a := c.as(token).do(t, "GET", "/users/me", nil); a.status != 401 || !strings.Contains(string(a.body), `"UNAUTHORIZED"`) {
			t.Errorf("%s: %s", name, a)
		}
	}
	if a := c.as("").do(t, "GET", "/users/me", nil, "Authorization", "Basic "+c.session.AccessToken); a.status != 401 {
		t.Error(a)
	}
	if lab.started == nil {
		return // an installation with secrets of its own
	}
	expired := sign(header, changed(t, payload, func(claims object) {
		for _, name := range []string{"iat", "exp"} {
			if at, ok := claims[name].(float64); ok {
				claims[name] = int64(at) - 3600
			}
		}
	}))
	fault(t, c.as(expired).do(t, "GET", "/users/me", nil), errs.TokenExpired)
}

// changed gives the payload of a token with other claims.
func changed(t *testing.T, payload string, change func(claims object)) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	var claims object
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	change(claims)
	if text, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func sign(header, payload string) string {
	mac := hmac.New(sha256.New, []byte(accessSecret))
	mac.Write([]byte(header + "." + payload))
	return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
