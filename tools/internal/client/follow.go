package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"turbocat.io/contracts/orchestrator"
)

// patience says how long a stream may be quiet or away.
type patience struct {
	silence time.Duration // without a sign of life, after which the connection is given up
	away    time.Duration // that an installation may take to come back
	pause   time.Duration // between attempts
}

// The server shows a sign of life every 15 s.
var defaultPatience = patience{silence: 45 * time.Second, away: 60 * time.Second, pause: 500 * time.Millisecond}

const maxEventLine = 1 << 20

// Event is one event of an execution.
type Event struct {
	Type string // of CloudEvents
	Data orchestrator.ExecutionEvent
}

// terminal tells whether nothing follows the event.
func (e Event) terminal() bool {
	switch e.Type {
	case orchestrator.EventCompleted.String(), orchestrator.EventFailed.String(), orchestrator.EventCancelled.String(), orchestrator.EventTimedOut.String():
		return true
	}
	return false
}

// Follow hands over every event of an execution once and in order, and returns after the last one. A connection
// that is lost is made again where it ended.
func (c *Client) Follow(ctx context.Context, id string, on func(Event)) error {
	at := place{id: id, lost: time.Now()}
	for {
		done, err := c.stream(ctx, &at, on)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isExpired(err):
			if c.login(ctx) == nil {
				continue
			}
		case isFinal(err):
			return err
		}
		if err != nil && time.Since(at.lost) > c.patience.away {
			if errors.Is(err, context.Canceled) { // by the silence
				err = &Unreachable{URL: c.base, Cause: err}
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.patience.pause):
		}
	}
}

// place is how far an execution has been followed.
type place struct {
	id   string
	last uint64    // the seq of the last event
	lost time.Time // when the connection was lost
}

// isFinal tells whether another attempt can not help: the API refuses, and not because it is down or busy.
func isFinal(err error) bool {
	var refused *Refusal
	return errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests
}

// stream reads events behind a place until the connection ends; done after the last event of all.
func (c *Client) stream(ctx context.Context, at *place, on func(Event)) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(c.patience.silence, cancel)
	defer silence.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if at.last > 0 {
		header.Set("Last-Event-ID", strconv.FormatUint(at.last, 10))
	}
	answer, err := c.send(ctx, http.MethodGet, "/executions/"+at.id+"/events", nil, header)
	if err != nil {
		return false, err
	}
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		_, err := read[json.RawMessage](c, answer)
		return false, err
	}
	defer func() { _ = answer.Body.Close() }()
	defer func() { at.lost = time.Now() }()
	err = events(answer.Body, func() { silence.Reset(c.patience.silence) }, func(seq uint64, e Event) bool {
		if seq > at.last {
			at.last = seq
			on(e)
		}
		done = e.terminal()
		return !done
	})
	if err != nil && !done {
		return false, &Unreachable{URL: c.base, Cause: err}
	}
	return done, nil
}

// events parses Server-Sent Events until take returns false or r ends; alive is called for every line.
// Events without an id, and those that are none of an execution, are passed over.
func events(r io.Reader, alive func(), take func(seq uint64, e Event) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEventLine)
	var id, eventType string
	var data []byte
	for lines.Scan() {
		alive()
		if len(lines.Bytes()) == 0 {
			var body struct {
				Data orchestrator.ExecutionEvent `json:"data"`
			}
			seq, err := strconv.ParseUint(id, 10, 64)
			if err == nil && json.Unmarshal(data, &body) == nil && !take(seq, Event{Type: eventType, Data: body.Data}) {
				return nil
			}
			id, eventType, data = "", "", data[:0]
			continue
		}
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "event":
			eventType = value
		case "data":
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, value...)
		}
	}
	return lines.Err()
}
