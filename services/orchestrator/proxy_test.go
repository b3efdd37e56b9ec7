package orchestrator_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy passes TCP connections on to a server, until it is cut.
type proxy struct {
	t        *testing.T
	target   string
	listener net.Listener
	working  sync.WaitGroup

	mu    sync.Mutex
	away  bool
	conns map[net.Conn]struct{}
}

// before puts a proxy before the server of an address and gives the address through it.
func before(t *testing.T, address string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, target: u.Host, listener: l, conns: map[net.Conn]struct{}{}}
	p.working.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.working.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

// cut resets every connection and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for c := range p.conns {
		p.reset(c)
	}
}

// mend lets connections through again.
func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

// resetAll resets every connection, once.
func (p *proxy) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.reset(c)
	}
}

func (p *proxy) reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.working.Go(func() { p.pass(client) })
	}
}

func (p *proxy) pass(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		p.reset(client)
		return
	}
	p.mu.Lock()
	if p.away {
		p.mu.Unlock()
		p.reset(client)
		_ = server.Close()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var copying sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		copying.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = client.Close()
			_ = server.Close()
		})
	}
	copying.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}
