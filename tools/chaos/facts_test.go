//go:build unix

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
	"turbocat.io/tools/internal/promises"
)

// rowsOf selects from the orchestrator's schema, past every link.
func rowsOf[T any](l *laboratory, query string) []T {
	l.t.Helper()
	db, err := postgres.Open(l.pg.URL(), orchestrator)
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
	found := &promises.Ledger{Statuses: map[string]string{}, Orchestrators: len(l.of(orchestrator))}
	for _, x := range rowsOf[struct{ ID, Status string }](l, `SELECT id, status FROM executions`) {
		found.Statuses[x.ID] = x.Status
	}
	for _, r := range rowsOf[struct {
		ExecutionID string `db:"execution_id"`
		Seq         uint64
		P           int
		N           uint64
		Type        string
		Body        []byte
	}](l, `SELECT execution_id, seq, p, n, type, body FROM execution_events ORDER BY p, n`) {
		e, err := promises.ParseEvent(r.Body)
		if err != nil {
			l.t.Error(err)
		}
		e.Execution, e.Seq, e.P, e.N, e.Type = r.ExecutionID, r.Seq, r.P, r.N, r.Type // as the row has it, should the body differ
		found.Events = append(found.Events, e)
	}
	for _, r := range rowsOf[struct {
		P          int
		Owner      string
		Leased     bool
		EventN     uint64 `db:"event_n"`
		PublishedN uint64 `db:"published_n"`
	}](l, `SELECT p, coalesce(owner, '') AS owner, lease_until > clock_timestamp() AS leased, event_n, published_n FROM partitions ORDER BY p`) {
		found.Partitions = append(found.Partitions, promises.Partition(r))
	}
	found.Owners = rowsOf[string](l, `SELECT id FROM instances WHERE seen_at > clock_timestamp() - interval '5 seconds'`)
	found.Unended = rowsOf[string](l, `SELECT s.execution_id || '/' || s.step_index FROM steps s JOIN executions e ON e.id = s.execution_id
		WHERE e.completed_at IS NOT NULL AND s.status IN ('PENDING', 'RUNNING')`)
	found.Commands = rowsOf[int](l, `SELECT count(*) FROM commands WHERE applied_at IS NULL`)[0]
	found.Stops = rowsOf[int](l, `SELECT count(*) FROM steps WHERE status = 'CANCELLED' AND sent > 0`)[0]
	found.DeadLetters = rowsOf[string](l, `SELECT subject || ': ' || reason FROM dead_letters`)
	return found
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
	found, err := readStreams(ctx, c.JetStream())
	if err != nil {
		l.t.Fatal(err)
	}
	found.Lost = l.storeLost
	return found
}

func readStreams(ctx context.Context, js jetstream.JetStream) (*promises.Streams, error) {
	found := &promises.Streams{}
	steps, err := js.Stream(ctx, subject.StepsStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", subject.StepsStream, err)
	}
	found.Steps = steps.CachedInfo().State.Msgs
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
		e, err := promises.ParseEvent(m.Data())
		if err != nil {
			return nil, err
		}
		found.Published = append(found.Published, e)
	}
	return found, nil
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
		return nil
	})
}
