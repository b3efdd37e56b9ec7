package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"turbocat.io/services/runner/internal/executor"
)

// The lease runs out while the connection is made, or waits to be used again: not one byte of a request leaves then.
func TestNothingIsSentWithoutALease(t *testing.T) {
	for name, config := range map[string]string{
		"without a body": `{"url":"{{url}}"}`,
		"with a body":    `{"method":"POST","url":"{{url}}","body":{"a":1}}`,
		"tried again":    `{"url":"{{url}}","retry":{"count":2,"delayMs":1}}`,
		"a long header":  `{"url":"{{url}}","headers":{"X-Long":"{{long}}"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var ours atomic.Bool
			var seen atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				seen.Add(1)
			}))
			server.Listener = counting{server.Listener, &seen}
			server.Start()
			defer server.Close()
			input := `{"long":"` + strings.Repeat("x", 3000) + `"}`
			e := local(t)
			for _, held := range []bool{false, true, false} { // the third finds a connection
				ours.Store(held)
				before := seen.Load()
				tk := task(server, strings.ReplaceAll(config, "{{url}}", "@"), input)
				tk.Ours = ours.Load
				_, err := e.Run(context.Background(), tk)
				if sent := seen.Load() > before; sent != held || errors.Is(err, executor.ErrNotOurs) == held {
					t.Errorf("held %t: sent %t, %v", held, sent, err)
				}
			}
		})
	}
}

// counting counts the reads that bring bytes.
type counting struct {
	net.Listener
	seen *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.seen}, err
}

type countingConn struct {
	net.Conn
	seen *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.seen.Add(1)
	}
	return n, err
}
