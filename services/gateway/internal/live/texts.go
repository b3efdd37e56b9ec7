package live

import (
	"container/list"
	"context"
	"sync"
	"time"

	"turbocat.io/contracts/runner"
)

const (
	// maxTexts bounds what is remembered of what models write; the executions that were silent for longest go.
	maxTexts = 64 << 20
	// maxCalls bounds how many calls of an execution are remembered; the first ones go.
	maxCalls = 1000
	// pieceBytes is what a piece takes beside its text.
	pieceBytes = 256
	// forgetEvery is how often it is looked whether something is too old.
	forgetEvery = 30 * time.Second
)

// call names a call of a model within an execution.
type call struct {
	stepKey                    string
	iteration, attempt, number int
}

// piece is a part of a call's text that nothing is missing in.
type piece struct {
	offset int
	text   []byte
}

func (p piece) end() int { return p.offset + len(p.text) }

// text is what is known of a call's.
type text struct {
	call
	pieces []piece // ascending; where one does not begin at the end of the one before, something is missing
}

// cut forgets what stands at an offset and behind it.
func (t *text) cut(offset int) {
	for n := len(t.pieces); n > 0 && t.pieces[n-1].end() > offset; n-- {
		last := &t.pieces[n-1]
		if last.offset < offset {
			last.text = last.text[:offset-last.offset]
			return
		}
		t.pieces = t.pieces[:n-1]
	}
}

func (t *text) bytes() (n int) {
	for _, p := range t.pieces {
		n += len(p.text) + pieceBytes
	}
	return n
}

// written is what the models write in an execution.
type written struct {
	executionID string
	texts       []*text // in the order in which they were begun
	calls       map[call]*text
	bytes       int
	at          time.Time // of the last piece
}

// follower reads what models write in an execution. given is how far it has read, and guarded by the mutex of texts.
type follower struct {
	executionID string
	news        chan struct{}
	given       map[call]int
}

func (f *follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// texts remembers what models have written of late, so that who comes later has it from its beginning. It is safe for
// concurrent use.
type texts struct {
	mu        sync.Mutex
	known     map[string]*list.Element // by execution
	silent    *list.List               // of *written; the one that was silent for longest is in front
	bytes     int
	followers map[string]map[*follower]struct{}
}

func newTexts() *texts {
	return &texts{known: map[string]*list.Element{}, silent: list.New(), followers: map[string]map[*follower]struct{}{}}
}

// add takes a piece in.
func (t *texts) add(token runner.Token, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	element := t.known[token.ExecutionID]
	if element == nil {
		element = t.silent.PushBack(&written{executionID: token.ExecutionID, calls: map[call]*text{}})
		t.known[token.ExecutionID] = element
	}
	t.silent.MoveToBack(element)
	w := element.Value.(*written)
	key := callOf(token)
	t.bytes -= w.bytes
	w.add(key, token)
	w.at = now
	for f := range t.followers[token.ExecutionID] {
		if f.given[key] > token.Offset { // it is written anew from there on
			f.given[key] = token.Offset
		}
		f.wake()
	}
	if len(w.texts) > maxCalls {
		first := w.texts[0]
		w.texts, w.bytes = w.texts[1:], w.bytes-first.bytes()
		delete(w.calls, first.call)
		for f := range t.followers[token.ExecutionID] {
			delete(f.given, first.call)
		}
	}
	t.bytes += w.bytes
	t.forget(now)
}

func (w *written) add(key call, token runner.Token) {
	of := w.calls[key]
	if of == nil {
		of = &text{call: key}
		w.calls[key] = of
		w.texts = append(w.texts, of)
	}
	before := of.bytes()
	of.cut(token.Offset)
	if n := len(of.pieces); n > 0 && of.pieces[n-1].end() == token.Offset {
		of.pieces[n-1].text = append(of.pieces[n-1].text, token.Text...)
	} else {
		of.pieces = append(of.pieces, piece{token.Offset, []byte(token.Text)})
	}
	w.bytes += of.bytes() - before
}

// forget lets go of what is too old, and too much. The caller has the mutex.
func (t *texts) forget(now time.Time) {
	for front := t.silent.Front(); front != nil; front = t.silent.Front() {
		w := front.Value.(*written)
		if t.bytes <= maxTexts && now.Sub(w.at) <= runner.TokensKept {
			return
		}
		t.silent.Remove(front)
		delete(t.known, w.executionID)
		t.bytes -= w.bytes
	}
}

// run lets go of what is too old until ctx ends.
func (t *texts) run(ctx context.Context) {
	ticker := time.NewTicker(forgetEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.mu.Lock()
			t.forget(now)
			t.mu.Unlock()
		}
	}
}

// follow begins to read what is written in an execution, from the beginning of what is known.
func (t *texts) follow(executionID string) *follower {
	f := &follower{executionID: executionID, news: make(chan struct{}, 1), given: map[call]int{}}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.followers[executionID] == nil {
		t.followers[executionID] = map[*follower]struct{}{}
	}
	t.followers[executionID][f] = struct{}{}
	if t.known[executionID] != nil {
		f.wake()
	}
	return f
}

// leave ends what follow has begun. It is safe to repeat.
func (t *texts) leave(f *follower) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.followers[f.executionID], f)
	if len(t.followers[f.executionID]) == 0 {
		delete(t.followers, f.executionID)
	}
}

// unread gives what a follower has not had yet, what belongs together as one.
func (t *texts) unread(f *follower) (tokens []runner.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	element := t.known[f.executionID]
	if element == nil {
		return nil
	}
	for _, of := range element.Value.(*written).texts {
		for _, p := range of.pieces {
			from := max(p.offset, f.given[of.call])
			if from >= p.end() {
				continue
			}
			tokens = append(tokens, runner.Token{
				ExecutionID: f.executionID, StepKey: of.stepKey, Iteration: of.iteration, Attempt: of.attempt, Call: of.number,
				Offset: from, Text: string(p.text[from-p.offset:]),
			})
			f.given[of.call] = p.end()
		}
	}
	return tokens
}

func callOf(t runner.Token) call { return call{t.StepKey, t.Iteration, t.Attempt, t.Call} }
