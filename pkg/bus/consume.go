package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
)

// How long Keep pauses after a session that broke, and Settle before a message comes again:
// the first time, and at most.
const (
	keepWait    = 200 * time.Millisecond
	keepWaitMax = 2 * time.Second
	nakWait     = time.Second
	nakWaitMax  = 30 * time.Second
)

// Session works on a resource of NATS (a stream, a consumer, a bucket) over one connection: it
// finds or makes the resource, calls works once it has it, and returns when something breaks
// or its ctx ends, which the end of the connection brings about too. Its error says what broke;
// nil says that the next session is to begin at once. It is to call works itself, not from
// another goroutine.
type Session func(ctx context.Context, works func()) error

// Keep runs sessions, one after the other, until ctx ends, whatever happens to the connection
// and to what they work on. When the connection is made anew the session's ctx ends, and the
// next one begins at once. When a session breaks the next one begins after a pause, which
// doubles until one works again; until then broken is logged once.
func (c *Conn) Keep(ctx context.Context, log zerolog.Logger, broken string, session Session) {
	reconnected, stop := c.OnReconnect()
	defer stop()
	wait, told := keepWait, false
	works := func() { wait, told = keepWait, false }
	for ctx.Err() == nil {
		again, err := session.run(ctx, reconnected, works)
		if again || err == nil || ctx.Err() != nil {
			continue
		}
		if !told {
			log.Warn().Err(err).Msg(broken)
			told = true
		}
		select {
		case <-ctx.Done():
		case <-reconnected:
		case <-time.After(wait):
		}
		wait = min(2*wait, keepWaitMax)
	}
}

var errReconnected = errors.New("the connection was made anew")

// run runs the session over the connection as it stands now; again tells that it was made anew meanwhile.
func (s Session) run(ctx context.Context, reconnected <-chan struct{}, works func()) (again bool, err error) {
	select {
	case <-reconnected: // to the connection as it stands now
	default:
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-reconnected:
			cancel(errReconnected)
		}
	}()
	err = s(ctx, works)
	cancel(nil)
	<-watched
	return errors.Is(context.Cause(ctx), errReconnected), err
}

// Verdict is what becomes of a message that was handled.
type Verdict string

// The verdicts.
const (
	Done       Verdict = "done"        // acked: it never comes again
	Again      Verdict = "again"       // it comes again, later every time
	ThrownAway Verdict = "thrown_away" // terminated: it never comes again, and nothing came of it
)

// VerdictOn gives the verdict on a message that was handled with err. What may go well another
// time (DEPENDENCY_UNAVAILABLE, RATE_LIMITED, INTERNAL) comes again; what the message itself is
// at fault for, every other code, does not.
func VerdictOn(err error) Verdict {
	switch errs.CodeOf(err) {
	case "":
		return Done
	case errs.DependencyUnavailable, errs.RateLimited, errs.Internal:
		return Again
	default:
		return ThrownAway
	}
}

// Settle answers messages that were handled together with err, by VerdictOn, and logs what did
// not go well. An answer that is lost brings the message again: handling must be safe to repeat.
func Settle(log zerolog.Logger, err error, messages ...jetstream.Msg) Verdict {
	verdict := VerdictOn(err)
	if verdict == Again {
		log.Warn().Err(err).Int("messages", len(messages)).Msg("messages not handled; they come again")
	}
	for _, m := range messages {
		var lost error
		switch verdict {
		case Done:
			lost = m.Ack()
		case Again:
			lost = m.NakWithDelay(nakDelay(m))
		case ThrownAway:
			throwAway(log, err, m)
			lost = m.TermWithReason(string(errs.CodeOf(err)))
		}
		if lost != nil {
			log.Debug().Err(lost).Str("subject", m.Subject()).Msg("answer to a message not sent")
		}
	}
	return verdict
}

func throwAway(log zerolog.Logger, err error, m jetstream.Msg) {
	event := log.Error().Err(err).Str("subject", m.Subject()).Int("bytes", len(m.Data()))
	if meta, err := m.Metadata(); err == nil {
		event = event.Str("stream", meta.Stream).Str("consumer", meta.Consumer).Uint64("sequence", meta.Sequence.Stream)
	}
	event.Msg("message thrown away")
}

// nakDelay doubles with every delivery.
func nakDelay(m jetstream.Msg) time.Duration {
	meta, err := m.Metadata()
	if err != nil {
		return nakWaitMax
	}
	delay := nakWait
	for n := uint64(1); n < meta.NumDelivered && delay < nakWaitMax; n++ {
		delay *= 2
	}
	return min(delay, nakWaitMax)
}
