package work

import (
	"sync"

	"turbocat.io/services/runner/internal/redact"
)

// live is what an attempt's models write on its way to those who watch: without secrets, also those that come in two pieces. It is
// safe for concurrent use.
type live struct {
	tell func(call int, text string)
	mask *redact.Redactor // nil when there is nothing to be taken out

	mu    sync.Mutex
	calls map[int]*redact.Stream
}

func newLive(tell func(call int, text string), mask *redact.Redactor) *live {
	return &live{tell: tell, mask: mask, calls: map[int]*redact.Stream{}}
}

// write takes the next piece of a call's text.
func (l *live) write(call int, text string) {
	if l.mask == nil {
		l.tell(call, text)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	stream := l.calls[call]
	if stream == nil {
		stream = l.mask.Stream()
		l.calls[call] = stream
	}
	l.tell(call, stream.Next(text))
}

// end tells what was held back.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for call, stream := range l.calls {
		l.tell(call, stream.Rest())
	}
}
