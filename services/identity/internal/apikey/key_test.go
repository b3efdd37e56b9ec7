package apikey

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTextOfAKey(t *testing.T) {
	prefix := newPrefix()
	text := newText(prefix)
	if got, ok := prefixOf(text); !ok || got != prefix || !strings.HasPrefix(text, "tc_live_"+prefix+"_") || newText(prefix) == text {
		t.Fatalf("%q has the prefix %q, %v", text, got, ok)
	}
	secret := text[strings.LastIndexByte(text, '_')+1:]
	for _, wrong := range []string{
		"", "tc_live_", "tc_test_" + prefix + "_" + secret, text + "a", text[:len(text)-1], strings.ToUpper(text), prefix + "_" + secret,
		"tc_live_" + prefix + secret, "tc_live_" + prefix[1:] + "_" + secret + "a", strings.Replace(text, secret, strings.Repeat("\x00", len(secret)), 1),
		strings.Repeat("tc_live_", 100_000), " " + text, text + "\n", "tc_live_" + prefix[:14] + "é" + "_" + secret,
	} {
		if _, ok := prefixOf(wrong); ok {
			t.Errorf("%.80q passes for a key", wrong)
		}
	}
}

func FuzzPrefixOf(f *testing.F) {
	f.Add("tc_live_abcdefghabcdefgh_" + strings.Repeat("a", 52))
	f.Add("tc_live__")
	f.Fuzz(func(t *testing.T, text string) {
		if prefix, ok := prefixOf(text); ok && (len(prefix) != 16 || !strings.HasPrefix(text, marker+prefix+"_")) {
			t.Errorf("%q has the prefix %q", text, prefix)
		}
	})
}

func TestOpens(t *testing.T) {
	prefix := newPrefix()
	first, second, third := newText(prefix), newText(prefix), newText(prefix)
	in := func(d time.Duration) *time.Time {
		at := now.Add(d)
		return &at
	}
	key := func(change func(*Key)) Key {
		k := Key{Prefix: prefix, Digest: digest(first)}
		if change != nil {
			change(&k)
		}
		return k
	}
	for _, c := range []struct {
		name  string
		key   Key
		text  string
		ok    bool
		until *time.Time
	}{
		{"the key", key(nil), first, true, nil},
		{"another", key(nil), second, false, nil},
		{"revoked", key(func(k *Key) { k.RevokedAt = in(0) }), first, false, nil},
		{"not expired yet", key(func(k *Key) { k.ExpiresAt = in(1) }), first, true, in(1)},
		{"expired", key(func(k *Key) { k.ExpiresAt = in(0) }), first, false, nil},
		{"rotated at once: new", key(func(k *Key) { k.rotate(second, 0, now) }), second, true, nil},
		{"rotated at once: old", key(func(k *Key) { k.rotate(second, 0, now) }), first, false, nil},
		{"within the overlap: new", key(func(k *Key) { k.rotate(second, time.Hour, now) }), second, true, nil},
		{"within the overlap: old", key(func(k *Key) { k.rotate(second, time.Hour, now) }), first, true, in(time.Hour)},
		{"after the overlap", key(func(k *Key) { k.rotate(second, time.Hour, now.Add(-time.Hour)) }), first, false, nil},
		{"old and expiring", key(func(k *Key) { k.ExpiresAt = in(time.Minute); k.rotate(second, time.Hour, now) }), first, true, in(time.Minute)},
		{"old and revoked", key(func(k *Key) { k.rotate(second, time.Hour, now); k.RevokedAt = in(0) }), first, false, nil},
		{"rotated twice: the first", key(func(k *Key) { k.rotate(second, time.Hour, now); k.rotate(third, time.Hour, now) }), first, false, nil},
		{"rotated twice: the second", key(func(k *Key) { k.rotate(second, time.Hour, now); k.rotate(third, time.Hour, now) }), second, true, in(time.Hour)},
		{"no digest at all", Key{}, "", false, nil},
	} {
		until, refusal := c.key.opens(c.text, now)
		if ok := refusal == ""; ok != c.ok || (until == nil) != (c.until == nil) || until != nil && !until.Equal(*c.until) {
			t.Errorf("%s: %q until %v, want %v until %v", c.name, refusal, until, c.ok, c.until)
		}
	}
	if k := key(nil); bytes.Contains(k.Digest, []byte(first)) {
		t.Error("the key itself is stored")
	}
}

func TestParse(t *testing.T) {
	var k Key
	owner, err := k.parse(json.RawMessage(`{"name":"ci","scopes":["workflows:read","agents:read","agents:read"],"expiresAt":"2026-01-02T04:04:05+01:00","rateLimitPerMinute":60,"userId":"01930000-0000-7000-8000-000000000001"}`), true, now.Add(-time.Hour))
	if err != nil || owner == "" || k.Name != "ci" || !slices.Equal(k.Scopes, []string{"agents:read", "workflows:read"}) || *k.RateLimitPerMinute != 60 || !k.ExpiresAt.Equal(now.Add(-0)) {
		t.Fatalf("%+v of %q, %v", k, owner, err)
	}
	if owner, err = k.parse(json.RawMessage(`{"expiresAt":null,"rateLimitPerMinute":null,"prefix":"x","userId":"x"}`), false, now); err != nil || owner != "" ||
		k.ExpiresAt != nil || k.RateLimitPerMinute != nil || len(k.Scopes) != 2 || k.Prefix != "" {
		t.Fatalf("%+v of %q, %v", k, owner, err)
	}
	for _, c := range []struct {
		body   string
		create bool
		want   string // fields and codes of the faults
	}{
		{`{}`, true, "name required, scopes required"},
		{`{}`, false, ""},
		{`[]`, true, " bad_type"},
		{`{`, true, " bad_json"},
		{
			`{"name":" a","scopes":[],"expiresAt":"2026-01-02T03:04:05Z","rateLimitPerMinute":0,"secret":"x","userId":"me"}`, true,
			"expiresAt out_of_range, name bad_value, rateLimitPerMinute out_of_range, scopes required, secret unknown_field, userId out_of_range",
		},
		{`{"name":"a","scopes":["agents:read","*","agents:delete"]}`, true, "scopes bad_enum, scopes bad_enum"},
		{`{"name":"a","scopes":"agents:read"}`, true, "scopes bad_type"},
		{`{"scopes":[7]}`, false, "scopes required, scopes[0] bad_type"},
		{`{"scopes":null}`, false, "scopes required"},
		{`{"expiresAt":"tomorrow"}`, false, "expiresAt bad_value"},
		{`{"expiresAt":7}`, false, "expiresAt bad_value"},
		{`{"rateLimitPerMinute":600001}`, false, "rateLimitPerMinute out_of_range"},
		{`{"name":"` + strings.Repeat("x", 101) + `"}`, false, "name out_of_range"},
	} {
		k := Key{Name: "was", Scopes: []string{"agents:read"}}
		_, err := k.parse(json.RawMessage(c.body), c.create, now)
		var e *errs.Error
		var faults []string
		if errors.As(err, &e) {
			for _, d := range e.Details {
				faults = append(faults, d.Field+" "+string(d.Code))
				if d.Field == "scopes" && d.Code == errs.BadEnum && !strings.Contains(d.Message, "agents:read, agents:write") {
					t.Errorf("%q does not name the scopes", d.Message)
				}
			}
		}
		slices.Sort(faults)
		if got := strings.Join(faults, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.body, got, c.want)
		}
	}
	if names := contract.ScopeNames(); len(slices.Compact(names)) != len(contract.Scopes()) {
		t.Error("a scope is listed twice")
	}
}
