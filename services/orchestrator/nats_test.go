package orchestrator_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"turbocat.io/contracts/subject"
)

// natsServer is a NATS server whose store a test can lose and put back.
type natsServer struct {
	t     *testing.T
	url   string
	port  int
	store string
	s     *server.Server
}

func newNATS(t *testing.T) *natsServer {
	t.Helper()
	n := &natsServer{t: t, port: server.RANDOM_PORT, store: filepath.Join(t.TempDir(), "store")}
	t.Cleanup(n.stop)
	n.start()
	n.port = n.s.Addr().(*net.TCPAddr).Port
	n.url = n.s.ClientURL()
	return n
}

func (n *natsServer) start() {
	n.t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n.port, JetStream: true, StoreDir: n.store, NoSigs: true, NoLog: true, MaxPayload: subject.MaxPayload,
	})
	if err != nil {
		n.t.Fatalf("start NATS: %v", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		n.t.Fatal("the NATS server does not become ready")
	}
	n.s = s
}

func (n *natsServer) stop() {
	if n.s != nil {
		n.s.Shutdown()
		n.s.WaitForShutdown()
		n.s = nil
	}
}

func (n *natsServer) loseStore() {
	n.t.Helper()
	if err := os.RemoveAll(n.store); err != nil {
		n.t.Fatal(err)
	}
}

// backUp copies the store of the stopped server.
func (n *natsServer) backUp() (dir string) {
	n.t.Helper()
	dir = filepath.Join(n.t.TempDir(), "backup")
	if err := os.CopyFS(dir, os.DirFS(n.store)); err != nil {
		n.t.Fatal(err)
	}
	return dir
}

// putBack gives the stopped server the store of a backup.
func (n *natsServer) putBack(dir string) {
	n.t.Helper()
	n.loseStore()
	if err := os.CopyFS(n.store, os.DirFS(dir)); err != nil {
		n.t.Fatal(err)
	}
}
