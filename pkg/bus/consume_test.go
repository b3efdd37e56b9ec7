package bus_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

// keep runs Keep until the test ends or stop is called, which gives what it logged.
func keep(t *testing.T, c *bus.Conn, session bus.Session) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Keep(ctx, zerolog.New(&log), "it is broken", session)
	}()
	stop = func() string {
		cancel()
		<-done
		return log.String()
	}
	t.Cleanup(func() { stop() })
	return stop
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("never: " + what)
		panic("unreachable")
	}
}

func TestKeepBeginsAnewWithTheConnection(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	began, ended := make(chan struct{}), make(chan error, 10)
	stop := keep(t, c, func(ctx context.Context, works func()) error {
		works()
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return errors.New("whatever")
	})
	receive(t, "the first session begins", began)
	for range 3 {
		if err := c.NATS().ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		receive(t, "the session ends", ended)
		receive(t, "the next one begins", began)
	}
	if log := stop(); log != "" {
		t.Errorf("it logs %s", log)
	}
	if err := receive(t, "the last session ends", ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestKeepTriesAgainAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	var begins []time.Time
	enough := make(chan struct{})
	stop := keep(t, c, func(ctx context.Context, works func()) error {
		begins = append(begins, time.Now())
		switch len(begins) {
		case 3:
			works()
			return nil // at once
		case 6:
			close(enough)
			<-ctx.Done()
		}
		return errors.New("gone")
	})
	receive(t, "six sessions", enough)
	log := stop()
	for i, least := range []time.Duration{200, 400, 0, 200, 400} {
		if pause := begins[i+1].Sub(begins[i]); pause < least*time.Millisecond {
			t.Errorf("the pause after session %d was %s", i+1, pause)
		}
	}
	if n := strings.Count(log, `"error":"gone","message":"it is broken"`); n != 2 {
		t.Errorf("%d complaints, not one for each outage: %s", n, log)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for verdict, all := range map[bus.Verdict][]error{
		bus.Done: {nil},
		bus.Again: {
			errs.New(errs.DependencyUnavailable, "x"), errs.New(errs.RateLimited, "x"), errs.New(errs.Internal, "x"),
			errors.New("x"), context.DeadlineExceeded,
		},
		bus.ThrownAway: {
			errs.New(errs.Validation, "x"), errs.New(errs.Unauthorized, "x"), errs.New(errs.Forbidden, "x"), errs.New(errs.NotFound, "x"),
			errs.New(errs.Conflict, "x"), errs.New(errs.PreconditionFailed, "x"), errs.New(errs.PayloadTooLarge, "x"),
		},
	} {
		for _, err := range all {
			if got := bus.VerdictOn(err); got != verdict {
				t.Errorf("%v: %s, not %s", err, got, verdict)
			}
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	js := c.JetStream()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}}); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateConsumer(ctx, "S", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := zerolog.New(&log)
	outcomes := map[string]error{
		"done": nil, "refused": errs.New(errs.Validation, "it has no name"), "away": errs.New(errs.DependencyUnavailable, "the database is away"),
	}
	for name := range outcomes {
		if _, err := js.Publish(ctx, "s."+name, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range outcomes {
		m, err := consumer.Next()
		if err != nil {
			t.Fatal(err)
		}
		bus.Settle(logger, outcomes[strings.TrimPrefix(m.Subject(), "s.")], m)
	}
	m, err := consumer.Next() // what was away comes again, and it alone
	if err != nil || m.Subject() != "s.away" {
		t.Fatal(m, err)
	}
	if meta, err := m.Metadata(); err != nil || meta.NumDelivered != 2 {
		t.Errorf("%+v, %v", meta, err)
	}
	if verdict := bus.Settle(logger, nil, m); verdict != bus.Done {
		t.Error(verdict)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		info, err := consumer.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if info.NumAckPending == 0 && info.NumPending == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not everything is settled: %+v", info)
		}
	}
	for _, want := range []string{
		`"message":"message thrown away"`, `"subject":"s.refused"`, `"stream":"S"`, `it has no name`,
		`"message":"messages not handled; they come again"`, `the database is away`,
	} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%s is not once in\n%s", want, &log)
		}
	}
}
