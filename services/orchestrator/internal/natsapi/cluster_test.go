package natsapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/services/orchestrator/internal/partition"
)

// TestStreamsOfACluster makes streams with one copy, declares three, and takes the server away that leads the input log.
func TestStreamsOfACluster(t *testing.T) {
	t.Parallel()
	cluster := bustest.NewCluster(t)
	conn := bustest.Connect(t, cluster.URL())
	all := []string{subject.ExecutionInputStream, subject.StepsStream, subject.EventsStream, subject.ProbeStream, subject.TokensStream, "KV_" + subject.CancelBucket}
	var tr *Transport
	for _, replicas := range []int{1, 3} {
		var err error
		limits := Limits{ExecutionInputBytes: 1 << 26, StepsBytes: 1 << 26, EventsBytes: 1 << 26, EventsAge: time.Hour}
		if tr, err = NewTransport(conn.NATS(), limits, bus.NewCopies(replicas, nil, zerolog.Nop()), zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
		bustest.Eventually(t, "the streams are made", func() error {
			_, err := tr.Ensure(t.Context())
			return err
		})
		for _, name := range all {
			if n := bustest.Replicas(t, tr.js, name); n != replicas {
				t.Errorf("%s has %d copies, want %d", name, n, replicas)
			}
		}
	}
	var before partition.Streams
	var last uint64
	bustest.Eventually(t, "the streams work with the new copies", func() (err error) {
		if before, err = tr.Ensure(t.Context()); err != nil {
			return err
		}
		ack, err := tr.js.Publish(t.Context(), subject.ExecutionInputRun(4), []byte("kept"))
		if err == nil {
			last = ack.Sequence
		}
		return err
	})
	at, found, err := tr.TimeAt(t.Context(), last)
	if err != nil || !found {
		t.Fatalf("the input is not there: %v", err)
	}
	bustest.Eventually(t, "every copy has it", func() error {
		for _, name := range all {
			stream, err := tr.js.Stream(t.Context(), name)
			if err != nil {
				return err
			}
			others := stream.CachedInfo().Cluster.Replicas
			if len(others) != 2 {
				return fmt.Errorf("%s is on %d more servers", name, len(others))
			}
			for _, p := range others {
				if !p.Current {
					return fmt.Errorf("the copy of %s on %s is behind", name, p.Name)
				}
			}
		}
		return nil
	})
	cluster.StopLeader(t, conn, subject.ExecutionInputStream)
	bustest.Eventually(t, "it is the same log, and takes inputs", func() error {
		now, err := tr.Ensure(t.Context())
		switch {
		case err != nil:
			return err
		case now.Remade || now.LogCreated != before.LogCreated || now.LastSeq < last:
			t.Errorf("it is another log: %+v, before %+v", now, before)
		}
		if ns, found, err := tr.TimeAt(t.Context(), last); err != nil {
			return err
		} else if !found || ns != at {
			t.Errorf("the input is gone or another one: %v", found)
		}
		_, err = tr.js.Publish(t.Context(), subject.ExecutionInputRun(4), []byte("next"))
		return err
	})
}
