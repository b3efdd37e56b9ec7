package httpapi_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus/bustest"
)

// tokens makes the stream of what models write.
func (w *world) tokens() jetstream.Stream {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	s, err := w.bus.JetStream().CreateStream(ctx, jetstream.StreamConfig{Name: subject.TokensStream, Subjects: []string{subject.TokensAll}, Storage: jetstream.MemoryStorage})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// write tells pieces of the text of a call in the one execution.
func (w *world) write(tokens ...runner.Token) {
	w.t.Helper()
	for i := range tokens {
		if tokens[i].ExecutionID == "" {
			tokens[i].ExecutionID = thingID
		}
	}
	body, err := json.Marshal(runner.TokenBatch{Tokens: tokens})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := w.bus.JetStream().Publish(ctx, subject.Tokens(4), body); err != nil {
		w.t.Fatal(err)
	}
}

// text reads tokens until a call's text, put together as the document says, is this, and gives how many there were.
func (s *sse) text(call int, want string) (n int) {
	s.t.Helper()
	text, isToken := "", false
	for text != want {
		line, open := s.line()
		switch {
		case !open:
			s.t.Fatalf("the stream ended at %q, want %q", text, want)
		case strings.HasPrefix(line, "event: "):
			isToken = line == "event: token"
		case strings.HasPrefix(line, "id: "):
			isToken = false
		case isToken && strings.HasPrefix(line, "data: "):
			var token runner.Token
			if err := json.Unmarshal([]byte(line[len("data: "):]), &token); err != nil || token.ExecutionID != thingID {
				s.t.Fatalf("%s: %v", line, err)
			}
			if token.Call != call {
				continue
			}
			n++
			if token.Offset > len(text) {
				s.t.Fatalf("%s is told behind %q", line, text)
			}
			text = text[:token.Offset] + token.Text
		}
	}
	return n
}

func TestLiveTextIsJoinedFromItsBeginning(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.tokens()
	w.happen(1, orchestrator.EventStepStarted, false)
	w.write(runner.Token{StepKey: "a", Attempt: 1, Call: 1, Text: "Once "}, runner.Token{ExecutionID: "another", Call: 1, Text: "no"})
	early := w.follow("", nil)
	early.text(1, "Once ")
	w.write(runner.Token{StepKey: "a", Attempt: 1, Call: 1, Offset: 5, Text: "upon "})
	w.write(runner.Token{StepKey: "a", Attempt: 1, Call: 2, Text: "A second"})
	if n := early.text(2, "A second"); n != 1 {
		t.Errorf("it came in %d pieces", n)
	}
	late := w.follow("?lastEventId=1", nil)
	if n := late.text(1, "Once upon "); n != 1 {
		t.Errorf("what was there already came in %d pieces", n)
	}
	late.text(2, "A second")
	w.write(runner.Token{StepKey: "a", Attempt: 1, Call: 1, Offset: 10, Text: "a time"})
	for _, s := range []*sse{late, w.follow("", nil)} {
		if s == late {
			if got := s.token(); got.Offset != 10 || got.Text != "a time" {
				t.Errorf("told %+v", got)
			}
			continue
		}
		s.text(1, "Once upon a time")
	}

	// The last piece comes before the end, and with the end it is over.
	w.write(runner.Token{StepKey: "a", Attempt: 1, Call: 3, Text: "."})
	late.text(3, ".")
	w.happen(2, orchestrator.EventCompleted, false)
	late.expect("2", "")
}

// token gives the next token.
func (s *sse) token() (token runner.Token) {
	s.t.Helper()
	for {
		line, open := s.line()
		if !open {
			s.t.Fatal("the stream ended")
		}
		if line != "event: token" {
			continue
		}
		data, _ := s.line()
		if err := json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), &token); err != nil {
			s.t.Fatalf("%s: %v", data, err)
		}
		return token
	}
}

// TestLiveTextSurvivesTheGateway asks a second gateway, which was started after the text was written.
func TestLiveTextSurvivesTheGateway(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.tokens()
	w.happen(1, orchestrator.EventStepStarted, false)
	w.write(runner.Token{StepKey: "a", Call: 1, Text: "before "})
	w.follow("", nil).text(1, "before ")
	another := start(t, setup{conn: bustest.Connect(t, w.bus.NATS().ConnectedUrl())})
	another.events = w.events
	s := another.follow("?lastEventId=1", nil)
	s.text(1, "before ")
	w.write(runner.Token{StepKey: "a", Call: 1, Offset: 7, Text: "and after"})
	if got := s.token(); got.Offset != 7 || got.Text != "and after" {
		t.Errorf("told %+v", got)
	}
}

// TestLiveTextThatBeginsAnew has an attempt run again by another runner after the first was lost.
func TestLiveTextThatBeginsAnew(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.tokens()
	w.happen(1, orchestrator.EventStepStarted, false)
	s := w.follow("", nil)
	w.write(runner.Token{StepKey: "a", Call: 1, Text: "Hello, wor"})
	s.text(1, "Hello, wor")
	w.write(runner.Token{StepKey: "a", Call: 1, Text: "Hi, "})
	w.write(runner.Token{StepKey: "a", Call: 1, Offset: 4, Text: "you"})
	s.text(1, "Hi, you")
	w.follow("", nil).text(1, "Hi, you")
}

// TestLiveTextWithoutItsStream deletes the stream: what was read of it stays, and what comes later is told with its place.
func TestLiveTextWithoutItsStream(t *testing.T) {
	w := start(t, setup{})
	w.stream()
	w.happen(1, orchestrator.EventStepStarted, false)
	s := w.follow("", nil)
	s.expect("1") // there is no stream of text yet
	w.tokens()
	w.write(runner.Token{StepKey: "a", Call: 1, Text: "kept"})
	s.text(1, "kept")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.bus.JetStream().DeleteStream(ctx, subject.TokensStream); err != nil {
		t.Fatal(err)
	}
	w.tokens()
	w.write(runner.Token{StepKey: "a", Call: 1, Offset: 9, Text: "later"}) // five bytes are lost
	if got := s.token(); got.Offset != 9 || got.Text != "later" {
		t.Errorf("told %+v", got)
	}
	again := w.follow("", nil)
	if first, second := again.token(), again.token(); first.Text != "kept" || second.Offset != 9 || second.Text != "later" {
		t.Errorf("told %+v and %+v", first, second)
	}
	w.happen(2, orchestrator.EventFailed, false)
	s.expect("2", "")
}
