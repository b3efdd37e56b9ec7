package identity

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/seal"
)

func TestRotation(t *testing.T) {
	ctx := context.Background()
	first, second := strings.Repeat("1", seal.MinKey), strings.Repeat("2", seal.MinKey)
	database := pgtest.URL(t, map[string]fs.FS{"identity": migrations.Of("identity")})
	redis := redistest.URL(t)
	with := func(key, old string) *bus.Conn {
		nats := bustest.Server(t)
		runIdentity(t, map[string]string{
			"NATS_URL": nats, "REDIS_URL": redis, "LOG_LEVEL": "error", "DATABASE_URL": database,
			"JWT_ACCESS_SECRET": strings.Repeat("a", seal.MinKey), "JWT_REFRESH_SECRET": strings.Repeat("r", seal.MinKey), "TURBOCAT_IDENTITY_BCRYPT_COST": "4",
			"ENCRYPTION_KEY": key, "TURBOCAT_OLD_ENCRYPTION_KEYS": old,
		})
		return bustest.Connect(t, nats)
	}
	before := with(first, "")
	ada := enrol(t, before, "ada@example.com")
	want := map[string]string{}
	for i := range 7 {
		name := fmt.Sprintf("KEY%d", i)
		want[name] = canary + name
		putSecret(t, before, ada, name, want[name])
	}
	after := with(second, first)
	want["KEY3"] = "put while keys are rotated"
	putSecret(t, after, ada, "KEY3", want["KEY3"])

	db, err := postgres.Open(database, "identity")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec(`UPDATE secrets SET sealed = sealed || 'x'::bytea WHERE name = 'KEY5'`); err != nil {
		t.Fatal(err)
	}
	_, err = bus.Call(ctx, after, contract.RotateSecrets, ada, contract.RotateSecretsRequest{Limit: 2})
	wantCode(t, "a user", err, errs.Forbidden)
	_, err = bus.Call(ctx, after, contract.RotateSecrets, rpc.System(""), contract.RotateSecretsRequest{})
	wantCode(t, "no limit", err, errs.Validation)
	resealed, refused, last := 0, 0, ""
	for rounds := 0; ; rounds++ {
		did, err := bus.Call(ctx, after, contract.RotateSecrets, rpc.System(""), contract.RotateSecretsRequest{After: last, Limit: 2})
		if err != nil || rounds > 4 {
			t.Fatal(rounds, err)
		}
		resealed, refused, last = resealed+did.Resealed, refused+len(did.Refused), did.Last
		if last == "" {
			break
		}
		if left := 6 - 2*(rounds+1); did.Left != left {
			t.Errorf("%d are left, want %d", did.Left, left)
		}
	}
	if resealed != 5 || refused != 1 {
		t.Errorf("%d resealed, %d refused", resealed, refused)
	}
	again, err := bus.Call(ctx, after, contract.RotateSecrets, rpc.System(""), contract.RotateSecretsRequest{Limit: 100})
	if err != nil || again.Resealed != 0 || len(again.Refused) != 1 || again.Refused[0].Name != "KEY5" || strings.Contains(again.Refused[0].Reason, "canary") {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if _, err := db.Exec(`DELETE FROM secrets WHERE name = 'KEY5'`); err != nil {
		t.Fatal(err)
	}
	delete(want, "KEY5")

	alone := with(second, "")
	g := newGranter(t, alone)
	names := append([]string{}, "KEY0", "KEY1", "KEY2", "KEY3", "KEY4", "KEY6")
	values, missing, err := open(t, alone, rpc.System(""), g.sign(t, claim("sub", ada.UserID), claim("names", names)))
	if err != nil || !maps.Equal(values, want) || len(missing) > 0 {
		t.Errorf("under the new key alone: %q, missing %q, %v", values, missing, err)
	}
}
