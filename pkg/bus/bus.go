// Package bus is the one way services talk: typed request and reply over nats micro, and
// JetStream for facts. It knows no subject of its own; contracts names them.
package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"turbocat.io/pkg/observe"
)

// Conn is a connection to NATS that reconnects for ever. It is safe for concurrent use.
type Conn struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	calls  calls
	closed chan struct{}

	registerer prometheus.Registerer
	tracing    *observe.Tracing
	metrics    metrics

	mu          sync.Mutex
	reconnected []chan<- struct{}
}

// probeSize is more than a block of any usual file system.
const probeSize = 8 << 10

// Option says how a connection is watched.
type Option func(*Conn)

// WithMetrics registers what calls and the connection are measured by.
func WithMetrics(r prometheus.Registerer) Option { return func(c *Conn) { c.registerer = r } }

// WithTracing makes a span of every call and of every answer.
func WithTracing(t *observe.Tracing) Option { return func(c *Conn) { c.tracing = t } }

// Connect opens a connection and waits until it stands or ctx ends. natsURL is the address of a server, or of several of a cluster
// with commas between them, of which any will do. name tells operators whose it is.
func Connect(ctx context.Context, natsURL, name string, log zerolog.Logger, options ...Option) (*Conn, error) {
	c := &Conn{closed: make(chan struct{})}
	for _, o := range options {
		o(c)
	}
	first := make(chan struct{})
	var once sync.Once
	nc, err := nats.Connect(natsURL,
		nats.Name(name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		// A server that is silently gone is noticed after 15 s at most.
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(8<<20),
		nats.ConnectHandler(func(*nats.Conn) { once.Do(func() { close(first) }) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn().Err(err).Msg("connection to NATS lost; reconnecting")
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			once.Do(func() { close(first) })
			log.Info().Msg("connected to NATS again")
			c.announceReconnect()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			event := log.Warn().Err(err)
			if sub != nil {
				event = event.Str("subject", sub.Subject)
			}
			event.Msg("NATS reports an error")
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; check NATS_URL", redact(natsURL), err)
	}
	if nc.IsConnected() {
		once.Do(func() { close(first) })
	}
	select {
	case <-first:
	case <-ctx.Done():
		nc.Close()
		return nil, fmt.Errorf("no NATS server answers at %s; start it or correct NATS_URL", redact(natsURL))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	c.nc, c.js = nc, js
	c.metrics = newMetrics(c.registerer, nc)
	if err := c.calls.listen(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("listen for replies: %w", err)
	}
	return c, nil
}

// NATS gives the connection itself, for adapters that speak JetStream.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream gives the JetStream context of the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// OnReconnect gives a channel that receives after every reconnect; several in a row may
// collapse into one. stop ends it.
func (c *Conn) OnReconnect() (reconnected <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reconnected = append(c.reconnected, ch)
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, other := range c.reconnected {
			if other == (chan<- struct{})(ch) {
				c.reconnected = append(c.reconnected[:i], c.reconnected[i+1:]...)
				return
			}
		}
	}
}

func (c *Conn) announceReconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.reconnected {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Check tells whether the server answers; it is the connection's health check.
func (c *Conn) Check(ctx context.Context) error {
	if !c.nc.IsConnected() {
		return errors.New("not connected to NATS")
	}
	return c.nc.FlushWithContext(ctx)
}

// CheckWrite tells whether JetStream stores a message, on a subject of a stream that is there for
// this alone; it is a health check. A server whose disk is full answers Check all the same.
func (c *Conn) CheckWrite(ctx context.Context, subject string) error {
	if !c.nc.IsConnected() {
		return errors.New("not connected to NATS")
	}
	// What fits into the last block of a file is stored on a full disk, too; and what repeats
	// itself, a file system may store in no block at all.
	body := make([]byte, probeSize)
	_, _ = rand.Read(body) // it never fails
	_, err := c.js.Publish(ctx, subject, body, jetstream.WithRetryAttempts(0))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes %s; the orchestrator makes it once JetStream works", subject)
	case err != nil:
		return fmt.Errorf("JetStream stores nothing: %w; is its disk or max_file_store full?", err)
	}
	return nil
}

// Close sends what is buffered and closes the connection, waiting at most two seconds.
func (c *Conn) Close() {
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(time.Second)
	}
	c.nc.Close()
	select {
	case <-c.closed:
	case <-time.After(time.Second):
	}
}

// redact leaves credentials out of addresses with commas between them.
func redact(natsURL string) string {
	addresses := strings.Split(natsURL, ",")
	for i, address := range addresses {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.Host == "" {
			return "the given address"
		}
		addresses[i] = u.Redacted()
	}
	return strings.Join(addresses, ",")
}
