package natsapi

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/work"
)

const (
	// tokensEvery is for how long pieces are gathered, and maxTokensBatch how many bytes of them a message has.
	tokensEvery    = 50 * time.Millisecond
	maxTokensBatch = 32 << 10
	// maxTokensHeld bounds what waits to be sent.
	maxTokensHeld = 4 << 20
	// maxTokensOf bounds what is told of one attempt, so that no model, nor who says to be one, drives out the others.
	maxTokensOf = 1 << 20
	// tokenBytes is about what a piece weighs beside its text.
	tokenBytes = 256
)

// Tokens tells what models write while they write it. What NATS does not take at once is dropped: the result of a step has all of
// it, and no attempt waits for this. It is safe for concurrent use.
type Tokens struct {
	nc      *nats.Conn
	wake    chan struct{}
	full    chan struct{}
	dropped prometheus.Counter

	mu     sync.Mutex
	pieces []runner.Token
	bytes  int

	sending sync.Mutex // held from when pieces are taken until they are sent: they go in order
}

// NewTokens makes a publisher that sends little before Run. It is measured by what it registers with r.
func NewTokens(conn *bus.Conn, r prometheus.Registerer) *Tokens {
	return &Tokens{
		nc: conn.NATS(), wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		dropped: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "live_text_dropped_bytes_total", Help: "What models wrote and nobody could watch, because NATS was away or there was too much.",
		}),
	}
}

// Of gives where the text of one attempt's calls goes, which never blocks, and what sends it at once.
func (t *Tokens) Of(step *work.Step) (write func(call int, text string), flush func()) {
	told := 0                // of all calls
	offsets := map[int]int{} // by call
	piece := runner.Token{ExecutionID: step.ExecutionID, StepKey: step.StepKey, Iteration: step.Iteration, Attempt: step.Attempt}
	write = func(call int, text string) {
		text = strings.ToValidUTF8(text, "\uFFFD")
		t.mu.Lock()
		defer t.mu.Unlock()
		for text != "" {
			next := piece
			next.Call, next.Offset = call, offsets[call]
			next.Text, text = cutText(text, maxTokensBatch)
			offsets[call] += len(next.Text)
			if told+len(next.Text) > maxTokensOf || t.bytes+len(next.Text) > maxTokensHeld {
				t.dropped.Add(float64(len(next.Text)))
				continue
			}
			told += len(next.Text)
			t.add(next)
		}
	}
	return write, func() {
		t.mu.Lock()
		some := told > 0
		t.mu.Unlock()
		if some {
			t.flush()
		}
	}
}

// add appends a piece, to the last one if it goes on there. The caller has the mutex.
func (t *Tokens) add(next runner.Token) {
	if len(t.pieces) == 0 {
		signal(t.wake)
	}
	if n := len(t.pieces); n > 0 {
		last := &t.pieces[n-1]
		joined := *last
		joined.Offset, joined.Text = next.Offset, next.Text
		if joined == next && last.Offset+len(last.Text) == next.Offset && len(last.Text)+len(next.Text) <= maxTokensBatch {
			last.Text += next.Text
			t.bytes += len(next.Text)
			return
		}
	}
	t.pieces = append(t.pieces, next)
	if t.bytes += len(next.Text) + tokenBytes; t.bytes >= maxTokensBatch {
		signal(t.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run sends what was told until ctx ends.
func (t *Tokens) Run(ctx context.Context) {
	timer := time.NewTimer(tokensEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		timer.Reset(tokensEvery)
		select {
		case <-ctx.Done():
			return
		case <-t.full:
		case <-timer.C:
		}
		t.flush()
	}
}

// flush sends what was told so far. While NATS is away it is dropped: it would take the place of what has to be kept.
func (t *Tokens) flush() {
	t.sending.Lock()
	defer t.sending.Unlock()
	t.mu.Lock()
	pieces := t.pieces
	t.pieces, t.bytes = nil, 0
	t.mu.Unlock()
	var open [subject.Partitions][]runner.Token
	for _, piece := range pieces {
		p := subject.PartitionOf(piece.ExecutionID)
		open[p] = append(open[p], piece)
	}
	for p, pieces := range open {
		for len(pieces) > 0 {
			var batch []runner.Token
			batch, pieces = cutPieces(pieces)
			body, err := json.Marshal(runner.TokenBatch{Tokens: batch})
			if err == nil && t.nc.IsConnected() && t.nc.Publish(subject.Tokens(p), body) == nil {
				continue
			}
			for _, piece := range batch {
				t.dropped.Add(float64(len(piece.Text)))
			}
		}
	}
}

// cutPieces gives as many pieces from the front as a message may hold, at least one, and the others.
func cutPieces(pieces []runner.Token) (batch, rest []runner.Token) {
	bytes := 0
	for i, piece := range pieces {
		bytes += len(piece.Text) + tokenBytes
		if i > 0 && bytes > maxTokensBatch {
			return pieces[:i], pieces[i:]
		}
	}
	return pieces, nil
}

// cutText gives as much of a text as has n bytes at most, without splitting a character, and what is left.
func cutText(s string, n int) (head, rest string) {
	if len(s) <= n {
		return s, ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], s[n:]
}
