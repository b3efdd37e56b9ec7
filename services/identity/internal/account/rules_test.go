package account

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/token"
)

func TestEmail(t *testing.T) {
	for given, want := range map[string]string{
		" Ada@Example.COM\n":                   "ada@example.com",
		"a@b.c":                                "a@b.c",
		"first.last+tag@mail.example.org":      "first.last+tag@mail.example.org",
		strings.Repeat("a", 64) + "@b.com":     strings.Repeat("a", 64) + "@b.com",
		"x@xn--bcher-kva.example":              "x@xn--bcher-kva.example",
		"o'brien@example.com":                  "o'brien@example.com",
		"admin@turbocat.dev":                   "admin@turbocat.dev",
		"":                                     "",
		"a":                                    "",
		"@b.c":                                 "",
		"a@":                                   "",
		"a@b":                                  "",
		"a@b..c":                               "",
		"a@.b.c":                               "",
		"a@b.c.":                               "",
		"a@-b.c":                               "",
		"a@b_c.d":                              "",
		"a@[127.0.0.1]":                        "",
		"a b@c.d":                              "",
		"a@@b.c":                               "",
		".a@b.c":                               "",
		"a..b@c.d":                             "",
		`"a"@b.c`:                              "",
		"Ada <a@b.c>":                          "",
		"<a@b.c>":                              "",
		"a@b.c, d@e.f":                         "",
		"a@b.c (comment)":                      "",
		"a@b.c\x00":                            "",
		"a@b.c\r\nBcc: d@e.f":                  "",
		"\xff@b.c":                             "",
		"ä@b.c":                                "",
		strings.Repeat("a", 65) + "@b.com":     "",
		"a@" + strings.Repeat("b.", 130) + "c": "",
		strings.Repeat("a", 1<<20):             "",
	} {
		email := normalEmail(given)
		faults := checkEmail(email)
		if (len(faults) == 0) != (want != "") || (want != "" && email != want) {
			t.Errorf("%.80q: %q, %v; want %q", given, email, faults, want)
		}
	}
}

func TestParseProfile(t *testing.T) {
	large := `{"preferences":{"a":"` + strings.Repeat("x", maxPreferences-len(`{"a":""}`)) + `"}}`
	tests := []struct {
		name, body string
		want       []string // field:code
	}{
		{"nothing", `{}`, nil},
		{"everything", `{"fullName":"Ada L","avatarUrl":"https://x.example/a.png","preferences":{"theme":"dark"}}`, nil},
		{"cleared", `{"avatarUrl":null,"preferences":null}`, nil},
		{"read-only fields", `{"id":1,"email":"x","role":"ADMIN","active":false,"createdAt":null,"lastLoginAt":0}`, nil},
		{
			"all faults", `{"fullName":" ","avatarUrl":"ftp://x","preferences":[],"nickname":"x","passwordHash":"y"}`,
			[]string{"avatarUrl:bad_value", "fullName:required", "nickname:unknown_field", "passwordHash:unknown_field", "preferences:bad_type"},
		},
		{"other case is another field", `{"FullName":"x"}`, []string{"FullName:unknown_field"}},
		{"name null", `{"fullName":null}`, []string{"fullName:bad_type"}},
		{"name a number", `{"fullName":7}`, []string{"fullName:bad_type"}},
		{"name of 200 characters", `{"fullName":"` + strings.Repeat("é", 200) + `"}`, nil},
		{"name of 201 characters", `{"fullName":"` + strings.Repeat("é", 201) + `"}`, []string{"fullName:out_of_range"}},
		{"name with NUL", `{"fullName":"a\u0000b"}`, []string{"fullName:bad_value"}},
		{"name with a line break", `{"fullName":"a\nb"}`, []string{"fullName:bad_value"}},
		{"avatar without host", `{"avatarUrl":"https:///x"}`, []string{"avatarUrl:bad_value"}},
		{"avatar of a script", `{"avatarUrl":"javascript:alert(1)"}`, []string{"avatarUrl:bad_value"}},
		{"avatar with NUL", `{"avatarUrl":"https://x.example/\u0000"}`, []string{"avatarUrl:bad_value"}},
		{"avatar too long", `{"avatarUrl":"https://x.example/` + strings.Repeat("a", maxAvatarURL) + `"}`, []string{"avatarUrl:bad_value"}},
		{"avatar a number", `{"avatarUrl":1}`, []string{"avatarUrl:bad_type"}},
		{"preferences a string", `{"preferences":"x"}`, []string{"preferences:bad_type"}},
		{"preferences with NUL", `{"preferences":{"a":[{"b":"\u0000"}]}}`, []string{"preferences:bad_value"}},
		{"preferences with NUL in a key", `{"preferences":{"\u0000":1}}`, []string{"preferences:bad_value"}},
		{"preferences with a huge number", `{"preferences":{"a":1e400}}`, nil},
		{"preferences at the limit", large, nil},
		{"preferences over the limit", strings.Replace(large, `":"x`, `":"xx`, 1), []string{"preferences:out_of_range"}},
		{"preferences deep", `{"preferences":{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}}`, []string{"preferences:out_of_range"}},
		{"not JSON", `{"fullName":`, []string{"body:bad_json"}},
		{"null", `null`, []string{"body:bad_type"}},
		{"an array", `[]`, []string{"body:bad_type"}},
		{"absent", ``, []string{"body:bad_json"}},
		{"bad UTF-8", "{\"preferences\":{\"a\":\"\xff\"}}", []string{"body:bad_json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseProfile(json.RawMessage(tt.body))
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *errs.Error
			if !errors.As(err, &e) || e.Code != errs.Validation {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, d := range e.Details {
				got = append(got, d.Field+":"+string(d.Code))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestProfilePatchApplies(t *testing.T) {
	avatar := "https://x.example/old"
	before := User{FullName: "Old", AvatarURL: &avatar, Preferences: json.RawMessage(`{"a":1}`), Role: rpc.RoleUser, Email: "a@b.c"}
	patch := func(body string) User {
		t.Helper()
		p, err := parseProfile(json.RawMessage(body))
		if err != nil {
			t.Fatal(err)
		}
		u := before
		p.apply(&u)
		return u
	}
	if u := patch(`{"role":"ADMIN","email":"x@y.z"}`); u.FullName != "Old" || u.AvatarURL == nil || string(u.Preferences) != `{"a":1}` || u.Role != rpc.RoleUser || u.Email != "a@b.c" {
		t.Errorf("absent and read-only fields: %+v", u)
	}
	if u := patch(`{"fullName":"  New ","avatarUrl":"http://x.example/new","preferences":{ "b" : [1, 2] }}`); u.FullName != "New" || *u.AvatarURL != "http://x.example/new" || string(u.Preferences) != `{"b":[1,2]}` {
		t.Errorf("given fields: %+v", u)
	}
	if u := patch(`{"avatarUrl":null,"preferences":null}`); u.AvatarURL != nil || string(u.Preferences) != `{}` {
		t.Errorf("cleared fields: %+v", u)
	}
}

func TestRotate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	current := token.Refresh{ID: uuid.New(), ExpiresAt: now.Add(time.Hour)}
	old := token.Refresh{ID: uuid.New()}
	next := token.Refresh{ID: uuid.New(), ExpiresAt: now.Add(token.RefreshLifetime)}
	open := Session{Role: rpc.RoleUser, CurrentToken: fingerprint(current), PreviousToken: fingerprint(old), ExpiresAt: now.Add(time.Hour)}
	owner := User{Active: true, Role: rpc.RoleUser}
	earlier := now.Add(-time.Minute)

	tests := []struct {
		name      string
		presented token.Refresh
		session   func(*Session)
		owner     func(*User)
		want      rotation
		reason    string
	}{
		{name: "newest token", presented: current, want: rotated},
		{name: "previous token", presented: old, want: refusedReuse, reason: "refresh_reuse"},
		{name: "older token", presented: token.Refresh{ID: uuid.New()}, want: refusedReuse, reason: "refresh_reuse"},
		{name: "revoked session", presented: current, session: func(s *Session) { s.RevokedAt, s.RevokeReason = &earlier, "logout" }, want: refusedRevoked, reason: "logout"},
		{name: "revoked session, older token", presented: old, session: func(s *Session) { s.RevokedAt, s.RevokeReason = &earlier, "logout" }, want: refusedRevoked, reason: "logout"},
		{name: "inactive owner", presented: current, owner: func(u *User) { u.Active = false }, want: refusedAccount, reason: "account_changed"},
		{name: "other role", presented: current, owner: func(u *User) { u.Role = rpc.RoleAdmin }, want: refusedAccount, reason: "account_changed"},
		{name: "expired session", presented: current, session: func(s *Session) { s.ExpiresAt = now }, want: refusedExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, u := open, owner
			if tt.session != nil {
				tt.session(&s)
			}
			if tt.owner != nil {
				tt.owner(&u)
			}
			if got := s.rotate(u, tt.presented, next, now); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if s.RevokeReason != tt.reason || (s.RevokedAt != nil) != (tt.reason != "") {
				t.Errorf("revoked at %v for %q, want reason %q", s.RevokedAt, s.RevokeReason, tt.reason)
			}
			if tt.want == rotated && (!s.isPrevious(current) || !slices.Equal(s.CurrentToken, fingerprint(next)) || !s.ExpiresAt.Equal(next.ExpiresAt) || !s.LastAccessedAt.Equal(now)) {
				t.Errorf("not rotated: %+v", s)
			}
			if tt.want != rotated && !slices.Equal(s.CurrentToken, fingerprint(current)) {
				t.Error("a refused token changed the current one")
			}
		})
	}
}

func TestClientRecorded(t *testing.T) {
	c := Client{IP: "not an address\x00", UserAgent: "a\x00b\xff" + strings.Repeat("é", 400)}.recorded()
	if c.IP != "" || len(c.UserAgent) > maxUserAgent || !utf8.ValidString(c.UserAgent) || !strings.HasPrefix(c.UserAgent, "abé") {
		t.Errorf("got %q, %q", c.IP, c.UserAgent)
	}
	if c := (Client{IP: "2001:db8::1", UserAgent: "curl/8"}).recorded(); c.IP != "2001:db8::1" || c.UserAgent != "curl/8" {
		t.Errorf("got %+v", c)
	}
}

// FuzzParseProfile looks for a panic and for an error that is no VALIDATION_ERROR.
func FuzzParseProfile(f *testing.F) {
	for _, seed := range []string{`{}`, `null`, `{"fullName":"x","avatarUrl":"http://x","preferences":{"a":[1e400,"\ud800"]}}`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		patch, err := parseProfile(body)
		if err != nil {
			if errs.CodeOf(err) != errs.Validation {
				t.Fatalf("%v", err)
			}
			return
		}
		u := User{Preferences: json.RawMessage("{}")}
		patch.apply(&u)
		if !json.Valid(u.Preferences) || !utf8.ValidString(u.FullName) {
			t.Errorf("%q gives %+v", body, u)
		}
	})
}
