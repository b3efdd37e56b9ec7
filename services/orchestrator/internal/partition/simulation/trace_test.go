package simulation

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// trace keeps what happens in a world, with its time there.
type trace struct {
	mu    sync.Mutex
	start time.Time
	lines []line
}

type line struct {
	at   time.Duration
	text func() string // what is not read is not formatted
}

func newTrace() *trace { return &trace{start: time.Now()} }

func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line{time.Since(t.start), func() string { return fmt.Sprintf(format, args...) }})
}

// text gives the lines that hold one of the words, or all; at most the last n.
func (t *trace) text(n int, words ...string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, l := range t.lines {
		text := l.text()
		if len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) }) {
			out = append(out, fmt.Sprintf("%16.9f %s", l.at.Seconds(), text))
		}
	}
	// What happens at the same moment has no order.
	slices.Sort(out)
	if len(out) > n {
		out = append([]string{fmt.Sprintf("(%d lines before)", len(out)-n)}, out[len(out)-n:]...)
	}
	return strings.Join(out, "\n")
}
