package live

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
)

const (
	// lateLines is how much older than the newest a line may be that comes late, and is told all the same; of more than manyLines of that time only the last.
	lateLines = 5 * time.Second
	manyLines = 1000
	// settleLines is how long it is waited for lines when an execution has ended, since the last one.
	settleLines = 2 * time.Second
)

// LogPlace is a place in the log of an execution: behind a line, in the order of their times and ids.
type LogPlace struct {
	At time.Time // the beginning when zero
	ID uuid.UUID
}

// LogReader is who follows a log. Whatever of it fails ends that.
type LogReader struct {
	Line func(telemetry.LogLine) error
	Ping func() error
}

// Lines reads a page of a log, oldest first: of lines that were written at a time or later, behind a cursor if that is not "".
type Lines func(ctx context.Context, since time.Time, cursor string) (rpc.List[telemetry.LogLine], error)

// told remembers which lines were told, as far back as late ones are looked for.
type told struct {
	behind LogPlace // nothing up to there is told
	lines  []LogPlace
	known  map[uuid.UUID]bool
	newest time.Time
}

// take tells whether a line is new, and remembers it.
func (t *told) take(l telemetry.LogLine) bool {
	id, err := uuid.Parse(l.ID)
	if err != nil || t.known[id] {
		return false
	}
	if order := l.CreatedAt.Compare(t.behind.At); order < 0 || order == 0 && bytes.Compare(id[:], t.behind.ID[:]) <= 0 {
		return false
	}
	t.lines, t.known[id] = append(t.lines, LogPlace{l.CreatedAt, id}), true
	if l.CreatedAt.After(t.newest) {
		t.newest = l.CreatedAt
	}
	return true
}

// since forgets what is too old to be looked at again, and gives from when on it is.
func (t *told) since() time.Time {
	if t.newest.IsZero() {
		return t.behind.At
	}
	from := t.newest.Add(-lateLines)
	drop := max(len(t.lines)-manyLines, 0)
	for _, l := range t.lines[:drop] {
		if l.At.After(from) {
			from = l.At
		}
	}
	kept := t.lines[:0]
	for _, l := range t.lines {
		if l.At.Before(from) {
			delete(t.known, l.ID)
			continue
		}
		kept = append(kept, l)
	}
	t.lines = kept
	if t.behind.At.After(from) {
		return t.behind.At
	}
	return from
}

// FollowLogs gives the lines of an execution's log behind a place to a reader, each once, and then those that come, until ctx ends, the reader fails,
// or, with nil, the execution has ended and no more came for a while. Those that are there come by their times, the others as they come. ended is
// closed when the execution has ended. Every interval it pings the reader, and looks whether there is something that it was not told of.
func (h *Hub) FollowLogs(ctx context.Context, executionID string, from LogPlace, interval time.Duration, read Lines, ended <-chan struct{}, to LogReader) error {
	woken := h.logs.await(executionID) // before it is looked: nothing can fall between the two
	defer h.logs.leave(executionID, woken)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	seen := told{behind: from, known: map[uuid.UUID]bool{}}
	var over <-chan time.Time // when it has settled
	for {
		news, err := h.tellLines(ctx, &seen, read, to)
		if err != nil && (ctx.Err() != nil || errs.CodeOf(err) != errs.DependencyUnavailable) {
			return err // of an answer that does not come whoever answers it logs it; the next interval asks again
		}
		if over != nil && news {
			over = time.After(settleLines)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			_, err := h.tellLines(ctx, &seen, read, to)
			return err
		case <-ended:
			ended, over = nil, time.After(settleLines)
		case <-woken:
		case <-ticker.C:
			if err := to.Ping(); err != nil {
				return err
			}
		}
	}
}

// tellLines tells what is new, and whether anything is.
func (h *Hub) tellLines(ctx context.Context, seen *told, read Lines, to LogReader) (news bool, err error) {
	since, cursor := seen.since(), ""
	for {
		page, err := read(ctx, since, cursor)
		if err != nil {
			return news, err
		}
		for _, l := range page.Items {
			if !seen.take(l) {
				continue
			}
			news = true
			if err := to.Line(l); err != nil {
				return news, err
			}
		}
		if page.Pagination.NextCursor == nil {
			return news, nil
		}
		cursor = *page.Pagination.NextCursor
		seen.since()
	}
}

// heardLogs wakes the followers of logs that have something new.
func (h *Hub) heardLogs(m *nats.Msg) {
	var said telemetry.LogNews
	if json.Unmarshal(m.Data, &said) == nil {
		h.logs.wake(said.ExecutionIDs)
	}
}
