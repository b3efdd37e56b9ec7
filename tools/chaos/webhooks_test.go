//go:build unix

package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/tools/internal/load"
)

// wanted is what an event says of itself.
type wanted struct {
	ID, Subject string
	Time        time.Time
}

// target is where a webhook leads to. Until it is mended it answers as it likes.
type target struct {
	name  string
	fails func(w http.ResponseWriter)

	mu     sync.Mutex
	mended bool
	under  int                 // requests under way
	most   int                 // that were under way at once
	asked  []time.Time         // while it failed
	after  []int               // how many were under way when each request after it was mended came
	seen   map[string]bool     // events, by their ids
	told   map[string][]string // by execution, each event once, in the order in which it came first
	late   []time.Duration     // of the events that it had at once
}

// ServeHTTP implements http.Handler.
func (g *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var e wanted
	_ = json.Unmarshal(body, &e)
	g.mu.Lock()
	g.under++
	g.most = max(g.most, g.under)
	fails := g.fails != nil && !g.mended
	if fails {
		g.asked = append(g.asked, time.Now())
	} else if g.fails != nil {
		g.after = append(g.after, g.under)
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.under--
		g.mu.Unlock()
	}()
	if fails {
		g.fails(w)
		return
	}
	g.mu.Lock()
	if !g.seen[e.ID] {
		g.seen[e.ID], g.told[e.Subject] = true, append(g.told[e.Subject], e.ID)
		g.late = append(g.late, time.Since(e.Time))
	}
	g.mu.Unlock()
}

func (g *target) requests() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.asked)
}

// reset breaks a connection as a process does that dies.
func reset(w http.ResponseWriter) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// TestR27BrokenWebhookTargets has webhooks to targets that hang, answer 500 or 429, or break off, beside one that works, and telemetry killed
// while they do. The one that works has its events in time; the others are asked ever less, and when they are mended they have each event in
// its order, the first ones one by one.
func TestR27BrokenWebhookTargets(t *testing.T) {
	const parallel = 8 // requests to one webhook at once
	c := newCheck(t, "R27", 2, 1)
	over := make(chan struct{})
	targets := []*target{
		{name: "works"},
		{name: "hangs", fails: func(http.ResponseWriter) { <-over }},
		{name: "500", fails: func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }},
		{name: "429", fails: func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}},
		{name: "resets", fails: reset},
	}
	l := c.start(load.Diamond(c.bookURL), 0)
	owner := c.enter("login", map[string]any{"email": l.Email()})
	hooks := make([]string, len(targets))
	for i, g := range targets {
		g.seen, g.told = map[string]bool{}, map[string][]string{}
		server := httptest.NewServer(g)
		t.Cleanup(server.Close)
		hooks[i] = fmt.Sprint(c.must(owner.caller, "POST", "/webhooks", map[string]any{"url": server.URL}).Data["id"])
	}
	release := sync.OnceFunc(func() { close(over) })
	t.Cleanup(release)

	begin := time.Now()
	for range 10 { // 3,000 events in full size
		c.submit(l, size(2, 12))
		c.wait(size(2*time.Second, 6*time.Second))
	}
	works := targets[0]
	works.mu.Lock()
	late := slices.Sorted(slices.Values(works.late))
	works.mu.Unlock()
	if len(late) == 0 {
		t.Fatal("the target that works has nothing")
	}
	p95 := late[len(late)*95/100]
	if p95 > bound(2*time.Second) {
		t.Errorf("the target that works has its events after %s (p95)", p95)
	}
	c.number("%d events, after %d ms (p95) at the target that works", len(late), p95.Milliseconds())
	for _, g := range targets[1:] {
		// Five fail, and then one after 5 s, 10, 20 and so on: what is under way besides is at most one for each.
		lasted := time.Since(begin)
		if n := g.requests(); n < 2 || n > 5+parallel+int(lasted/(4*time.Second)) {
			t.Errorf("the target that %s was asked %d times in %s", g.name, n, lasted)
		}
		c.number("%s: asked %d times in %.0f s, %d at once", g.name, g.requests(), lasted.Seconds(), g.most)
	}
	c.fault("kill -9 of telemetry", func() {
		p := c.of(telemetry)[0]
		p.kill()
		p.start()
	})
	c.awaitReady(readyWithin)
	for _, g := range targets {
		g.mu.Lock()
		g.mended = true
		g.mu.Unlock()
	}
	release()
	mended := time.Now()
	c.end(l)
	c.settle(calmWithin)

	c.eventually(2*time.Minute, func() error {
		for i, id := range hooks {
			if left := selected[int](c.laboratory, telemetry, `SELECT pending FROM webhooks w WHERE id = '`+id+`' AND cursor = (SELECT seq FROM feed_ends f WHERE f.user_id = w.user_id)`); len(left) == 0 || left[0] > 0 {
				return fmt.Errorf("%v deliveries wait for the target that %s", left, targets[i].name)
			}
		}
		return nil
	})
	c.number("all is delivered %.0f s after they were mended", time.Since(mended).Seconds())
	for _, g := range targets {
		want := map[string][]string{}
		for _, batch := range selected[[]byte](c.laboratory, telemetry, `SELECT events FROM feed WHERE user_id = '`+owner.id+`' ORDER BY seq`) {
			bodies, err := event.Split(batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range bodies {
				var e wanted
				if err := json.Unmarshal(body, &e); err != nil {
					t.Fatal(err)
				}
				want[e.Subject] = append(want[e.Subject], e.ID)
			}
		}
		g.mu.Lock()
		for x, ids := range want {
			if !slices.Equal(g.told[x], ids) {
				t.Errorf("the target that %s was told %v of %s, want %v", g.name, g.told[x], x, ids)
			}
		}
		if g.most > parallel+1 { // one that a killed process had made may be under way still
			t.Errorf("the target that %s was asked %d times at once", g.name, g.most)
		}
		// The first after it was mended come one by one.
		for k, n := range g.after[:min(len(g.after), 3)] {
			if n > k+2 {
				t.Errorf("the target that %s had %d requests at once when the %d. came after it was mended", g.name, n, k+1)
			}
		}
		c.number("%s: %d events of %d executions, %d at once", g.name, len(g.seen), len(want), g.most)
		g.mu.Unlock()
	}
	c.finish()
}
