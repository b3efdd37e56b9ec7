package identity

import (
	"context"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/service/servicetest"
)

func TestIdentityCanBeWatched(t *testing.T) {
	nats := bustest.Server(t)
	p := servicetest.Start(t, Spec().Unit(), map[string]string{
		"NATS_URL": nats, "REDIS_URL": redistest.URL(t), "DATABASE_URL": pgtest.URL(t, map[string]fs.FS{"identity": migrations.Of("identity")}),
		"JWT_ACCESS_SECRET": strings.Repeat("a", seal.MinKey), "JWT_REFRESH_SECRET": strings.Repeat("r", seal.MinKey), "ENCRYPTION_KEY": strings.Repeat("e", seal.MinKey), "TURBOCAT_IDENTITY_BCRYPT_COST": "4",
	})
	conn := bustest.Connect(t, nats)
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := bus.Call(context.Background(), conn, contract.GetMe, rpc.Caller{UserID: "01930000-0000-7000-8000-000000000001"}, rpc.Empty{})
		if errs.CodeOf(err) != errs.DependencyUnavailable || time.Now().After(deadline) {
			break
		}
	}
	servicetest.CheckMetrics(t, contract.Service, p.Metrics(t), "rpc_server_duration_seconds", "postgres_connections_open")
	if status, body := p.Get(t, "/health/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}
