package runner

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/runner/internal/executor"
)

// watcher reads what models write in one execution, from its beginning.
type watcher struct {
	w        *world
	consumer jetstream.Consumer
	texts    map[int]string // by call
	messages int
	last     runner.Token
}

func (w *world) watch(execution string) *watcher {
	w.t.Helper()
	consumer, err := w.js.OrderedConsumer(w.ctx(), subject.TokensStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.Tokens(subject.PartitionOf(execution))},
	})
	w.must(err)
	return &watcher{w: w, consumer: consumer, texts: map[int]string{}}
}

// until reads until a call's text ends like this.
func (r *watcher) until(call int, end string) {
	r.w.t.Helper()
	for !strings.HasSuffix(r.texts[call], end) {
		m, err := r.consumer.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			r.w.t.Fatalf("%v; so far %.200v", err, r.texts)
		}
		r.messages++
		var batch runner.TokenBatch
		r.w.must(json.Unmarshal(m.Data(), &batch))
		for _, token := range batch.Tokens {
			if token.Offset != len(r.texts[token.Call]) {
				r.w.t.Fatalf("%+v is told when %d bytes of the call were", token, len(r.texts[token.Call]))
			}
			r.texts[token.Call] += token.Text
			r.last = token
		}
	}
}

func TestWhatModelsWriteIsToldAsTheyWriteIt(t *testing.T) {
	w := newWorld(t, long)
	w.stream(subject.TokensStream, subject.TokensAll, jetstream.LimitsPolicy)
	goOn := make(chan struct{})
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		for range 1000 {
			task.Tokens(1, "é")
		}
		<-goOn
		task.Tokens(1, "; the end")
		task.Tokens(3, "and another call")
		return json.RawMessage("1"), nil
	}))
	w.send(step("t1", with(runner.HeaderIteration, "7")))
	r := w.watch("execution-of-t1")
	r.until(1, strings.Repeat("é", 1000))
	if r.messages > 100 {
		t.Errorf("1000 pieces came in %d messages", r.messages)
	}
	close(goOn) // while the attempt runs it was told
	r.until(3, "and another call")
	if want := (runner.Token{ExecutionID: "execution-of-t1", StepKey: "b", Iteration: 7, Attempt: 2, Call: 3, Text: "and another call"}); r.last != want {
		t.Errorf("the last is %+v", r.last)
	}
	if r.texts[1] != strings.Repeat("é", 1000)+"; the end" {
		t.Errorf("the text is %q", r.texts[1])
	}
	w.expect(runner.TypeStepCompleted, "t1")
}

func TestLiveTextHasNoSecrets(t *testing.T) {
	w := newWorld(t, long)
	w.stream(subject.TokensStream, subject.TokensAll, jetstream.LimitsPolicy)
	w.keeper()
	const half = 7
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		task.Tokens(1, "it is "+canary[:half])
		task.Tokens(1, canary[half:]+"!")
		task.Tokens(2, "again, cut: "+canary[:len(canary)-2])
		task.Tokens(3, "the end")
		return json.RawMessage("1"), nil
	}))
	w.send(needing("t1", "good"))
	w.expect(runner.TypeStepCompleted, "t1")
	r := w.watch("execution-of-t1")
	r.until(2, "***")
	r.until(3, "the end")
	if r.texts[1] != "it is ***!" || r.texts[2] != "again, cut: ***" {
		t.Errorf("told was %v", r.texts)
	}
}

// TestNoAttemptWaitsForItsLiveText has nobody take it, and one attempt write more than may be told.
func TestNoAttemptWaitsForItsLiveText(t *testing.T) {
	w := newWorld(t, long)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		for i := range 100 {
			task.Tokens(i, strings.Repeat("é", 50_000)+"\xff")
		}
		return json.RawMessage("1"), nil
	}))
	w.send(step("t1")) // there is no stream
	w.expect(runner.TypeStepCompleted, "t1")
	w.stream(subject.TokensStream, subject.TokensAll, jetstream.LimitsPolicy)
	told := 0
	sub, err := w.conn.NATS().Subscribe(subject.TokensAll, func(m *nats.Msg) {
		var batch runner.TokenBatch
		w.must(json.Unmarshal(m.Data, &batch))
		for _, token := range batch.Tokens {
			told += len(token.Text)
		}
		if len(m.Data) > 128<<10 {
			t.Errorf("a message of %d bytes", len(m.Data))
		}
	})
	w.must(err)
	w.must(w.conn.NATS().Flush())
	w.send(step("t2"))
	w.expect(runner.TypeStepCompleted, "t2")
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	w.must(sub.Drain())
	await(t, "all messages are read", ended)
	if told == 0 || told > 1<<20 {
		t.Errorf("%d bytes of one attempt were told", told)
	}
}
