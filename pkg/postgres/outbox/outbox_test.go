package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/pkg/postgres/pgtest"
)

// receiver is who messages are sent to: it forgets what it has not committed.
type receiver struct {
	t    *testing.T
	conn *bus.Conn

	mu        sync.Mutex
	committed map[string]int
	deaf      bool // it answers nobody
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, conn: bustest.New(t), committed: map[string]int{}}
	r.makeStream()
	return r
}

func (r *receiver) makeStream() {
	r.t.Helper()
	// A server that is still removing the files of one of that name refuses another, for a moment.
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := r.conn.JetStream().CreateStream(r.t.Context(), jetstream.StreamConfig{Name: "TOLD", Subjects: []string{"told.>"}})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal(err)
		}
	}
}

// take commits what the stream has at present and acks it.
func (r *receiver) take(most int) {
	r.t.Helper()
	consumer, err := r.conn.JetStream().CreateOrUpdateConsumer(r.t.Context(), "TOLD", jetstream.ConsumerConfig{Durable: "it", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		r.t.Fatal(err)
	}
	batch, err := consumer.FetchNoWait(most)
	if err != nil {
		r.t.Fatal(err)
	}
	for m := range batch.Messages() {
		r.mu.Lock()
		r.committed[m.Headers().Get("ce-id")]++
		r.mu.Unlock()
		if m.Headers().Get("ce-type") != "io.turbocat.test.v1" || m.Headers().Get("ce-subject") != "it" || string(m.Data()) != `{"a":"<é>"}` {
			r.t.Errorf("came as %v %s", m.Headers(), m.Data())
		}
		if err := m.Ack(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *receiver) stored(_ context.Context, messages []outbox.Message) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf {
		return nil, errors.New("nobody answers")
	}
	var ids []string
	for _, m := range messages {
		if r.committed[m.ID] > 0 {
			ids = append(ids, m.ID)
		}
	}
	return ids, nil
}

func (r *receiver) setDeaf(deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
}

func (r *receiver) relay(db *sqlx.DB) *outbox.Relay {
	return outbox.NewRelay(db, r.conn, "test", zerolog.Nop(), nil, outbox.Route{Type: "io.turbocat.test.v1", Subject: "told.test", Committed: r.stored})
}

func enqueue(t *testing.T, db *sqlx.DB, n int) []string {
	t.Helper()
	var ids []string
	var messages []outbox.Message
	for range n {
		id := uuid.NewString()
		ids = append(ids, id)
		messages = append(messages, outbox.Message{ID: id, Type: "io.turbocat.test.v1", Subject: "it", RequestID: "r", Body: []byte(`{"a":"<é>"}`)})
	}
	if err := postgres.InTx(t.Context(), db, func(tx *sqlx.Tx) error { return outbox.Enqueue(t.Context(), tx, messages...) }); err != nil {
		t.Fatal(err)
	}
	return ids
}

func rows(t *testing.T, db *sqlx.DB) (n int) {
	t.Helper()
	if err := db.Get(&n, `SELECT count(*) FROM outbox`); err != nil {
		t.Fatal(err)
	}
	return n
}

// dueNow makes the time of every row come.
func dueNow(t *testing.T, db *sqlx.DB) {
	t.Helper()
	if _, err := db.Exec(`UPDATE outbox SET look_at = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
}

func round(t *testing.T, r *outbox.Relay, want int) {
	t.Helper()
	if n, err := r.Round(t.Context()); err != nil || n != want {
		t.Fatalf("%d claimed, %v; want %d", n, err, want)
	}
}

func TestARowStaysUntilItIsCommitted(t *testing.T) {
	t.Parallel()
	db, r := pgtest.New(t, "catalog", os.DirFS("../../../migrations/catalog")), newReceiver(t)
	relay := r.relay(db)
	ids := enqueue(t, db, 3)
	round(t, relay, 3)
	round(t, relay, 0) // they are claimed
	dueNow(t, db)
	round(t, relay, 3)
	if n := rows(t, db); n != 3 {
		t.Errorf("%d rows are left before anything is committed", n)
	}
	r.take(2) // sent twice, the stream has each once
	dueNow(t, db)
	round(t, relay, 3)
	if n := rows(t, db); n != 1 {
		t.Errorf("%d rows are left", n)
	}
	// The whole store is lost with what is in it.
	if err := r.conn.JetStream().DeleteStream(t.Context(), "TOLD"); err != nil {
		t.Fatal(err)
	}
	dueNow(t, db)
	if _, err := relay.Round(t.Context()); err == nil {
		t.Error("there is no stream and no error")
	}
	r.makeStream()
	r.setDeaf(true)
	dueNow(t, db)
	if _, err := relay.Round(t.Context()); err == nil {
		t.Error("nobody answers and there is no error")
	}
	r.setDeaf(false)
	dueNow(t, db)
	round(t, relay, 1)
	r.take(10)
	dueNow(t, db)
	round(t, relay, 1)
	if n := rows(t, db); n != 0 || len(r.committed) != 3 {
		t.Errorf("%d rows are left, committed %v of %v", n, r.committed, ids)
	}
}

// TestReceiversThatAreTold has two kinds of messages: each goes to its receiver, and one that does not answer holds up no other.
func TestReceiversThatAreTold(t *testing.T) {
	t.Parallel()
	db, r := pgtest.New(t, "catalog", os.DirFS("../../../migrations/catalog")), newReceiver(t)
	var told []string
	relay := outbox.NewRelay(db, r.conn, "test", zerolog.Nop(), nil,
		outbox.Route{Type: "io.turbocat.test.v1", Subject: "told.test", Committed: r.stored},
		outbox.Route{Type: "io.turbocat.asked.v1", Committed: func(_ context.Context, messages []outbox.Message) (ids []string, err error) {
			for _, m := range messages {
				told = append(told, m.Subject+string(m.Body))
				ids = append(ids, m.ID)
			}
			return ids, nil
		}})
	enqueue(t, db, 1)
	ask := func(kind string) {
		t.Helper()
		if err := outbox.Enqueue(t.Context(), db, outbox.Message{ID: uuid.NewString(), Type: kind, Subject: "s", Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	ask("io.turbocat.asked.v1")
	round(t, relay, 2) // the one is sent, the other told and done with
	r.setDeaf(true)
	ask("io.turbocat.asked.v1")
	dueNow(t, db)
	if _, err := relay.Round(t.Context()); err == nil || len(told) != 2 || told[0] != "s1" || rows(t, db) != 1 {
		t.Errorf("told %q, %d rows are left, %v", told, rows(t, db), err)
	}
	ask("io.turbocat.unknown.v1")
	r.setDeaf(false)
	dueNow(t, db)
	if _, err := relay.Round(t.Context()); err == nil || rows(t, db) != 2 {
		t.Errorf("what nobody receives is gone: %d rows, %v", rows(t, db), err)
	}
}

func TestNothingIsSentThatIsNotCommitted(t *testing.T) {
	t.Parallel()
	db, r := pgtest.New(t, "catalog", os.DirFS("../../../migrations/catalog")), newReceiver(t)
	undone := errors.New("undone")
	err := postgres.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
		if err := outbox.Enqueue(t.Context(), tx, outbox.Message{ID: uuid.NewString(), Type: "t", Body: []byte("{}")}); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	round(t, r.relay(db), 0)
}

// TestRelaysShareTheWork has several relays of one outbox run over losses, and wants each message to be committed, and sent once
// when nothing is lost.
func TestRelaysShareTheWork(t *testing.T) {
	t.Parallel()
	db, r := pgtest.New(t, "catalog", os.DirFS("../../../migrations/catalog")), newReceiver(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() { r.relay(db).Run(ctx) })
	}
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	want := map[string]int{}
	for i := range 20 {
		for _, id := range enqueue(t, db, 50) {
			want[id] = 1
		}
		if i == 10 {
			if err := r.conn.JetStream().DeleteStream(t.Context(), "TOLD"); err != nil {
				t.Fatal(err)
			}
			r.makeStream()
		}
	}
	for deadline := time.Now().Add(30 * time.Second); rows(t, db) > 0; {
		r.take(1000)
		if time.Now().After(deadline) {
			t.Fatalf("%d rows are left", rows(t, db))
		}
	}
	if got := slices.Sorted(maps.Keys(r.committed)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d committed", len(got))
	}
	twice := 0
	for _, n := range r.committed {
		if n > 1 {
			twice++
		}
	}
	if twice > 0 {
		t.Error(fmt.Sprint(twice, " were taken more than once"))
	}
}
