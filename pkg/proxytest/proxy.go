// Package proxytest puts a TCP proxy with faults between a client and a server in a test.
//
// Faults concern whole connections of one proxy: give each client and server a proxy of its own to
// hit one link alone.
package proxytest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"
)

// dialTimeout bounds how long a client waits for a server that is away.
const dialTimeout = 5 * time.Second

// Proxy passes TCP connections on to a server until a fault is put in its way. It is safe for concurrent use.
type Proxy struct {
	t        testing.TB
	target   string
	listener *net.TCPListener
	working  sync.WaitGroup

	mu            sync.Mutex
	cut, hole     bool
	delay, jitter time.Duration
	links         map[*link]struct{}
	dialled       int
	trap          *trap
}

// trap springs at something that a client says.
type trap struct {
	text   []byte
	after  bool
	said   *link // after alone: on which it was said
	sprung func()
}

// link is one connection through the proxy.
type link struct {
	client, server *net.TCPConn
	ended          chan struct{}
	once           sync.Once
}

// New starts a proxy before the server at an address, host:port. It ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // its sockets take no filter
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, target: target, listener: l.(*net.TCPListener), links: map[*link]struct{}{}}
	p.working.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.working.Wait()
	})
	return p
}

// Before starts a proxy before the server of a URL and gives the URL through it.
func Before(t testing.TB, server string) (p *Proxy, through string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	p = New(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// Addr is where clients connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Open is how many connections reach the server now.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Dialled is how many connections clients have made so far, whatever became of them. Those that are
// tried in a black hole count once it is healed.
func (p *Proxy) Dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialled
}

// Cut resets every connection, and every new one until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.Reset()
}

// Reset resets every connection, once.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end(true)
	}
}

// BlackHole drops every packet that arrives, in both directions, until Heal: connections stand and say
// nothing, not even that they end, and new ones are not answered. It skips the test where the system can not do that.
func (p *Proxy) BlackHole() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = true
	p.filterAll()
}

// Slow delays whatever passes by about d, more or less by at most jitter, until Heal; what follows does not wait for
// what is on its way.
func (p *Proxy) Slow(d, jitter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.jitter = d, jitter
}

// Heal ends every fault. What a black hole has dropped is sent again by those who sent it, in their own time.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.delay, p.jitter = false, 0, 0
	if p.hole {
		p.hole = false
		p.filterAll()
	}
}

// Before has sprung called, once, when a client says something with the text, which then does not arrive any more: what stands in one
// piece of what it writes is found. The connection is reset.
func (p *Proxy) Before(text string, sprung func()) { p.set(&trap{text: []byte(text), sprung: sprung}) }

// After is like Before, but what the client says arrives, and the next that the server says to it does not.
func (p *Proxy) After(text string, sprung func()) {
	p.set(&trap{text: []byte(text), after: true, sprung: sprung})
}

func (p *Proxy) set(t *trap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
}

// springs tells whether the trap springs at what a side says, and has told who set it.
func (p *Proxy) springs(l *link, data []byte, byClient bool) bool {
	p.mu.Lock()
	t := p.trap
	switch {
	case t == nil:
	case byClient && t.said == nil && bytes.Contains(data, t.text):
		if t.after {
			t.said = l
			t = nil
		}
	case !byClient && t.said == l:
	default:
		t = nil
	}
	if t != nil {
		p.trap = nil
	}
	p.mu.Unlock()
	if t != nil {
		t.sprung()
	}
	return t != nil
}

// filterAll makes the sockets drop or take what arrives, as the proxy is now. The caller has the mutex.
func (p *Proxy) filterAll() {
	p.t.Helper()
	sockets := []syscall.Conn{p.listener}
	for l := range p.links {
		sockets = append(sockets, l.client, l.server)
	}
	for _, s := range sockets {
		err := dropArriving(s, p.hole)
		switch {
		case err == nil || errors.Is(err, net.ErrClosed):
		case p.hole:
			p.t.Skipf("SKIPPED: this system gives no black holes (Linux, and a kernel that lets this user filter sockets): %v", err)
		default:
			p.t.Errorf("the black hole does not heal: %v", err)
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.dialled++
		p.mu.Unlock()
		p.working.Go(func() { p.pass(client) })
	}
}

func (p *Proxy) pass(client *net.TCPConn) {
	server, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		reset(client)
		return
	}
	l := &link{client: client, server: server.(*net.TCPConn), ended: make(chan struct{})}
	defer l.end(false)
	// Where nobody listens, a socket may meet itself.
	if !p.admit(l) || server.LocalAddr().String() == server.RemoteAddr().String() {
		l.end(true)
		return
	}
	defer p.forget(l)
	var copying sync.WaitGroup
	copying.Go(func() { p.copy(l, l.server, l.client, true) })
	copying.Go(func() { p.copy(l, l.client, l.server, false) })
	copying.Wait()
}

// admit takes a new connection in, under the fault that is in its way; false when it is cut.
func (p *Proxy) admit(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	p.links[l] = struct{}{}
	if p.hole { // it was on its way when the hole opened
		_ = dropArriving(l.client, true)
		_ = dropArriving(l.server, true)
	}
	return true
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// piece is something that one side said, on its way to the other.
type piece struct {
	data []byte
	due  time.Time
}

// copy passes on what one side says, in its order, and its end.
func (p *Proxy) copy(l *link, to, from *net.TCPConn, byClient bool) {
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		for next := range pieces {
			l.await(next.due)
			if _, err := to.Write(next.data); err != nil {
				l.end(false) // nothing more is read; what was, goes nowhere
			}
		}
	})
	buffer := make([]byte, 64<<10)
	var due time.Time
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.springs(l, buffer[:n], byClient) {
			l.end(true)
			err = syscall.ECONNRESET
		} else if n > 0 {
			due = p.due(due)
			pieces <- piece{bytes.Clone(buffer[:n]), due}
		}
		if err != nil {
			close(pieces)
			writing.Wait()
			l.end(errors.Is(err, syscall.ECONNRESET))
			return
		}
	}
}

// due is when what was said now arrives, not before what was said earlier.
func (p *Proxy) due(earlier time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.delay
	if p.jitter > 0 {
		d += rand.N(2*p.jitter) - p.jitter
	}
	at := time.Now().Add(d)
	if at.Before(earlier) {
		return earlier
	}
	return at
}

// await lets the time come, or the connection end.
func (l *link) await(due time.Time) {
	d := time.Until(due)
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-l.ended:
	}
}

// end ends both sides, once; abruptly tells them by a reset.
func (l *link) end(abruptly bool) {
	l.once.Do(func() {
		close(l.ended)
		for _, side := range []*net.TCPConn{l.client, l.server} {
			if abruptly {
				reset(side)
			} else {
				_ = side.Close()
			}
		}
	})
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
