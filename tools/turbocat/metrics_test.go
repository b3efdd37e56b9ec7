//go:build unix

package main

import (
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"turbocat.io/migrations"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/service"
	"turbocat.io/pkg/service/servicetest"
	"turbocat.io/services/catalog"
	"turbocat.io/services/gateway"
	"turbocat.io/services/identity"
	"turbocat.io/services/orchestrator"
	"turbocat.io/services/runner"
	"turbocat.io/services/telemetry"
)

const observabilityDoc = "../../docs/observability.md"

// metric is one that a service registers.
type metric struct {
	labels []string // sorted
	kind   dto.MetricType
	seen   bool // kind is known: it has a value
}

// histogram tells whether it may be one.
func (m metric) histogram() bool { return !m.seen || m.kind == dto.MetricType_HISTOGRAM }

// watched makes a unit whose registry is kept.
func watched[C any](spec service.Spec[C], keep func(*prometheus.Registry)) service.Unit {
	build := spec.New
	spec.New = func(env service.Env, cfg C) (service.Service, error) {
		keep(env.Gatherer.(*prometheus.Registry))
		return build(env, cfg)
	}
	return spec.Unit()
}

// registered starts all services and gives the metrics that they register, whether they have a value yet or not.
func registered(t *testing.T) map[string]metric {
	t.Helper()
	registries := make(chan *prometheus.Registry, len(units()))
	keep := func(r *prometheus.Registry) { registries <- r }
	all := []service.Unit{
		watched(identity.Spec(), keep), watched(catalog.Spec(), keep), watched(orchestrator.Spec(), keep), watched(runner.Spec(), keep),
		watched(telemetry.Spec(), keep), watched(gateway.Spec(), keep),
	}
	if len(all) != len(units()) {
		t.Fatal("there is one more service; have it watched here, too")
	}
	schemas := map[string]fs.FS{}
	for _, name := range []string{"identity", "catalog", "orchestrator", "telemetry"} {
		schemas[name] = migrations.Of(name)
	}
	environ := map[string]string{
		"NATS_URL": bustest.Server(t), "DATABASE_URL": pgtest.URL(t, schemas), "REDIS_URL": redistest.URL(t), "PORT": "0",
		"JWT_ACCESS_SECRET": strings.Repeat("a", 32), "JWT_REFRESH_SECRET": strings.Repeat("b", 32), "ENCRYPTION_KEY": strings.Repeat("ab", 32),
	}
	var processes []*servicetest.Process
	for _, unit := range all {
		processes = append(processes, servicetest.Launch(t, unit, environ))
	}
	for _, p := range processes {
		p.AwaitReady(t)
	}
	out := map[string]metric{}
	for range all {
		registry := <-registries
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			registry.Describe(descs)
		}()
		for desc := range descs {
			name, labels := described(t, desc)
			out[name] = metric{labels: labels}
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if m, ok := out[f.GetName()]; ok {
				m.kind, m.seen = f.GetType(), true
				out[f.GetName()] = m
			}
		}
	}
	return out
}

var descPattern = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: .*, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// described reads the text of a desc, which has no other way to tell.
func described(t *testing.T, desc *prometheus.Desc) (name string, labels []string) {
	t.Helper()
	found := descPattern.FindStringSubmatch(desc.String())
	if found == nil {
		t.Fatalf("%s is not read; did Prometheus's client change?", desc)
	}
	for _, pair := range strings.Split(found[2], ",") {
		if label, _, ok := strings.Cut(pair, "="); ok {
			labels = append(labels, label)
		}
	}
	for _, label := range strings.Split(found[3], ",") {
		if label != "" {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return found[1], labels
}

var (
	prefixPattern = regexp.MustCompile("`(turbocat_[a-z]+_)\\.\\.\\.`")
	namePattern   = regexp.MustCompile("`(\\.\\.\\._)?([a-z][a-z0-9_]*)`")
)

// documentedMetric is a name of a table of docs/observability.md.
type documentedMetric struct {
	name   string // with the prefix of its service; without any when it is of every service that has it
	shared bool
	row    *documentedRow
}

type documentedRow struct{ labels, registered []string }

func documentedMetrics(t *testing.T) []documentedMetric {
	t.Helper()
	doc, err := os.ReadFile(observabilityDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var out []documentedMetric
	prefix, withLabels, inTable := "", false, false
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case !inTable:
			inTable, prefix = true, ""
			if found := prefixPattern.FindStringSubmatch(cells[0]); found != nil {
				prefix = found[1]
			}
			withLabels = strings.TrimSpace(cells[1]) == "labels"
			continue
		case strings.Contains(cells[0], "---"):
			continue
		}
		row := &documentedRow{}
		if withLabels {
			row.labels = strings.FieldsFunc(cells[1], func(r rune) bool { return r == ' ' || r == ',' })
		}
		for _, name := range namePattern.FindAllStringSubmatch(cells[0], -1) {
			out = append(out, documentedMetric{name: prefix + name[2], shared: name[1] != "", row: row})
		}
	}
	return out
}

// TestMetricsAreDocumented compares the metrics that the services register, and their labels, with the tables of docs/observability.md, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	all, rows := registered(t), documentedMetrics(t)
	if len(all) < 100 || len(rows) < 60 {
		t.Fatalf("%d metrics are registered and %d documented; are they still found?", len(all), len(rows))
	}
	undocumented := maps.Clone(all)
	delete(undocumented, "turbocat_build_info")
	maps.DeleteFunc(undocumented, func(name string, _ metric) bool { return !strings.HasPrefix(name, "turbocat_") })
	for _, d := range rows {
		found := false
		for name, m := range all {
			if name == d.name || d.shared && regexp.MustCompile("^turbocat_[a-z]+_"+d.name+"$").MatchString(name) {
				found = true
				delete(undocumented, name)
				d.row.registered = append(d.row.registered, m.labels...)
			}
		}
		if !found {
			t.Errorf("docs/observability.md names the metric %s, which no service registers; remove it", d.name)
		}
	}
	for _, d := range rows {
		has, says := slices.Compact(slices.Sorted(slices.Values(d.row.registered))), slices.Sorted(slices.Values(d.row.labels))
		if !slices.Equal(has, says) {
			t.Errorf("docs/observability.md gives the metrics beside %s the labels %v; they have %v", d.name, says, has)
		}
	}
	for name := range undocumented {
		t.Errorf("%s is registered, and docs/observability.md does not name it; add it to the table of its service", name)
	}
}
