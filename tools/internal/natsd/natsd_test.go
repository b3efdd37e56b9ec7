//go:build unix

package natsd_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/subject"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/natsd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o natsd.Options) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func TestRestartKeepsStreams(t *testing.T) {
	var log bytes.Buffer
	o := natsd.Options{Dir: filepath.Join(t.TempDir(), "new", "nats"), User: "u", Password: "p@ss/word", Log: zerolog.New(&log)}
	s := start(t, o)
	nc, js := connect(t, s.URL())
	if got := nc.MaxPayload(); got != subject.MaxPayload {
		t.Errorf("max payload %d", got)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}, MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "kept", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Stop() // again: nothing happens

	_, js = connect(t, start(t, o).URL())
	stream, err := js.Stream(t.Context(), "KEPT")
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := stream.GetMsg(t.Context(), 1); err != nil || string(msg.Data) != "x" {
		t.Errorf("kept %v, %v", msg, err)
	}
	if strings.Contains(log.String(), `"level":"info"`) || strings.Contains(log.String(), "p@ss") {
		t.Errorf("logged: %s", log.String())
	}
}

func TestOnlyThePasswordOpens(t *testing.T) {
	s := start(t, natsd.Options{Dir: t.TempDir(), User: "u", Password: "right"})
	for _, url := range []string{strings.Replace(s.URL(), "right", "wrong", 1), strings.Replace(s.URL(), "u:right@", "", 1)} {
		if nc, err := nats.Connect(url, nats.Timeout(5*time.Second)); err == nil {
			nc.Close()
			t.Errorf("%s was let in", url)
		}
	}
	if _, err := natsd.Start(t.Context(), natsd.Options{Dir: t.TempDir()}); err == nil {
		t.Error("a server without a password started")
	}
}

func TestPortAndFolderFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]natsd.Options{
		"is taken":        {Dir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port},
		"not a directory": {Dir: filepath.Join(file, "nats")},
	} {
		o.User, o.Password = "u", "p"
		s, err := natsd.Start(t.Context(), o)
		if err == nil {
			s.Stop()
			t.Errorf("%s: it started", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestOneServerForAFolder(t *testing.T) {
	o := natsd.Options{Dir: t.TempDir(), User: "u", Password: "p"}
	first := start(t, o)
	if second, err := natsd.Start(t.Context(), o); err == nil {
		second.Stop()
		t.Error("a second server uses the folder")
	} else if !strings.Contains(err.Error(), "another NATS server uses the folder "+o.Dir) {
		t.Errorf("got %v", err)
	}
	first.Stop()
	start(t, o)
}

// What can not be read back must not end in a server without JetStream.
func TestDamagedStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), []byte("not a folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := natsd.Start(t.Context(), natsd.Options{Dir: dir, User: "u", Password: "p"})
	if err == nil {
		s.Stop()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "may be moved away") {
		t.Errorf("got %v", err)
	}
}

// A route with another password is no member: the streams of a cluster are for its servers alone.
func TestCluster(t *testing.T) {
	ports := freePorts(t, 4)
	var routes []string
	for _, port := range ports[:3] {
		routes = append(routes, net.JoinHostPort(natsd.Host, strconv.Itoa(port)))
	}
	var urls []string
	member := func(i int, password string) *natsd.Server {
		return start(t, natsd.Options{Dir: t.TempDir(), User: "u", Password: "p", Cluster: &natsd.Cluster{
			Server: "n" + strconv.Itoa(i), Name: "test", Port: ports[i], User: "route", Password: password, Routes: routes,
		}})
	}
	for i := range 3 {
		urls = append(urls, member(i, "right").URL())
	}
	member(3, "wrong")
	nc, js := connect(t, strings.Join(urls, ","))
	eventually(t, func() error {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept"}, Replicas: 3})
		return err
	})
	stream, err := js.Stream(t.Context(), "KEPT")
	if err != nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
		t.Fatalf("%+v, %v", stream, err)
	}
	if servers := nc.DiscoveredServers(); len(nc.Servers()) != 3 {
		t.Errorf("the cluster has the servers %v, of which %v were told", nc.Servers(), servers)
	}
	if _, err := natsd.Start(t.Context(), natsd.Options{Dir: t.TempDir(), User: "u", Password: "p", Cluster: &natsd.Cluster{Server: "n4", Name: "test", Port: 1, User: "route"}}); err == nil {
		t.Error("a server starts whose routes have no password")
	}
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

func eventually(t *testing.T, holds func() error) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
