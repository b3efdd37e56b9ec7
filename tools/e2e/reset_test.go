//go:build unix

package e2e

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
)

// admin gives the administrator of the shared installation, logged in.
func admin(t *testing.T) *client {
	t.Helper()
	c := guest(t)
	if lab.started == nil {
		t.Skip("SKIPPED: the administrator of an installation that runs already is not known")
	}
	c.session = data[identity.Session](t, c.do(t, "POST", "/auth/login", object{"email": "admin@turbocat.dev", "password": password}), 200)
	return c
}

var resetToken = regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{43}$`)

// tokenFor waits for a mail to an address that holds another token than one seen before.
func tokenFor(t *testing.T, admin *client, email, before string) (token string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		mails, _ := page[identity.DevMail](t, admin.do(t, "GET", "/dev/mail?pageSize=100", nil))
		for _, m := range mails {
			if token = resetToken.FindString(m.Text); m.To == email && token != "" && token != before {
				return nil
			}
		}
		return errors.New("there is no mail")
	})
	return token
}

func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	c, admin := user(t), admin(t)
	email := c.session.User.Email
	forgot := func(email string, headers ...string) {
		t.Helper()
		data[object](t, c.as("").do(t, "POST", "/auth/forgot-password", object{"email": email}, headers...), 200)
	}
	forgot("nobody-" + email)
	forgot(email)
	first := tokenFor(t, admin, email, "")
	forgot(email, "X-Forwarded-Host", "evil.example.com", "Forwarded", "host=evil.example.com", "Origin", "https://evil.example.com")
	second := tokenFor(t, admin, email, first)
	mails, _ := page[identity.DevMail](t, admin.do(t, "GET", "/dev/mail?pageSize=100", nil))
	for _, m := range mails {
		if regexp.MustCompile("evil|nobody-").MatchString(m.Text + m.To) {
			t.Errorf("a mail of what a client says: %+v", m)
		}
	}
	const better = "Another-horse-9"
	reset := func(token, password string) answer {
		t.Helper()
		return c.as("").do(t, "POST", "/auth/reset-password", object{"token": token, "password": password})
	}
	fault(t, reset(first, better), errs.Validation)
	fault(t, reset(second, "short"), errs.Validation)
	data[object](t, reset(second, better), 200)
	fault(t, reset(second, better), errs.Validation)
	awaitRefused(t, c)
	fault(t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": c.session.RefreshToken}), errs.Unauthorized)
	fault(t, c.do(t, "POST", "/auth/login", object{"email": email, "password": password}), errs.Unauthorized)
	data[identity.Session](t, c.do(t, "POST", "/auth/login", object{"email": email, "password": better}), 200)
	fault(t, user(t).do(t, "GET", "/dev/mail", nil), errs.Forbidden)
}

// TestAnAgentAccount makes one, gives it a key, and shuts it out.
func TestAnAgentAccount(t *testing.T) {
	t.Parallel()
	robot, admin := user(t), admin(t)
	id, email := robot.session.User.ID, robot.session.User.Email
	if u := data[identity.User](t, admin.do(t, "PATCH", "/users/"+id, object{"role": "AGENT"}), 200); u.Role != "AGENT" {
		t.Errorf("%+v", u)
	}
	awaitRefused(t, robot)
	fault(t, robot.do(t, "POST", "/auth/login", object{"email": email, "password": password}), errs.Unauthorized)
	made := data[identity.IssuedAPIKey](t, admin.do(t, "POST", "/api-keys", object{"name": "robot", "scopes": []string{"users:read"}, "userId": id}), 201)
	key := robot.byKey(made.Key)
	if me := data[identity.User](t, key.do(t, "GET", "/users/me", nil), 200); me.ID != id || me.Role != "AGENT" {
		t.Errorf("%+v", me)
	}
	fault(t, key.do(t, "GET", "/users", nil), errs.Forbidden)
	users, _ := page[identity.User](t, admin.do(t, "GET", "/users?role=AGENT&active=true&search="+email, nil))
	if len(users) != 1 || users[0].ID != id {
		t.Errorf("%+v", users)
	}
	data[identity.User](t, admin.do(t, "PATCH", "/users/"+id, object{"active": false}), 200)
	awaitRefused(t, key)
	fault(t, admin.do(t, "PATCH", "/users/"+admin.session.User.ID, object{"active": false}), errs.Conflict)
}
