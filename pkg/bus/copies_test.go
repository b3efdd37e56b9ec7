package bus_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

// TestCopiesOfACluster has the server away that leads a stream, and then somebody take copies off it.
func TestCopiesOfACluster(t *testing.T) {
	t.Parallel()
	cluster := bustest.NewCluster(t)
	conn := bustest.Connect(t, cluster.URL())
	js := conn.JetStream()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	copies := bus.NewCopies(3, registry, zerolog.New(&log))
	missing := func(want int) func() error {
		return func() error {
			stream, err := js.Stream(t.Context(), "S")
			if err != nil {
				return err
			}
			copies.Saw(stream.CachedInfo())
			return testutil.GatherAndCompare(registry, strings.NewReader(fmt.Sprintf(
				"# HELP nats_stream_copies_missing How many copies a stream has less than declared, counting those that are up to date.\n# TYPE nats_stream_copies_missing gauge\nnats_stream_copies_missing{stream=\"S\"} %d\n", want)))
		}
	}
	bustest.Eventually(t, "all copies are there", missing(0))
	log.Reset()
	again := cluster.StopLeader(t, conn, "S")
	bustest.Eventually(t, "one is missing", missing(1))
	bustest.Eventually(t, "it takes messages", func() error {
		_, err := js.Publish(t.Context(), "s", nil)
		return err
	})
	again()
	bustest.Eventually(t, "all copies are there again", missing(0))
	for _, want := range []string{"copies of the stream are missing or behind", "all copies of the stream are there again"} {
		if n := strings.Count(log.String(), want); n == 0 || n > 2 {
			t.Errorf("it says %d times that %s:\n%s", n, want, log.String())
		}
	}
	cfg.Replicas = 1
	bustest.Eventually(t, "it has one copy", func() error {
		_, err := js.UpdateStream(t.Context(), cfg)
		return err
	})
	log.Reset()
	bustest.Eventually(t, "two are missing", missing(2))
	bustest.Eventually(t, "it says so", func() error {
		if !strings.Contains(log.String(), "not configured with as many copies as TURBOCAT_NATS_REPLICAS says") {
			return errors.New(log.String())
		}
		return missing(2)()
	})
}
