// Package natsapi takes batches of log lines in.
package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/telemetry/internal/logline"
)

const (
	durable  = "telemetry-logs"
	maxAge   = 24 * time.Hour
	maxBytes = 1 << 30
	ackWait  = 30 * time.Second

	prefetch = 64
	// maxLines is when no more batches are added to one insert.
	maxLines = 4096

	ensureTimeout = 5 * time.Second
	retryWait     = 200 * time.Millisecond
	retryWaitMax  = 5 * time.Second
	storeTimeout  = 15 * time.Second
	nakDelay      = 2 * time.Second
)

// Intake takes batches of log lines from stream LOGS, which it makes, and has them kept.
type Intake struct {
	conn   *bus.Conn
	keeper *logline.Keeper
	log    zerolog.Logger
	bound  atomic.Bool
}

// NewIntake makes an intake that takes nothing before Run.
func NewIntake(conn *bus.Conn, keeper *logline.Keeper, log zerolog.Logger) *Intake {
	return &Intake{conn: conn, keeper: keeper, log: log}
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
	reconnected, stop := i.conn.OnReconnect()
	defer stop()
	wait, told := retryWait, false
	for ctx.Err() == nil {
		err := i.session(ctx, reconnected, func() { wait, told = retryWait, false })
		i.bound.Store(false)
		if ctx.Err() != nil || errors.Is(err, errReconnected) {
			continue
		}
		if !told {
			i.log.Warn().Err(err).Msg("log lines are not taken in; trying again")
			told = true
		}
		select {
		case <-ctx.Done():
		case <-reconnected:
		case <-time.After(wait):
		}
		wait = min(2*wait, retryWaitMax)
	}
}

var errReconnected = errors.New("the connection was made anew")

// ensure makes the stream and its consumer, or brings them to what they should be.
func (i *Intake) ensure(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	stream, err := i.conn.JetStream().CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: subject.LogsStream, Subjects: []string{subject.LogsAll}, Description: "batches of log lines, until telemetry has stored them",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: maxAge, MaxBytes: maxBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", subject.LogsStream, err)
	}
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: 4 * prefetch,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer %s: %w", durable, err)
	}
	return consumer, nil
}

// session consumes until something breaks.
func (i *Intake) session(ctx context.Context, reconnected <-chan struct{}, works func()) error {
	consumer, err := i.ensure(ctx)
	if err != nil {
		return err
	}
	messages := make(chan jetstream.Msg, prefetch)
	broken := make(chan error, 1)
	ended := make(chan struct{})
	consuming, err := consumer.Consume(
		func(m jetstream.Msg) {
			select {
			case messages <- m:
			case <-ended: // it comes again
			}
		},
		jetstream.PullMaxMessages(prefetch),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case broken <- err:
			default:
			}
		}),
	)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer func() {
		close(ended)
		consuming.Stop()
		select {
		case <-consuming.Closed():
		case <-time.After(time.Second):
		}
	}()
	i.bound.Store(true)
	works()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
			return errReconnected
		case err := <-broken:
			return fmt.Errorf("consume: %w", err)
		case m := <-messages:
			i.store(ctx, m, messages)
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
			i.log.Error().Err(err).Str("subject", m.Subject()).Int("bytes", len(m.Data())).Msg("batch of log lines thrown away: it does not decode")
			i.tell(m.Term())
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
	if err := i.keeper.Keep(storing, lines); err != nil {
		i.log.Warn().Err(err).Msg("log lines not stored; trying again")
		for _, m := range read {
			i.tell(m.NakWithDelay(nakDelay))
		}
		return
	}
	for _, m := range read {
		i.tell(m.Ack())
	}
}

// tell notes an answer that did not go out: the message comes again and changes nothing.
func (i *Intake) tell(err error) {
	if err != nil {
		i.log.Debug().Err(err).Msg("ack not sent")
	}
}
