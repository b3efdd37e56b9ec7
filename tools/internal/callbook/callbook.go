// Package callbook is the outside world that the API steps of test workflows change: an HTTP server that
// writes down every call.
//
// A step calls POST /<execution>/<step>, an item of it POST /<execution>/<step>/<item>, with its attempt's headers. The
// answer is the body, as JSON.
package callbook

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody bounds what a call may send.
const maxBody = 1 << 20

// Call is one call that came in.
type Call struct {
	Execution, Step string // of an item with its name: step/item
	Key             string // Idempotency-Key
	Attempt         int    // X-Turbocat-Attempt; 0 when there was none
	Began           time.Time
	Ended           time.Time // zero while it is answered
}

// Book is the server. It is safe for concurrent use.
type Book struct {
	mu      sync.Mutex
	calls   []Call
	changed chan struct{} // closed and replaced with every call that comes in
}

// New makes an empty book.
func New() *Book { return &Book{changed: make(chan struct{})} }

// ServeHTTP writes the call down, then answers it with its body. The query's delayMs is how long the answer takes;
// a caller that goes away ends it. So many attempts as the query's refuse says are answered 503.
func (b *Book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	execution, step, ok := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	if !ok {
		http.Error(w, "call POST /<execution>/<step>", http.StatusNotFound)
		return
	}
	attempt, _ := strconv.Atoi(r.Header.Get("X-Turbocat-Attempt"))
	delayMs, _ := strconv.Atoi(r.URL.Query().Get("delayMs"))
	refuse, _ := strconv.Atoi(r.URL.Query().Get("refuse"))
	n := b.begin(Call{Execution: execution, Step: step, Key: r.Header.Get("Idempotency-Key"), Attempt: attempt, Began: time.Now()})
	defer b.end(n)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil || !json.Valid(body) {
		http.Error(w, "the body is no JSON", http.StatusBadRequest)
		return
	}
	if delayMs > 0 {
		pause := time.NewTimer(time.Duration(delayMs) * time.Millisecond)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	}
	if refuse > 0 && attempt <= refuse {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func (b *Book) begin(c Call) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, c)
	close(b.changed)
	b.changed = make(chan struct{})
	return len(b.calls) - 1
}

func (b *Book) end(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[n].Ended = time.Now()
}

// Calls gives what came in so far, in its order.
func (b *Book) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// Changed is closed when another call has come in.
func (b *Book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}
