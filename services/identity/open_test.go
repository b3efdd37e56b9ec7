package identity

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

// granter plays the orchestrator.
type granter struct {
	mu    sync.Mutex
	key   ed25519.PrivateKey
	asked int
	away  bool
}

func newGranter(t *testing.T, c *bus.Conn) *granter {
	t.Helper()
	g := &granter{}
	g.turn(t)
	server := bus.NewServer(orchestrator.Service, zerolog.Nop())
	bus.Handle(server, orchestrator.GrantKey, func(_ context.Context, caller rpc.Caller, _ rpc.Empty) (orchestrator.GrantKeyResponse, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asked++
		if g.away || caller.UserID != "" {
			return orchestrator.GrantKeyResponse{}, errs.New(errs.DependencyUnavailable, "away")
		}
		return orchestrator.GrantKeyResponse{PublicKey: g.key.Public().(ed25519.PublicKey)}, nil
	})
	bustest.Serve(t, c, server)
	return g
}

// turn has another key.
func (g *granter) turn(t *testing.T) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.key = key
}

func (g *granter) sign(t *testing.T, changes ...func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{"aud": contract.GrantAudience, "exp": time.Now().Add(time.Hour).Unix(), contract.GrantClaimExecution: "e", contract.GrantClaimNames: []string{"KEY", "NONE"}}
	for _, change := range changes {
		change(claims)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(g.key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func claim(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

// open asks as a runner does.
func open(t *testing.T, c *bus.Conn, caller rpc.Caller, grant string) (map[string]string, []string, error) {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := bus.Call(context.Background(), c, contract.OpenSecrets, caller, contract.OpenSecretsRequest{Grant: grant, PublicKey: key.PublicKey().Bytes()})
	if err != nil {
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the error tells the secret: %v", err)
		}
		return nil, nil, err
	}
	if text, err := json.Marshal(resp); err != nil || strings.Contains(string(text), "canary") {
		t.Errorf("the answer tells the secret: %s, %v", text, err)
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(contract.SealInfo), resp.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]string
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values, resp.Missing, nil
}

func TestSecretsAreOpenedForAGrantAlone(t *testing.T) {
	c := start(t)
	ada, bob := enrol(t, c, "ada@example.com"), enrol(t, c, "bob@example.com")
	putSecret(t, c, ada, "KEY", canary)
	putSecret(t, c, ada, "OTHER", "x")
	putSecret(t, c, bob, "NONE", "of another user")
	g := newGranter(t, c)
	system, of := rpc.System("r"), claim("sub", ada.UserID)
	values, missing, err := open(t, c, system, g.sign(t, of))
	if err != nil || len(values) != 1 || values["KEY"] != canary || !slices.Equal(missing, []string{"NONE"}) {
		t.Errorf("%q, missing %q, %v", values, missing, err)
	}
	stranger := &granter{}
	stranger.turn(t)
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"aud": contract.GrantAudience, "sub": ada.UserID, "exp": time.Now().Add(time.Hour).Unix(), "names": []string{"KEY"}}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": contract.GrantAudience, "sub": ada.UserID, "exp": time.Now().Add(time.Hour).Unix(), "names": []string{"KEY"}}).
		SignedString([]byte(g.key.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	for what, grant := range map[string]string{
		"nothing": "", "no token": "a.b.c", "signed by another": stranger.sign(t, of), "not signed": unsigned, "signed with the public key": symmetric,
		"of nobody": g.sign(t), "over": g.sign(t, of, claim("exp", time.Now().Add(-time.Second).Unix())), "without an end": g.sign(t, of, func(m jwt.MapClaims) { delete(m, "exp") }),
		"for something else": g.sign(t, of, claim("aud", "turbocat")), "without names": g.sign(t, of, claim("names", []string{})), "changed": g.sign(t, of) + "x",
	} {
		_, _, err := open(t, c, system, grant)
		wantCode(t, what, err, errs.Forbidden)
	}
	_, _, err = open(t, c, ada, g.sign(t, of))
	wantCode(t, "a user", err, errs.Forbidden)
	_, _, err = open(t, c, rpc.Caller{UserID: ada.UserID, Role: rpc.RoleAdmin}, g.sign(t, of))
	wantCode(t, "an ADMIN", err, errs.Forbidden)
	_, err = bus.Call(context.Background(), c, contract.OpenSecrets, system, contract.OpenSecretsRequest{Grant: g.sign(t, of), PublicKey: []byte("short")})
	wantCode(t, "no key", err, errs.Validation)
	if g.asked > 3 {
		t.Errorf("the orchestrator was asked %d times for its key", g.asked)
	}
}

func TestWithoutTheOrchestratorGrantsWait(t *testing.T) {
	c := start(t)
	ada := enrol(t, c, "ada@example.com")
	putSecret(t, c, ada, "KEY", canary)
	g := newGranter(t, c)
	g.mu.Lock()
	g.away = true
	g.mu.Unlock()
	grant := g.sign(t, claim("sub", ada.UserID))
	_, _, err := open(t, c, rpc.System(""), grant)
	wantCode(t, "its key is not known", err, errs.DependencyUnavailable)
	g.mu.Lock()
	g.away = false
	g.mu.Unlock()
	if values, _, err := open(t, c, rpc.System(""), grant); err != nil || values["KEY"] != canary {
		t.Errorf("%q, %v", values, err)
	}
}
