package bustest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// electedWithin is how long a cluster may take to have a leader: servers wait 4 to 9 s for one before they choose another.
const electedWithin = 40 * time.Second

// Cluster is three servers with JetStream that keep streams together.
type Cluster struct {
	options []*server.Options
	servers []*server.Server
}

// NewCluster starts a cluster and waits until it makes streams. It ends with the test.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	var routes []*url.URL
	var taken []net.Listener
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, l)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	for i, l := range taken {
		c.options = append(c.options, &server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			MaxPayload: subject.MaxPayload, Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port},
		})
		_ = l.Close()
	}
	c.servers = make([]*server.Server, len(c.options))
	t.Cleanup(func() {
		for i := range c.servers {
			c.stop(i)
		}
	})
	for i := range c.options {
		c.start(t, i)
	}
	Eventually(t, "the cluster has a leader that knows all servers", func() error {
		for _, s := range c.servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(c.servers) {
				return nil
			}
		}
		return errors.New("there is none")
	})
	return c
}

func (c *Cluster) start(t testing.TB, i int) {
	t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not become ready")
	}
	c.servers[i] = s
	c.options[i].Port = s.Addr().(*net.TCPAddr).Port // it keeps it
}

func (c *Cluster) stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// URL lists the servers.
func (c *Cluster) URL() string {
	var all []string
	for _, o := range c.options {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(all, ",")
}

// StopLeader stops the server that leads a stream, waits until another does, and gives what starts it again.
func (c *Cluster) StopLeader(t testing.TB, conn *bus.Conn, stream string) (again func()) {
	t.Helper()
	before := leader(t.Context(), conn, stream)
	for i, o := range c.options {
		if o.ServerName != before {
			continue
		}
		c.stop(i)
		Eventually(t, stream+" has another leader", func() error {
			if now := leader(t.Context(), conn, stream); now == "" || now == before {
				return fmt.Errorf("the leader is %q", now)
			}
			return nil
		})
		return func() { c.start(t, i) }
	}
	t.Fatalf("stream %s has the leader %q", stream, before)
	return nil
}

func leader(ctx context.Context, conn *bus.Conn, name string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := conn.JetStream().Stream(ctx, name)
	if err != nil || stream.CachedInfo().Cluster == nil {
		return ""
	}
	return stream.CachedInfo().Cluster.Leader
}

// Replicas gives with how many copies a stream is configured; "KV_" and its name is that of a bucket.
func Replicas(t testing.TB, js jetstream.JetStream, name string) int {
	t.Helper()
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatalf("stream %s: %v", name, err)
	}
	return stream.CachedInfo().Config.Replicas
}

// Eventually waits until holds gives nil, as long as a cluster may take to choose a leader.
func Eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	deadline := time.After(electedWithin)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s: %v", electedWithin, what, err)
		case <-tick.C:
		}
	}
}
