// Package natsapi answers the methods of contracts/telemetry and takes batches of log lines in.
package natsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/telemetry/internal/logline"
)

const (
	// maxLines is when no more batches are added to one insert.
	maxLines     = 4096
	storeTimeout = 15 * time.Second

	lookEvery   = 10 * time.Second
	lookTimeout = time.Second
)

// Intake takes batches of log lines from stream LOGS, which it makes, and has them kept.
type Intake struct {
	conn   *bus.Conn
	keeper *logline.Keeper
	copies *bus.Copies
	log    zerolog.Logger
	bound  atomic.Bool

	pending, ackPending prometheus.Gauge
}

// NewIntake makes an intake that takes nothing before Run, and is measured by what it registers with r; nil registers nothing.
func NewIntake(conn *bus.Conn, keeper *logline.Keeper, copies *bus.Copies, log zerolog.Logger, r prometheus.Registerer) *Intake {
	with := promauto.With(r)
	return &Intake{
		conn: conn, keeper: keeper, copies: copies, log: log,
		pending: with.NewGauge(prometheus.GaugeOpts{
			Name: "log_batches_pending", Help: "Batches of log lines in LOGS that no process has had yet; of the whole installation.",
		}),
		ackPending: with.NewGauge(prometheus.GaugeOpts{
			Name: "log_batches_ack_pending", Help: "Batches of log lines that processes have and have not stored; of the whole installation.",
		}),
	}
}

// Check tells whether log lines are being taken in; it is a health check.
func (i *Intake) Check(context.Context) error {
	if i.bound.Load() {
		return nil
	}
	return fmt.Errorf("no log lines are taken in from stream %s; is JetStream on?", subject.LogsStream)
}

// Run takes lines in until ctx ends, whatever happens to the connection, the stream and its consumer.
func (i *Intake) Run(ctx context.Context) {
	i.conn.Keep(ctx, i.log, "log lines are not taken in; trying again", i.session)
}

// session is a bus.Session that consumes.
func (i *Intake) session(ctx context.Context, works func()) error {
	consumer, err := ensureLogs(ctx, i.conn.JetStream(), i.copies)
	if err != nil {
		return err
	}
	defer i.bound.Store(false)
	return bus.Intake{Prefetch: prefetch, Take: i.store, Look: i.look, Every: lookEvery}.Run(ctx, consumer, func() {
		i.bound.Store(true)
		works()
	})
}

// look sees how many copies the stream has, and how far behind it the consumer is.
func (i *Intake) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if stream, err := i.conn.JetStream().Stream(ctx, subject.LogsStream); err == nil {
		i.copies.Saw(stream.CachedInfo())
		if consumer, err := stream.Consumer(ctx, logsConsumer.Durable); err == nil {
			info := consumer.CachedInfo()
			i.pending.Set(float64(info.NumPending))
			i.ackPending.Set(float64(info.NumAckPending))
		}
	}
}

// store keeps the lines of one message and of those that wait behind it.
func (i *Intake) store(ctx context.Context, first jetstream.Msg, more <-chan jetstream.Msg) {
	var lines []telemetry.LogLine
	var read []jetstream.Msg
	for m := first; m != nil; {
		var batch telemetry.LogBatch
		if err := json.Unmarshal(m.Data(), &batch); err != nil {
			bus.Settle(i.log, errs.Wrap(err, errs.Validation, "a batch of log lines does not decode"), m)
		} else {
			lines, read = append(lines, batch.Lines...), append(read, m)
		}
		m = nil
		if len(lines) < maxLines {
			select {
			case m = <-more:
			default:
			}
		}
	}
	// What was read is stored even though ctx ends: it is in work.
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := i.keeper.Keep(storing, lines)
	bus.Settle(i.log, err, read...)
	if err == nil {
		i.tell(lines)
	}
}

// tell says which executions have new lines. Who does not hear it looks again by itself.
func (i *Intake) tell(lines []telemetry.LogLine) {
	news, known := telemetry.LogNews{}, map[string]bool{}
	for _, l := range lines {
		if !known[l.ExecutionID] {
			known[l.ExecutionID] = true
			news.ExecutionIDs = append(news.ExecutionIDs, l.ExecutionID)
		}
	}
	if len(news.ExecutionIDs) > 0 {
		announce(i.conn, i.log, subject.LogNews, news)
	}
}
