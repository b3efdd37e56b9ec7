package telemetry_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/subject"
	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/service/servicetest"
	"turbocat.io/services/telemetry"
)

func TestTelemetryCanBeWatched(t *testing.T) {
	nats := bustest.Server(t)
	js := bustest.Connect(t, nats).JetStream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: subject.ProbeStream, Subjects: []string{subject.ProbeAll}}); err != nil {
		t.Fatal(err)
	}
	p := servicetest.Start(t, telemetry.Spec().Unit(), map[string]string{
		"NATS_URL": nats, "DATABASE_URL": pgtest.URL(t, map[string]fs.FS{contract.Service: migrations.Of(contract.Service)}),
		"ENCRYPTION_KEY": strings.Repeat("k", 32),
	})
	execution := newID()
	body, err := json.Marshal(contract.LogBatch{Lines: []contract.LogLine{line(execution, 1), line(execution, 2, func(l *contract.LogLine) { l.ID = "none" })}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject.Logs(subject.PartitionOf(execution)), body); err != nil {
		t.Fatal(err)
	}
	value := func(name string) float64 {
		return p.Metrics(t)["turbocat_telemetry_"+name].GetMetric()[0].GetCounter().GetValue()
	}
	eventually(t, "the batch is stored", func() bool { return value("log_batches_stored_total") == 1 })
	if stored, dropped, failed := value("log_lines_stored_total"), value("log_lines_dropped_total"), value("log_store_failures_total"); stored != 1 || dropped != 1 || failed != 0 {
		t.Errorf("%v lines stored, %v dropped, %v failures", stored, dropped, failed)
	}
	servicetest.CheckMetrics(t, contract.Service, p.Metrics(t), "postgres_connections_open", "log_batches_pending", "log_batches_ack_pending", "feed_events_behind", "rollup_events_behind", "retention_drops_total", "retention_last_run_timestamp_seconds")
	if status, body := p.Get(t, "/health/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}
