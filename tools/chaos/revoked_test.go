//go:build unix

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/proxytest"
)

// revokedWithin is when whatever was revoked is refused by every gateway.
const revokedWithin = 5 * time.Second

// caller asks the API through one gateway.
type caller struct {
	door, header, secret string // the secret stands in the header
}

// through is the caller at another gateway.
func (c caller) through(door string) caller {
	c.door = door
	return c
}

// answered is what a caller got.
type answered struct {
	status int
	Data   map[string]any
	List   []map[string]any
	Error  struct{ Code string }
}

// ask sends a request and reads the answer, which has an envelope or no body.
func (c caller) ask(ctx context.Context, method, path string, body any) (answered, error) {
	sent, err := json.Marshal(body)
	if err != nil {
		return answered{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.door+"/api/v1"+path, bytes.NewReader(sent))
	if err != nil {
		return answered{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.secret != "" {
		req.Header.Set(c.header, c.secret)
	}
	resp, err := lab.client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answered{status: resp.StatusCode}
	raw, err := io.ReadAll(resp.Body)
	if err != nil || len(raw) == 0 {
		return a, err
	}
	var envelope struct {
		Success *bool
		Data    json.RawMessage
		Error   struct{ Code string }
	}
	if err := json.Unmarshal(raw, &envelope); err != nil || envelope.Success == nil {
		return a, fmt.Errorf("%s %s: %d is no envelope: %.200s", method, path, a.status, raw)
	}
	a.Error = envelope.Error
	if json.Unmarshal(envelope.Data, &a.Data) != nil {
		_ = json.Unmarshal(envelope.Data, &a.List) // what is neither is not looked at
	}
	return a, nil
}

// must asks what has to succeed.
func (c *check) must(who caller, method, path string, body any) answered {
	c.t.Helper()
	a, err := who.ask(c.t.Context(), method, path, body)
	if err != nil || a.status >= 300 {
		c.t.Fatalf("%s %s: %d %s, %v", method, path, a.status, a.Error.Code, err)
	}
	return a
}

// account is a user who is logged in.
type account struct {
	caller
	id, email, refresh string
}

// enter makes an account, or another session of one.
func (c *check) enter(route string, body map[string]any) account {
	c.t.Helper()
	body["password"] = "Correct-horse-9"
	session := c.must(caller{door: c.door}, "POST", "/auth/"+route, body).Data
	user, _ := session["user"].(map[string]any)
	return account{
		caller: caller{c.door, "Authorization", fmt.Sprint("Bearer ", session["accessToken"])},
		id:     fmt.Sprint(user["id"]), email: fmt.Sprint(user["email"]), refresh: fmt.Sprint(session["refreshToken"]),
	}
}

func (c *check) register() account {
	c.t.Helper()
	return c.enter("register", map[string]any{"email": fmt.Sprintf("user-%d@example.com", time.Now().UnixNano()), "fullName": "A User"})
}

func (c *check) login(a account) account {
	c.t.Helper()
	return c.enter("login", map[string]any{"email": a.email})
}

// key makes an API key of an account.
func (c *check) key(a account) (id string, key caller) {
	c.t.Helper()
	made := c.must(a.caller, "POST", "/api-keys", map[string]any{"name": "k", "scopes": []string{"users:read"}}).Data
	return fmt.Sprint(made["id"]), caller{a.door, "X-API-Key", fmt.Sprint(made["key"])}
}

// ending ends accesses through one gateway, which are used through the other.
type ending struct {
	what     string
	accesses []caller
	end      func()
}

// TestS02RevokedEverywhere ends sessions, API keys and accounts through one gateway, and wants the other to refuse them in time: with Redis,
// while it is dead, and after it has come back without what it knew.
func TestS02RevokedEverywhere(t *testing.T) {
	c := drawCheck(t, "S02")
	c.laboratory = newLaboratory(t, 1, 1, false)
	here := c.door
	c.add(identity, 2).start()
	c.add(gateway, 2).start()
	there := c.door
	c.door = here
	c.awaitReady(readyWithin)

	admin := c.register()
	db, err := postgres.Open(c.pg.URL(), identity)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), `UPDATE users SET role = 'ADMIN' WHERE id = $1`, admin.id); err != nil {
		t.Fatal(err)
	}
	admin = c.login(admin)

	options, err := redis.ParseURL(c.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	memory := redis.NewClient(options)
	defer func() { _ = memory.Close() }()
	rounds := []struct {
		what   string
		before func()
	}{
		{"with Redis", func() {}},
		{"Redis dead", func() { c.redisLinks((*proxytest.Proxy).Cut) }},
		{"Redis back, empty", func() {
			if err := memory.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			c.redisLinks((*proxytest.Proxy).Heal)
		}},
	}
	var all [][]ending // of each round; made while Redis is there, for without it nobody logs in
	for range rounds {
		all = append(all, c.endings(admin))
	}
	var slowest time.Duration
	var gone []caller
	for n, round := range rounds {
		round.before()
		for _, e := range all[n] {
			for _, access := range e.accesses {
				c.must(access, "GET", "/users/me", nil)
				c.must(access.through(there), "GET", "/users/me", nil) // it believes in it from now on
			}
			e.end()
			ended := time.Now()
			for _, access := range e.accesses {
				c.eventually(bound(revokedWithin), func() error {
					a, err := access.through(there).ask(t.Context(), "GET", "/users/me", nil)
					if err == nil && a.status != http.StatusUnauthorized {
						err = fmt.Errorf("%s, %s: the other gateway answers %d", round.what, e.what, a.status)
					}
					return err
				})
			}
			slowest = max(slowest, time.Since(ended))
			gone = append(gone, e.accesses...)
		}
		for _, access := range gone { // nothing comes back
			for _, door := range []string{here, there} {
				if a, err := access.through(door).ask(t.Context(), "GET", "/users/me", nil); err != nil || a.status != http.StatusUnauthorized {
					t.Errorf("%s: what was ended is answered %d, %v", round.what, a.status, err)
				}
			}
		}
		c.must(admin.through(there), "GET", "/users/me", nil)
	}
	c.number("%d accesses were ended; the other gateway refused each after %.1f s at most", len(gone), slowest.Seconds())
	c.recorded = true
}

// redisLinks does something with every way to Redis.
func (c *check) redisLinks(do func(*proxytest.Proxy)) {
	for _, p := range c.services {
		if p.redis != nil {
			do(p.redis)
		}
	}
}

// endings makes accesses for each way to end some.
func (c *check) endings(admin account) []ending {
	c.t.Helper()
	user := c.register()
	out, listed := c.login(user), c.login(user)
	id, key := c.key(user)
	_, other := c.key(user)
	return []ending{
		{"a session logs out", []caller{out.caller}, func() {
			c.must(caller{door: c.door}, "POST", "/auth/logout", map[string]any{"refreshToken": out.refresh})
		}},
		{"a session is ended by another", []caller{listed.caller}, func() {
			for _, s := range c.must(listed.caller, "GET", "/users/me/sessions", nil).List {
				if s["current"] == true {
					c.must(user.caller, "DELETE", fmt.Sprint("/users/me/sessions/", s["id"]), nil)
				}
			}
		}},
		{"an API key is revoked", []caller{key}, func() { c.must(user.caller, "DELETE", "/api-keys/"+id, nil) }},
		{"an account is disabled", []caller{user.caller, other}, func() {
			c.must(admin.caller, "PATCH", "/users/"+user.id, map[string]any{"active": false})
		}},
	}
}
