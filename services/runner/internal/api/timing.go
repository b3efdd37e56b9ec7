package api

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"
)

// timing is where the time of a call goes, redirects included. What a kept connection spares is 0.
type timing struct {
	began time.Time // of the first call of the attempt

	mu                            sync.Mutex // addresses may be tried side by side
	sent                          time.Time
	dnsBegan, dialBegan, tlsBegan time.Time
	dns, dial, tls, firstByte     time.Duration
}

// watch begins anew with a call, and gives the context to make it in.
func (t *timing) watch(ctx context.Context) context.Context {
	t.mu.Lock()
	t.sent, t.dns, t.dial, t.tls, t.firstByte = time.Now(), 0, 0, 0, 0
	t.mu.Unlock()
	begin := func(at *time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		*at = time.Now()
	}
	end := func(since *time.Time, total *time.Duration) {
		t.mu.Lock()
		defer t.mu.Unlock()
		*total += time.Since(*since)
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { begin(&t.dnsBegan) },
		DNSDone:      func(httptrace.DNSDoneInfo) { end(&t.dnsBegan, &t.dns) },
		ConnectStart: func(_, _ string) { begin(&t.dialBegan) },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				end(&t.dialBegan, &t.dial)
			}
		},
		TLSHandshakeStart: func() { begin(&t.tlsBegan) },
		TLSHandshakeDone:  func(tls.ConnectionState, error) { end(&t.tlsBegan, &t.tls) },
		GotFirstResponseByte: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.firstByte = time.Since(t.sent)
		},
	})
}

// appendJSON appends it, in milliseconds: the last call's, and totalMs, which has all calls of the attempt until now.
func (t *timing) appendJSON(out []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, part := range []struct {
		name string
		took time.Duration
	}{{"dnsMs", t.dns}, {"connectMs", t.dial}, {"tlsMs", t.tls}, {"firstByteMs", t.firstByte}, {"totalMs", time.Since(t.began)}} {
		out = append(out, "{,"[min(i, 1)])
		out = append(out, `"`+part.name+`":`...)
		out = strconv.AppendFloat(out, float64(part.took.Microseconds())/1000, 'f', -1, 64)
	}
	return append(out, '}')
}
