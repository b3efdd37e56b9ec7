package token

import (
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"turbocat.io/contracts/rpc"
)

const (
	accessSecret  = "an access secret of more than thirty-two bytes"
	refreshSecret = "a refresh secret of more than thirty-two bytes"
)

var (
	start   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	user    = uuid.MustParse("01930000-0000-7000-8000-000000000001")
	session = uuid.MustParse("01930000-0000-7000-8000-000000000002")
)

func signer(now time.Time) *Signer {
	return New(accessSecret, refreshSecret, func() time.Time { return now })
}

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// goodClaims are those of an access token that is good at start.
func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "turbocat", "aud": []string{"turbocat-api"}, "typ": "access", "sub": user.String(), "sid": session.String(), "role": "USER",
		"iat": start.Unix(), "exp": start.Add(AccessLifetime).Unix(),
	}
}

func with(changes jwt.MapClaims) jwt.MapClaims {
	c := goodClaims()
	maps.Copy(c, changes)
	for k, v := range changes {
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func TestAccessRoundTrip(t *testing.T) {
	signed, issued, err := signer(start.Add(123*time.Millisecond)).Access(user, session, rpc.RoleUser)
	if err != nil {
		t.Fatal(err)
	}
	want := Access{UserID: user, SessionID: session, Role: rpc.RoleUser, ExpiresAt: start.Add(AccessLifetime)}
	if issued != want {
		t.Errorf("issued %+v, want %+v", issued, want)
	}
	for _, at := range []time.Time{start.Add(-10 * time.Minute), start, start.Add(AccessLifetime - time.Second)} {
		got, err := signer(at).ParseAccess(signed)
		if err != nil || got != want {
			t.Errorf("at %s: %+v, %v; want %+v", at, got, err, want)
		}
	}
}

func TestRefreshRoundTrip(t *testing.T) {
	s := signer(start)
	first, issued, err := s.Refresh(session)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.ParseRefresh(first)
	if err != nil || got != issued || got.SessionID != session || !got.ExpiresAt.Equal(start.Add(RefreshLifetime)) {
		t.Fatalf("%+v, %v; want %+v", got, err, issued)
	}
	second, _, err := s.Refresh(session)
	if err != nil || second == first {
		t.Fatalf("a second refresh token equals the first (%v)", err)
	}
}

// withHeader signs a token by a key that its own header names.
func withHeader(name string, value any) string {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, goodClaims())
	token.Header[name] = value
	signed, err := token.SignedString([]byte(strings.Repeat("x", 32)))
	if err != nil {
		panic(err) // what it is made of is given above
	}
	return signed
}

func TestParseAccess(t *testing.T) {
	key := []byte(accessSecret)
	good := sign(t, jwt.SigningMethodHS256, key, goodClaims())
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	refresh, _, err := signer(start).Refresh(session)
	if err != nil {
		t.Fatal(err)
	}
	hs := func(changes jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, key, with(changes)) }
	tests := []struct {
		name, token string
		want        error
	}{
		{"good", good, nil},
		{"expired", hs(jwt.MapClaims{"exp": start.Unix()}), ErrExpired},
		{"expired long ago", hs(jwt.MapClaims{"exp": 1}), ErrExpired},
		{"expired and for another audience", hs(jwt.MapClaims{"exp": 1, "aud": "other"}), ErrInvalid},
		{"expired and without a session", hs(jwt.MapClaims{"exp": 1, "sid": nil}), ErrInvalid},
		{"expired with the wrong key", sign(t, jwt.SigningMethodHS256, []byte(refreshSecret), with(jwt.MapClaims{"exp": 1})), ErrInvalid},
		{"alg none", none + "." + parts[1] + ".", ErrInvalid},
		{"alg none with the old signature", none + "." + parts[1] + "." + parts[2], ErrInvalid},
		{"alg none by the library", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, goodClaims()), ErrInvalid},
		{"alg HS384", sign(t, jwt.SigningMethodHS384, key, goodClaims()), ErrInvalid},
		{"alg HS512", sign(t, jwt.SigningMethodHS512, key, goodClaims()), ErrInvalid},
		{"alg RS256 in the header only", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + parts[1] + "." + parts[2], ErrInvalid},
		{"a key of its own in jwk", withHeader("jwk", map[string]string{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", 32)))}), ErrInvalid},
		{"a key elsewhere by jku", withHeader("jku", "https://evil.example.com/keys"), ErrInvalid},
		{"a key of the file system by kid", withHeader("kid", "../../dev/null"), ErrInvalid},
		{"wrong key", sign(t, jwt.SigningMethodHS256, []byte("another secret of more than thirty-two bytes!"), goodClaims()), ErrInvalid},
		{"empty key", sign(t, jwt.SigningMethodHS256, []byte(""), goodClaims()), ErrInvalid},
		{"wrong issuer", hs(jwt.MapClaims{"iss": "turbodog"}), ErrInvalid},
		{"no issuer", hs(jwt.MapClaims{"iss": nil}), ErrInvalid},
		{"wrong audience", hs(jwt.MapClaims{"aud": "other"}), ErrInvalid},
		{"no audience", hs(jwt.MapClaims{"aud": nil}), ErrInvalid},
		{"wrong typ", hs(jwt.MapClaims{"typ": "refresh"}), ErrInvalid},
		{"no typ", hs(jwt.MapClaims{"typ": nil}), ErrInvalid},
		{"no expiry", hs(jwt.MapClaims{"exp": nil}), ErrInvalid},
		{"expiry of another type", hs(jwt.MapClaims{"exp": "soon"}), ErrInvalid},
		{"of a clock that is ahead", hs(jwt.MapClaims{"iat": start.Add(10 * time.Minute).Unix(), "exp": start.Add(AccessLifetime + 10*time.Minute).Unix()}), nil},
		{"with an nbf", hs(jwt.MapClaims{"nbf": start.Unix()}), nil},
		{"not valid yet", hs(jwt.MapClaims{"nbf": start.Add(time.Second).Unix()}), ErrInvalid},
		{"subject is no UUID", hs(jwt.MapClaims{"sub": "admin"}), ErrInvalid},
		{"no session", hs(jwt.MapClaims{"sid": nil}), ErrInvalid},
		{"unknown role", hs(jwt.MapClaims{"role": "ROOT"}), ErrInvalid},
		{"a refresh token", refresh, ErrInvalid},
		{"claims changed", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"role":"ADMIN"}`)) + "." + parts[2], ErrInvalid},
		{"signature cut", parts[0] + "." + parts[1] + "." + parts[2][:20], ErrInvalid},
		{"signature with stray bits", good[:len(good)-1] + string(good[len(good)-1]+1), ErrInvalid},
		{"no signature", parts[0] + "." + parts[1], ErrInvalid},
		{"a fourth part", good + ".x", ErrInvalid},
		{"space around", " " + good, ErrInvalid},
		{"empty", "", ErrInvalid},
		{"garbage", "not a token", ErrInvalid},
		{"NUL", "\x00.\x00.\x00", ErrInvalid},
		{"bad UTF-8", "\xff\xfe.\xff.\xff", ErrInvalid},
		{"dots", strings.Repeat(".", 100_000), ErrInvalid},
		{"a megabyte", strings.Repeat("a", 1<<20), ErrInvalid},
		{"longer than allowed, else good", hs(jwt.MapClaims{"x": strings.Repeat("a", MaxLength)}), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := signer(start).ParseAccess(tt.token); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseRefreshRefuses(t *testing.T) {
	s := signer(start)
	access, _, err := s.Access(user, session, rpc.RoleUser)
	if err != nil {
		t.Fatal(err)
	}
	refresh, _, err := s.Refresh(session)
	if err != nil {
		t.Fatal(err)
	}
	good := jwt.MapClaims{"typ": "refresh", "jti": uuid.NewString()}
	hs := func(key string, changes jwt.MapClaims) string {
		c := with(good)
		maps.Copy(c, changes)
		return sign(t, jwt.SigningMethodHS256, []byte(key), c)
	}
	if _, err := s.ParseRefresh(hs(refreshSecret, nil)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, token := range map[string]string{
		"an access token":                        access,
		"an access token with the refresh's key": hs(refreshSecret, jwt.MapClaims{"typ": "access"}),
		"signed with the access key":             hs(accessSecret, nil),
		"no id":                                  hs(refreshSecret, jwt.MapClaims{"jti": ""}),
	} {
		if _, err := s.ParseRefresh(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := signer(start.Add(RefreshLifetime)).ParseRefresh(refresh); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
}

// FuzzParse looks for a panic, and for a token that is accepted though it was not signed here.
func FuzzParse(f *testing.F) {
	s := signer(start)
	access, _, err := s.Access(user, session, rpc.RoleUser)
	if err != nil {
		f.Fatal(err)
	}
	// With a fixed id: the fuzzer's processes must sign the same.
	refresh := sign(f, jwt.SigningMethodHS256, []byte(refreshSecret), with(jwt.MapClaims{"typ": "refresh", "jti": user.String()}))
	expired := sign(f, jwt.SigningMethodHS256, []byte(accessSecret), with(jwt.MapClaims{"exp": 1}))
	for _, seed := range []string{access, refresh, expired, "", "..", "a.b.c", sign(f, jwt.SigningMethodHS512, []byte(accessSecret), goodClaims())} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := s.ParseAccess(token); !errors.Is(err, ErrInvalid) && token != access && token != expired {
			t.Errorf("access: %v for %q", err, token)
		}
		if _, err := s.ParseRefresh(token); !errors.Is(err, ErrInvalid) && token != refresh {
			t.Errorf("refresh: %v for %q", err, token)
		}
	})
}
