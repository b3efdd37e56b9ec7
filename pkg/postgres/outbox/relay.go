package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
)

const (
	// lookEvery is how often the table is looked into: how long a message waits at most when nothing is wrong.
	lookEvery = 250 * time.Millisecond
	// pause is how long nothing is tried after NATS, the receiver or the database did not do its part.
	pause = time.Second
	// atOnce is how many messages are claimed together.
	atOnce = 500
	// stepTimeout bounds each sending, asking and deleting.
	stepTimeout = 5 * time.Second
)

// Relay sends what stands in an outbox. Every replica of a service has one: a claimed row is another's again only after its time.
type Relay struct {
	db     *sqlx.DB
	conn   *bus.Conn
	source string
	routes []Route
	log    zerolog.Logger
	waited prometheus.Gauge
	rows   prometheus.Gauge
	sent   prometheus.Counter
	again  prometheus.Counter
}

// Route says where the messages of a type go to.
type Route struct {
	Type    string // ce-type
	Subject string // of NATS; "" for a receiver that Committed itself tells of the messages
	// Committed gives the ids of the messages whose effect their receiver has committed. It is asked after they were sent; what is not
	// among them for a while is sent again.
	Committed func(ctx context.Context, messages []Message) (ids []string, err error)
}

// NewRelay makes a relay of the outbox in the schema of db, which is that of the service source; r registers what it is measured
// by, nil nothing.
func NewRelay(db *sqlx.DB, conn *bus.Conn, source string, log zerolog.Logger, r prometheus.Registerer, routes ...Route) *Relay {
	return &Relay{
		db: db, conn: conn, source: source, routes: routes, log: log,
		waited: promauto.With(r).NewGauge(prometheus.GaugeOpts{Name: "outbox_oldest_seconds", Help: "How long the oldest message of the outbox has waited to be committed by its receiver; 0 when there is none."}),
		rows:   promauto.With(r).NewGauge(prometheus.GaugeOpts{Name: "outbox_messages", Help: "Messages of the outbox that their receiver has not been seen to have committed."}),
		sent:   promauto.With(r).NewCounter(prometheus.CounterOpts{Name: "outbox_sent_total", Help: "Messages of the outbox that this process has sent, those that were sent again too."}),
		again:  promauto.With(r).NewCounter(prometheus.CounterOpts{Name: "outbox_resent_total", Help: "Messages of the outbox that this process has sent again, because their receiver did not have them."}),
	}
}

// Run sends until ctx ends.
func (r *Relay) Run(ctx context.Context) {
	told := false
	var measured time.Time
	for {
		if time.Since(measured) >= 5*time.Second {
			r.measure(ctx)
			measured = time.Now()
		}
		n, err := r.Round(ctx)
		wait := lookEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !told {
				r.log.Warn().Err(err).Msg("the outbox is not sent; trying again")
			}
			told, wait = true, pause
		case n == atOnce:
			wait = 0
		default:
			told = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// row is a claimed message.
type row struct {
	ID        string `db:"id"`
	Type      string `db:"type"`
	Subject   string `db:"subject"`
	RequestID string `db:"request_id"`
	Body      string `db:"body"`
	Tries     int    `db:"tries"`
}

func (m row) message() Message {
	return Message{ID: m.ID, Type: m.Type, Subject: m.Subject, RequestID: m.RequestID, Body: []byte(m.Body)}
}

// claim gives messages whose time has come, and keeps them from others for 1 s, then 2 s, up to 16 s. The wait is the time in which
// the receiver is to commit; who claims and dies loses no more than that.
const claim = `UPDATE outbox SET tries = tries + 1, look_at = clock_timestamp() + power(2, least(tries, 4)) * interval '1 second'
	WHERE id IN (SELECT id FROM outbox WHERE look_at <= clock_timestamp() ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED)
	RETURNING id, type, subject, request_id, body, tries`

// Round claims messages, sends those that are new, deletes those that their receiver has, and sends the others again. It gives how
// many it has claimed. A receiver that does not answer is in the way of its own messages alone.
func (r *Relay) Round(ctx context.Context) (int, error) {
	var rows []row
	claiming, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := r.db.SelectContext(claiming, &rows, claim, atOnce); err != nil || len(rows) == 0 {
		return 0, postgres.Translate(err)
	}
	byType := map[string][]row{}
	for _, m := range rows {
		byType[m.Type] = append(byType[m.Type], m)
	}
	var failed []error
	for _, route := range r.routes {
		failed = append(failed, r.carry(ctx, route, byType[route.Type]))
		delete(byType, route.Type)
	}
	for unknown, rows := range byType {
		failed = append(failed, errs.New(errs.Internal, "%d messages of the type %s have no receiver in this release; a newer one sends them", len(rows), unknown))
	}
	return len(rows), errors.Join(failed...)
}

// carry does with the claimed messages of a route what is due.
func (r *Relay) carry(ctx context.Context, route Route, rows []row) error {
	var send []row
	var asked []Message
	sent := map[string]row{}
	for _, m := range rows {
		if m.Tries == 1 && route.Subject != "" {
			send = append(send, m)
			continue
		}
		sent[m.ID], asked = m, append(asked, m.message())
	}
	if len(asked) > 0 {
		committed, err := r.settle(ctx, route, asked)
		if err != nil {
			return err
		}
		for _, id := range committed {
			delete(sent, id)
		}
		for _, m := range sent {
			send = append(send, m)
		}
		r.again.Add(float64(len(sent)))
	}
	if route.Subject == "" {
		return nil
	}
	return r.send(ctx, route, send)
}

// settle deletes the messages whose effect their receiver has committed and gives their ids.
func (r *Relay) settle(ctx context.Context, route Route, messages []Message) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	committed, err := route.Committed(ctx, messages)
	if err != nil || len(committed) == 0 {
		return nil, err
	}
	_, err = r.db.ExecContext(ctx, `DELETE FROM outbox WHERE id = ANY($1::uuid[])`, pq.Array(committed))
	return committed, postgres.Translate(err)
}

func (r *Relay) send(ctx context.Context, route Route, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	messages := make([]bus.Message, len(rows))
	for i, m := range rows {
		headers := map[string]string{
			event.HeaderSpecVersion: event.SpecVersion, event.HeaderID: m.ID, event.HeaderType: m.Type, event.HeaderSource: r.source,
			event.HeaderSubject: m.Subject, event.HeaderContentType: "application/json",
		}
		if m.RequestID != "" {
			headers[event.HeaderRequestID] = m.RequestID
		}
		messages[i] = bus.Message{Subject: route.Subject, ID: m.ID, Headers: headers, Body: []byte(m.Body)}
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	r.sent.Add(float64(len(rows)))
	if err := r.conn.Store(ctx, messages); err != nil {
		return errs.Wrap(err, errs.DependencyUnavailable, "the messages of the outbox are not stored by NATS; they are sent again")
	}
	return nil
}

func (r *Relay) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var now struct {
		Rows   int     `db:"n"`
		Waited float64 `db:"waited"`
	}
	if err := r.db.GetContext(ctx, &now, `SELECT count(*) AS n, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS waited FROM outbox`); err == nil {
		r.rows.Set(float64(now.Rows))
		r.waited.Set(now.Waited)
	}
}
