package catalog_test

import (
	"context"
	"io/fs"
	"net/http"
	"testing"
	"time"

	contract "turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/service/servicetest"
	"turbocat.io/services/catalog"
)

func TestCatalogCanBeWatched(t *testing.T) {
	nats := bustest.Server(t)
	p := servicetest.Start(t, catalog.Spec().Unit(), map[string]string{
		"NATS_URL": nats, "DATABASE_URL": pgtest.URL(t, map[string]fs.FS{contract.Service: migrations.Of(contract.Service)}),
	})
	const id = "01930000-0000-7000-8000-000000000001"
	conn := bustest.Connect(t, nats)
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := bus.Call(context.Background(), conn, contract.GetAgent, rpc.Caller{UserID: id}, contract.IDRequest{ID: id})
		if errs.CodeOf(err) != errs.DependencyUnavailable || time.Now().After(deadline) {
			break
		}
	}
	servicetest.CheckMetrics(t, contract.Service, p.Metrics(t), "rpc_server_duration_seconds", "postgres_connections_open")
	if status, body := p.Get(t, "/health/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}
