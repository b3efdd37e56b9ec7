//go:build unix

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
	"turbocat.io/tools/internal/promises"
	"turbocat.io/tools/internal/verify"
)

// rowsOf selects from the orchestrator's schema, past every link.
func rowsOf[T any](l *laboratory, query string) []T {
	l.t.Helper()
	return selected[T](l, orchestrator, query)
}

// selected is rowsOf the schema of any service.
func selected[T any](l *laboratory, service, query string) []T {
	l.t.Helper()
	db, err := postgres.Open(l.pg.URL(), service)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var found []T
	if err := db.SelectContext(l.t.Context(), &found, query); err != nil {
		l.t.Fatalf("%s: %v", query, err)
	}
	return found
}

// ledger reads what the orchestrators have recorded.
func (l *laboratory) ledger() *promises.Ledger {
	l.t.Helper()
	found := &promises.Ledger{Statuses: map[string]string{}, Running: len(l.of(orchestrator))}
	for _, x := range rowsOf[struct{ ID, Status string }](l, `SELECT id, status FROM executions`) {
		found.Statuses[x.ID] = x.Status
	}
	for _, r := range rowsOf[struct {
		ExecutionID string `db:"execution_id"`
		Seq         uint64
		P           int
		Events      []byte
	}](l, `SELECT execution_id, seq, p, events FROM execution_events`) {
		events := l.batch(r.Events)
		for i, e := range events {
			e.Execution, e.Seq, e.P = r.ExecutionID, r.Seq-uint64(len(events)-1-i), r.P // as the row has it, should the event differ
			found.Events = append(found.Events, e)
		}
	}
	slices.SortFunc(found.Events, func(a, b promises.Event) int { return cmp.Or(cmp.Compare(a.P, b.P), cmp.Compare(a.N, b.N)) })
	found.Living = rowsOf[int](l, `SELECT count(*) FROM instances WHERE seen_at > clock_timestamp() - interval '5 seconds'`)[0]
	return found
}

// verify has the installation, in which nothing is under way any more, verified.
func (l *laboratory) verify() verify.Report {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), readyWithin)
	defer cancel()
	report, err := verify.Run(ctx, verify.Options{DatabaseURL: l.pg.URL(), NATSURL: l.natsURL, Quiet: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return report
}

// connect opens a connection to NATS of the check's own, past every link.
func (l *laboratory) connect() *bus.Conn {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), readyWithin)
	defer cancel()
	c, err := bus.Connect(ctx, l.natsURL, "chaos", zerolog.Nop())
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// streams reads what JetStream has.
func (l *laboratory) streams() *promises.Streams {
	l.t.Helper()
	c := l.connect()
	defer c.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), readyWithin)
	defer cancel()
	found, err := readStreams(ctx, c.JetStream(), l.strangers)
	if err != nil {
		l.t.Fatal(err)
	}
	found.Lost = l.storeLost
	return found
}

// batch reads the events of a row.
func (l *laboratory) batch(raw []byte) []promises.Event {
	l.t.Helper()
	bodies, err := event.Split(raw)
	if err != nil {
		l.t.Error(err)
	}
	events := make([]promises.Event, len(bodies))
	for i, body := range bodies {
		if events[i], err = promises.ParseEvent(body); err != nil {
			l.t.Error(err)
		}
	}
	return events
}

// feeds reads the feeds of all users.
func (l *laboratory) feeds() []promises.Told {
	l.t.Helper()
	found := []promises.Told{}
	for _, r := range selected[struct {
		UserID string `db:"user_id"`
		Seq    uint64
		Events []byte
	}](l, telemetry, `SELECT user_id, seq, events FROM feed ORDER BY user_id, seq`) {
		events := l.batch(r.Events)
		for i, e := range events {
			found = append(found, promises.Told{UserID: r.UserID, Cursor: r.Seq - uint64(len(events)-1-i), Event: e})
		}
	}
	return found
}

// counted reads what analytics count of everybody's executions and steps.
func (l *laboratory) counted() map[string]int {
	l.t.Helper()
	type sums struct{ Total, Completed, Failed, Cancelled, TimedOut, Skipped int }
	const query = `SELECT coalesce(sum(total), 0)::bigint AS total, coalesce(sum(completed), 0)::bigint AS completed, coalesce(sum(failed), 0)::bigint AS failed,
		coalesce(sum(cancelled), 0)::bigint AS cancelled, coalesce(sum(timed_out), 0)::bigint AS timedout, coalesce(sum(skipped), 0)::bigint AS skipped
		FROM rollups WHERE user_id = '00000000-0000-0000-0000-000000000000' AND grain = 2 AND kind = `
	executions, steps := selected[sums](l, telemetry, query+"0")[0], selected[sums](l, telemetry, query+"2")[0]
	found := map[string]int{}
	for i, n := range []int{
		executions.Total, executions.Completed, executions.Failed, executions.Cancelled, executions.TimedOut, steps.Completed, steps.Failed, steps.Skipped, steps.Cancelled,
	} {
		found[promises.CountedTypes()[i]] = n
	}
	return found
}

func readStreams(ctx context.Context, js jetstream.JetStream, strangers bool) (*promises.Streams, error) {
	found := &promises.Streams{}
	steps, err := js.Stream(ctx, subject.StepsStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", subject.StepsStream, err)
	}
	consumers := steps.ListConsumers(ctx)
	for c := range consumers.Info() {
		found.Unacked += c.NumAckPending
	}
	if err := consumers.Err(); err != nil {
		return nil, err
	}
	events, err := js.Stream(ctx, subject.EventsStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", subject.EventsStream, err)
	}
	left := events.CachedInfo().State.Msgs
	if left == 0 {
		return found, nil
	}
	reader, err := js.OrderedConsumer(ctx, subject.EventsStream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	messages, err := reader.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	for ; left > 0; left-- {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		events, err := eventsOf(m.Data())
		if err != nil && strangers {
			continue
		}
		if err != nil {
			return nil, err
		}
		found.Published = append(found.Published, events...)
	}
	return found, nil
}

// eventsOf reads a message of EVENTS.
func eventsOf(message []byte) ([]promises.Event, error) {
	bodies, err := event.Split(message)
	if err != nil {
		return nil, err
	}
	events := make([]promises.Event, len(bodies))
	for i, body := range bodies {
		if events[i], err = promises.ParseEvent(body); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// settle waits until nothing is left over, for a while at most: what is then is told by the promises.
func (l *laboratory) settle(within time.Duration) {
	l.t.Helper()
	c := l.connect()
	defer c.Close()
	_ = poll(l.t.Context(), within, func() error {
		stream, err := c.JetStream().Stream(l.t.Context(), subject.StepsStream)
		if err != nil {
			return err
		}
		if n := stream.CachedInfo().State.Msgs; n > 0 {
			return fmt.Errorf("STEPS has %d messages", n)
		}
		if n := rowsOf[int](l, `SELECT (SELECT count(*) FROM partitions WHERE published_n < event_n OR lease_until < clock_timestamp())
			+ (SELECT count(*) FROM commands WHERE applied_at IS NULL) + (SELECT count(*) FROM steps WHERE status = 'CANCELLED' AND sent > 0)`)[0]; n > 0 {
			return fmt.Errorf("%d things are left over", n)
		}
		// In telemetry's schema, which is another search path.
		stored := rowsOf[int](l, `SELECT coalesce(sum(event_n), 0) FROM partitions`)[0]
		if taken := selected[int](l, telemetry, `SELECT sum(n) FROM feed_numbers`)[0]; taken < stored {
			return fmt.Errorf("%d of %d events are in the feeds", taken, stored)
		}
		return nil
	})
}
