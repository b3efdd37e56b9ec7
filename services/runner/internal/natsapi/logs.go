package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/work"
)

const (
	flushEvery    = 100 * time.Millisecond
	maxBatchLines = 256
	maxBatchBytes = 256 << 10
	maxBuffered   = 16 << 20
	maxMessage    = 64 << 10
	// lineBytes is about what a line weighs beside its message.
	lineBytes  = 256
	finalFlush = 2 * time.Second
	// flushWait is how long an attempt waits for its lines: while NATS is away they come later.
	flushWait    = 300 * time.Millisecond
	logRetryWait = 500 * time.Millisecond
)

// Logs publishes the log lines of attempts in batches and in order. It holds a bounded amount
// while NATS is away; of what is more the oldest go, and a line says how many. It is safe for
// concurrent use.
type Logs struct {
	js   jetstream.JetStream
	log  zerolog.Logger
	wake chan struct{}
	lost prometheus.Counter

	mu      sync.Mutex
	lines   []logLine
	bytes   int
	waiting []chan struct{}    // closed once all lines so far are published
	short   map[*logSource]int // how many lines each source has lost
}

// logSource is the attempt that lines come from.
type logSource struct {
	step *work.Step
	seq  int64 // of its last line; guarded by the mutex of Logs
}

type logLine struct {
	source *logSource
	telemetry.LogLine
}

func (l logLine) size() int { return len(l.Message) + lineBytes }

// NewLogs makes a publisher that sends nothing before Run. It is measured by what it registers with r.
func NewLogs(conn *bus.Conn, log zerolog.Logger, r prometheus.Registerer) *Logs {
	return &Logs{
		js: conn.JetStream(), log: log, wake: make(chan struct{}, 1), short: map[*logSource]int{},
		lost: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "log_lines_dropped_total", Help: "Log lines of attempts that were dropped, because NATS did not take them in time or at all.",
		}),
	}
}

// Of gives where the lines of one attempt go, which never blocks, and what waits until they
// are published, for flushWait at most.
func (l *Logs) Of(step *work.Step) (executor.Logger, func(context.Context)) {
	source := &logSource{step: step}
	log := func(level, from, message string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.add(source, level, from, message)
		if len(l.lines) >= maxBatchLines || l.bytes >= maxBatchBytes {
			l.hurry()
		}
	}
	return log, func(ctx context.Context) { l.await(ctx, source) }
}

func (l *Logs) hurry() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Logs) await(ctx context.Context, source *logSource) {
	l.mu.Lock()
	if source.seq == 0 {
		l.mu.Unlock()
		return
	}
	published := make(chan struct{})
	l.waiting = append(l.waiting, published)
	l.mu.Unlock()
	l.hurry()
	timer := time.NewTimer(flushWait)
	defer timer.Stop()
	select {
	case <-published:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// add appends a line, and drops the oldest for it if need be. The caller has the mutex.
func (l *Logs) add(source *logSource, level, from, message string) {
	id, err := uuid.NewV7()
	if err != nil {
		return // no randomness: nothing else works either
	}
	source.seq++
	line := logLine{source, telemetry.LogLine{
		ID: id.String(), ExecutionID: source.step.ExecutionID, StepKey: &source.step.StepKey, Attempt: source.step.Attempt,
		Seq: source.seq, Level: level, Source: from, Message: shorten(message), Fields: json.RawMessage("{}"), CreatedAt: time.Now().UTC(),
	}}
	if source.step.Iteration > 0 {
		line.Iteration = &source.step.Iteration
	}
	l.lines = append(l.lines, line)
	l.bytes += line.size()
	for l.bytes > maxBuffered {
		oldest := l.lines[0]
		l.lines = l.lines[1:]
		l.bytes -= oldest.size()
		l.short[oldest.source]++
		l.lost.Inc()
	}
}

// Run publishes until ctx ends and then, for a short while, what is left.
func (l *Logs) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-l.wake:
		}
		if ctx.Err() == nil {
			l.flush(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalFlush)
	defer cancel()
	l.flush(last)
}

// flush publishes all lines. What it has not published when ctx ends stays.
func (l *Logs) flush(ctx context.Context) {
	l.mu.Lock()
	short := l.short
	l.short = map[*logSource]int{}
	for source, n := range short {
		l.add(source, "WARN", "engine", fmt.Sprintf("%d log lines were dropped, because they could not be stored in time", n))
	}
	lines, waiting := l.lines, l.waiting
	l.lines, l.bytes, l.waiting = nil, 0, nil
	l.mu.Unlock()
	defer func() {
		for _, published := range waiting {
			close(published)
		}
	}()

	var open [subject.Partitions][]logLine
	for _, line := range lines {
		p := subject.PartitionOf(line.ExecutionID)
		open[p] = append(open[p], line)
	}
	told := false
	for p, lines := range open {
		for len(lines) > 0 {
			batch := take(lines)
			err := l.publish(ctx, p, batch)
			if ctx.Err() != nil {
				l.putBack(open[p:], lines)
				return
			}
			if errors.Is(err, nats.ErrMaxPayload) {
				l.log.Error().Err(err).Int("lines", len(batch)).Msg("log lines dropped; raise max_payload of the NATS server")
				l.lost.Add(float64(len(batch)))
				err = nil
			}
			if err == nil {
				lines = lines[len(batch):]
				continue
			}
			if !told {
				l.log.Warn().Err(err).Msg("log lines not stored; trying again")
				told = true
			}
			select {
			case <-ctx.Done():
			case <-time.After(logRetryWait):
			}
		}
	}
}

// putBack keeps lines that were not published: those of the first partition left and of the rest.
func (l *Logs) putBack(rest [][]logLine, first []logLine) {
	rest[0] = first
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lines := range rest {
		for _, line := range lines {
			l.bytes += line.size()
		}
		l.lines = append(l.lines, lines...)
	}
}

// take gives as many lines from the front as a batch may hold, at least one.
func take(lines []logLine) []logLine {
	bytes := 0
	for i, line := range lines {
		bytes += line.size()
		if i > 0 && (i == maxBatchLines || bytes > maxBatchBytes) {
			return lines[:i]
		}
	}
	return lines
}

func (l *Logs) publish(ctx context.Context, p int, lines []logLine) error {
	batch := telemetry.LogBatch{Lines: make([]telemetry.LogLine, len(lines))}
	for i, line := range lines {
		batch.Lines[i] = line.LogLine
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return fmt.Errorf("encode log lines: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err = l.js.PublishMsg(ctx, &nats.Msg{Subject: subject.Logs(p), Data: body})
	return err
}

// shorten cuts a message to maxMessage without splitting a character.
func shorten(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	end := maxMessage
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "... (cut)"
}
