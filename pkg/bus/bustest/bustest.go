// Package bustest starts a real NATS server inside a test.
package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// Server starts a server with JetStream on loopback and gives its URL. It ends with the test.
func Server(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		MaxPayload: subject.MaxPayload,
	})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not become ready")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}

// Connect opens a connection that ends with the test.
func Connect(t testing.TB, url string) *bus.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := bus.Connect(ctx, url, t.Name(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// New starts a server and connects to it.
func New(t testing.TB) *bus.Conn {
	t.Helper()
	return Connect(t, Server(t))
}

// Serve runs an RPC server until the test ends.
func Serve(t testing.TB, c *bus.Conn, s *bus.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, c) }()
	select {
	case <-s.Serving():
	case <-time.After(10 * time.Second):
		t.Error("the service can not be asked yet")
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// Event gives a message in binary mode as if its headers were its own.
func Event(m jetstream.Msg) jetstream.Msg {
	headers, data := event.HeaderMap(m.Headers(), m.Data())
	return received{m, headers, data}
}

type received struct {
	jetstream.Msg
	headers nats.Header
	data    []byte
}

func (r received) Headers() nats.Header { return r.headers }
func (r received) Data() []byte         { return r.data }
