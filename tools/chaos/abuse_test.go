//go:build unix

package chaos

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	slowClients = 500 // half of them with their headers, half with their bodies
	// slowReaders ask for more than the buffers between take, readerAsks times the OpenAPI document each, and read none of it.
	slowReaders, readerAsks = 100, 50
	// readersWithin is how long they are borne with: the gateway's minute for an answer, and what it takes until all are seen to be cut off.
	readersWithin = 90 * time.Second
	// abusesPerSecond come while it is measured how long others wait. Who sends as fast as he is refused has the processors
	// of this machine for himself, which he shares with what he abuses, and would be all that is measured.
	abusesPerSecond = 50
	// othersWithin is how long anybody else waits for an answer at most while the gateway is abused.
	othersWithin = 3 * time.Second
	// mostGrown is what the abuse may add to the memory of the gateway.
	mostGrown = 256 << 20
)

// abuse is a request that is refused with one of a few statuses.
type abuse struct {
	what     string
	request  string // as it is sent
	statuses string
}

// abuses are requests that cost more to send than they should to refuse.
func abuses(t *testing.T, token string) []abuse {
	t.Helper()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	request := func(method, path, headers, body string) string {
		return fmt.Sprintf("%s /api/v1%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\n%sContent-Length: %d\r\n\r\n%s", method, path, token, headers, len(body), body)
	}
	const isJSON, injection = "Content-Type: application/json\r\n", "%27%3B%20DROP%20TABLE%20users%3B--"
	parts := strings.Repeat("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n", 10_000) + "--b--\r\n"
	deep := strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000)
	list := []abuse{
		{"5 MiB", request("POST", "/agents", isJSON, `{"name":"`+strings.Repeat("x", 5<<20)+`"}`), "413"},
		{"5 MiB of YAML", request("POST", "/workflows/import", "Content-Type: application/yaml\r\n", "name: "+strings.Repeat("x", 5<<20)), "413"},
		{"100,000 levels", request("POST", "/agents", isJSON, `{"name":"x","config":`+deep+`}`), "400"},
		{"100,000 levels of YAML", request("POST", "/workflows/import", "Content-Type: application/yaml\r\n", "name: "+deep), "400"},
		{"aliases of aliases in YAML", request("POST", "/workflows/import", "Content-Type: application/yaml\r\n", laughs()), "400"},
		{"a gzip bomb", request("POST", "/agents", isJSON+"Content-Encoding: gzip\r\n", bomb.String()), "415"},
		{"a gzip bomb of YAML", request("POST", "/workflows/import", "Content-Type: application/yaml\r\nContent-Encoding: gzip\r\n", bomb.String()), "415"},
		{"a gzip bomb that is not named", request("POST", "/agents", isJSON, bomb.String()), "400"},
		{"10,000 parts of a form", request("POST", "/agents", "Content-Type: multipart/form-data; boundary=b\r\n", parts), "415"},
		{"10,000 parameters", request("GET", "/agents?"+strings.Repeat("a&", 10_000), "", ""), "431"},
		{"5,000 parameters", request("GET", "/agents?"+strings.Repeat("a&", 5_000), "", ""), "200 400"},
		{"10,000 headers", request("GET", "/agents", strings.Repeat("A: b\r\n", 10_000), ""), "431"},
		{"a header of 64 KiB", request("GET", "/agents", "X-Large: "+strings.Repeat("x", 64<<10)+"\r\n", ""), "431"},
	}
	for _, path := range []string{"/agents", "/workflows", "/executions", "/templates", "/api-keys", "/secrets"} {
		list = append(list,
			abuse{"SQL in sortBy of " + path, request("GET", path+"?sortBy=createdAt"+injection, "", ""), "400"},
			abuse{"SQL in sortOrder of " + path, request("GET", path+"?sortOrder=desc"+injection, "", ""), "400"},
			abuse{"SQL in search of " + path, request("GET", path+"?search=%25%27"+injection, "", ""), "200 400"},
			abuse{"SQL in cursor of " + path, request("GET", path+"?cursor=%27"+injection, "", ""), "400"})
	}
	return list
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// laughs is a document that names what names what: 10 to the 9th texts.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

// raw sends bytes over a connection of its own, a few at a time when it is slow, and gives what is answered; 0 when the connection ends without an answer.
func raw(ctx context.Context, door, request string, every time.Duration) (status int, body string, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(door, "http://"))
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() { // while it is read, for the server answers what it has not read to the end
		if every == 0 {
			_, _ = io.WriteString(conn, request)
			return
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range len(request) {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := io.WriteString(conn, request[i:i+1]); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", nil //nolint:nilerr // what ends without an answer is told by its status
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// unread asks for answers that it does not read, and tells whether the connection was ended before ctx was.
func unread(ctx context.Context, door string) (bool, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(door, "http://"))
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, strings.Repeat("GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", readerAsks)); err != nil {
		return false, err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case <-tick.C:
		}
		if _, err := io.WriteString(conn, "\n"); err != nil { // who does not read learns the end by writing
			return true, nil
		}
	}
}

// isEnvelope tells whether an answer has the form of all.
func isEnvelope(body string) bool {
	var e struct {
		Success   *bool
		RequestID string `json:"requestId"`
	}
	return json.Unmarshal([]byte(body), &e) == nil && e.Success != nil && e.RequestID != ""
}

// latencies asks for something small, one after the other, and gives how long the answers took, the shortest first.
func (c *check) latencies(who caller, times int) []time.Duration {
	c.t.Helper()
	took := make([]time.Duration, times)
	for i := range took {
		began := time.Now()
		c.must(who, "GET", "/users/me", nil)
		if took[i] = time.Since(began); took[i] > bound(othersWithin) {
			c.t.Errorf("somebody else waits %s for an answer", took[i])
		}
	}
	slices.Sort(took)
	return took
}

// TestS10Abuse sends the gateway what is too large, too deep, too many and too slow. All of it is refused as documented, others are answered
// meanwhile, and nothing of it stays.
func TestS10Abuse(t *testing.T) {
	c := drawCheck(t, "S10")
	c.laboratory = newLaboratory(t, 1, 1, false)
	user := c.register()
	door := c.of(gateway)[0]
	list := abuses(t, user.secret)
	try := func(ctx context.Context, a abuse) {
		status, body, err := raw(ctx, c.door, a.request, 0)
		if ctx.Err() != nil {
			return
		}
		if err != nil || !strings.Contains(a.statuses, fmt.Sprint(status)) || !isEnvelope(body) {
			t.Errorf("%s: answered %d, want %s: %.200s, %v", a.what, status, a.statuses, body, err)
		}
	}
	for _, a := range list { // each is refused, whoever else there is
		try(t.Context(), a)
	}
	const samples = 400
	c.latencies(user.caller, samples/4) // it warms up
	idle, quiet := door.figures(t.Context()), c.latencies(user.caller, samples)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var abusing sync.WaitGroup
	var sent, cut, told, unreadEnded atomic.Int64
	for i := range slowClients {
		abusing.Go(func() {
			request := "GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: " + strings.Repeat("x", 1000)
			if i%2 == 0 {
				request = "\r\n" + strings.Repeat(" ", 1000)
			}
			head := ""
			if i%2 == 0 {
				head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
			}
			status, body, _ := raw(ctx, c.door, head+request, 200*time.Millisecond)
			switch {
			case ctx.Err() != nil:
				t.Error("a slow client is still served when all is over")
			case status == 0:
				cut.Add(1)
			case (status == http.StatusBadRequest || status == http.StatusRequestTimeout) && isEnvelope(body):
				told.Add(1)
			default:
				t.Errorf("a slow client is answered %d: %.200s", status, body)
			}
		})
	}
	for range size(0, slowReaders) { // a minute is too long for the small size
		abusing.Go(func() {
			ended, err := unread(ctx, c.door)
			if err != nil || !ended {
				t.Errorf("a client that does not read is still served when all is over, %v", err)
				return
			}
			unreadEnded.Add(1)
		})
	}
	busy := make(chan struct{})
	const workers = 2
	for worker := range workers {
		abusing.Go(func() {
			due := time.NewTicker(workers * time.Second / abusesPerSecond)
			defer due.Stop()
			for i := worker; ; i += workers {
				select {
				case <-busy:
					return
				case <-due.C:
					try(ctx, list[i%len(list)])
					sent.Add(1)
				}
			}
		})
	}
	abused := c.latencies(user.caller, samples)
	most := door.figures(t.Context())
	close(busy)
	timeout := time.AfterFunc(size(bound(30*time.Second), readersWithin), stop)
	defer timeout.Stop()
	abusing.Wait()

	p95 := func(sorted []time.Duration) float64 {
		return float64(sorted[len(sorted)*95/100].Microseconds()) / 1000
	}
	before, during := p95(quiet), p95(abused)
	c.number("others' p95 %.1f ms, %.1f ms while %d slow clients and %d bad requests came; gateway %d MiB, then %d", before, during, slowClients, sent.Load(), idle.Resident>>20, most.Resident>>20)
	c.say("%d slow clients were told, %d cut off, and %d that did not read", told.Load(), cut.Load(), unreadEnded.Load())
	if full && during > max(2*before, before+20) {
		t.Errorf("others' p95 is %.1f ms instead of %.1f ms", during, before)
	}
	if most.Resident-idle.Resident > mostGrown {
		t.Errorf("the gateway grew by %d MiB", (most.Resident-idle.Resident)>>20)
	}
	c.eventually(bound(calmWithin), func() error {
		if now := door.figures(t.Context()); now.Descriptors > idle.Descriptors+20 || now.Goroutines > idle.Goroutines+50 {
			return fmt.Errorf("the gateway has %d descriptors and %d goroutines, and had %d and %d", now.Descriptors, now.Goroutines, idle.Descriptors, idle.Goroutines)
		}
		return nil
	})
	c.recorded = true
}
