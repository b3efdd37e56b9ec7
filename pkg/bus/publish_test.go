package bus_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

type outcome struct {
	seq uint64
	err error
}

func publish(p *bus.Publisher, subject string, data []byte, id string) <-chan outcome {
	out := make(chan outcome, 2)
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	if id != "" {
		m.Header.Set(jetstream.MsgIDHeader, id)
	}
	p.Publish(m, func(seq uint64, err error) { out <- outcome{seq, err} })
	return out
}

func told(t *testing.T, out <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-out:
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told of a message")
		return outcome{}
	}
}

func publisher(t *testing.T, c *bus.Conn, timeout time.Duration) *bus.Publisher {
	t.Helper()
	p, err := bus.NewPublisher(c.NATS(), timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestPublisher(t *testing.T) {
	c := bustest.New(t)
	_, err := c.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, MaxMsgs: 3, Discard: jetstream.DiscardNew})
	if err != nil {
		t.Fatal(err)
	}
	p := publisher(t, c, 5*time.Second)
	first, second := publish(p, "s.a", []byte("1"), "a"), publish(p, "s.b", nil, "")
	if o := told(t, first); o.seq != 1 || o.err != nil {
		t.Errorf("the first: %+v", o)
	}
	if o := told(t, second); o.seq != 2 || o.err != nil {
		t.Errorf("the second: %+v", o)
	}
	if o := told(t, publish(p, "s.a", []byte("1"), "a")); o.seq != 1 || o.err != nil {
		t.Errorf("a duplicate: %+v", o)
	}
	told(t, publish(p, "s.c", nil, ""))
	var refused *jetstream.APIError
	if o := told(t, publish(p, "s.c", nil, "")); o.seq != 0 || !errors.As(o.err, &refused) || !strings.Contains(o.err.Error(), "maximum messages exceeded") {
		t.Errorf("into a full stream: %+v", o)
	}
	if o := told(t, publish(p, "other", nil, "")); o.seq != 0 || !errors.Is(o.err, jetstream.ErrNoStreamResponse) {
		t.Errorf("into no stream: %+v", o)
	}
	if o := told(t, publish(p, "s.d", make([]byte, 64<<20), "")); !errors.Is(o.err, nats.ErrMaxPayload) {
		t.Errorf("too large: %+v", o)
	}
	select {
	case o := <-first:
		t.Errorf("told twice: %+v", o)
	default:
	}
}

func TestPublisherTellsWhatIsNotAnswered(t *testing.T) {
	c := bustest.New(t)
	if _, err := c.NATS().SubscribeSync("silent"); err != nil {
		t.Fatal(err)
	}
	p := publisher(t, c, 100*time.Millisecond)
	if o := told(t, publish(p, "silent", nil, "")); !errors.Is(o.err, nats.ErrTimeout) {
		t.Errorf("without a PubAck: %+v", o)
	}
	late := publish(p, "silent", nil, "")
	p.Close()
	if o := told(t, late); !errors.Is(o.err, nats.ErrConnectionClosed) {
		t.Errorf("closed: %+v", o)
	}
}

func TestPublisherOverAReconnect(t *testing.T) {
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
	begin := func() *server.Server {
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("no server")
		}
		return s
	}
	first := begin()
	c := bustest.Connect(t, first.ClientURL())
	if _, err := c.NATS().SubscribeSync("silent"); err != nil {
		t.Fatal(err)
	}
	p := publisher(t, c, time.Minute)
	lost := publish(p, "silent", nil, "")
	if err := c.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	options.Port = first.Addr().(*net.TCPAddr).Port
	first.Shutdown()
	first.WaitForShutdown()
	second := begin()
	defer func() { second.Shutdown(); second.WaitForShutdown() }()
	if o := told(t, lost); !errors.Is(o.err, nats.ErrDisconnected) {
		t.Errorf("its PubAck went to a connection that is gone: %+v", o)
	}
}
