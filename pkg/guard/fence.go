package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// ErrFenced is what a request ends with that While kept from being sent.
var ErrFenced = errors.New("the request was not sent")

// While makes a context under which a request is sent only while allowed says so. It is asked at each write, after the
// connection is made: what stands between then is the system call alone. Requests over HTTP/2, which share a connection,
// are not asked.
func While(ctx context.Context, allowed func() bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if secure, ok := conn.(*tls.Conn); ok {
			if secure.ConnectionState().NegotiatedProtocol == "h2" {
				return
			}
			conn = secure.NetConn()
		}
		if f, ok := conn.(*fenced); ok {
			f.allowed.Store(&allowed)
		}
	}})
}

// fenced is a connection of one request after the other.
type fenced struct {
	net.Conn
	allowed atomic.Pointer[func() bool] // of the request that has it now; nil allows
}

func (f *fenced) Write(b []byte) (int, error) {
	if allowed := f.allowed.Load(); allowed != nil && !(*allowed)() {
		return 0, ErrFenced
	}
	return f.Conn.Write(b)
}
