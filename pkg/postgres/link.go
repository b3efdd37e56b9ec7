package postgres

import (
	"context"
	"net"
	"time"
)

// silence is how long a connection may take to send or receive something while a statement is
// under way: longer than statement_timeout, so that only a link that is dead is cut.
const silence = 15 * time.Second

// dialer makes connections that notice a dead link. lib/pq interrupts no read: where packets
// vanish without an answer, a caller would wait for as long as TCP does, whatever its context says.
type dialer struct {
	net.Dialer
	silence time.Duration
}

func newDialer(silence time.Duration) dialer {
	alive := net.KeepAliveConfig{Enable: true, Idle: silence, Interval: silence / 3, Count: 3}
	return dialer{net.Dialer{KeepAliveConfig: alive}, silence}
}

// Dial connects without a deadline of its own.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout connects within the timeout.
func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext connects within ctx.
func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &link{Conn: conn, silence: d.silence}, nil
}

// link fails a read or a write that takes longer than silence. Idle connections of a pool
// read nothing, so they are left alone.
type link struct {
	net.Conn
	silence  time.Duration
	deadline time.Time // that the driver has set; zero for none
}

// SetDeadline bounds reads and writes beyond the link's own bound.
func (l *link) SetDeadline(t time.Time) error {
	l.deadline = t
	return l.Conn.SetDeadline(t)
}

// Read reads; a timeout is a net.Error and leaves the connection unusable.
func (l *link) Read(b []byte) (int, error) {
	if err := l.Conn.SetReadDeadline(l.until()); err != nil {
		return 0, err
	}
	return l.Conn.Read(b)
}

// Write writes; a timeout is a net.Error and leaves the connection unusable.
func (l *link) Write(b []byte) (int, error) {
	if err := l.Conn.SetWriteDeadline(l.until()); err != nil {
		return 0, err
	}
	return l.Conn.Write(b)
}

func (l *link) until() time.Time {
	t := time.Now().Add(l.silence)
	if !l.deadline.IsZero() && l.deadline.Before(t) {
		return l.deadline
	}
	return t
}
