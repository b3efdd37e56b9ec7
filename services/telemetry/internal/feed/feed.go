// Package feed puts the public events of all partitions into one order for each user. Whoever tells of events outside, be it over a stream,
// by answers or by webhooks, reads them here, so that all tell the same in the same order.
//
// Of all processes one takes events in. It hears of them on EVENTS as they happen; what it misses there it asks the orchestrator for, whose
// numbers leave no gap. What is in the feeds, and up to which number, is one transaction.
package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/subject"
)

// ErrLost says that another process takes events in now.
var ErrLost = errors.New("another process takes the events in")

// Lease is for how long a process takes events in after it has said so.
const Lease = 5 * time.Second

// Numbers are up to where the events of the partitions are in the feeds.
type Numbers [subject.Partitions]uint64

// Event is one that is to go into a feed; one without a UserID is nobody's.
type Event struct {
	Partition int
	N         uint64
	ID, Type  string
	Body      json.RawMessage
	Fact
}

// Fact is what an event tells.
type Fact struct {
	UserID      string `json:"userId"`
	ExecutionID string `json:"executionId"`
	WorkflowID  string `json:"workflowId"`
	StepKey     string `json:"stepKey"`
	AgentID     string `json:"agentId"`
	Attempt     int    `json:"attempt"`
	DurationMs  *int64 `json:"durationMs"`
}

// Numbered is an event as the ledger has it.
type Numbered struct {
	N    uint64
	Body json.RawMessage
}

// Store keeps what is made of events, the feeds or something else.
type Store interface {
	// Hold takes the lease for an owner, or renews it, and gives the numbers; false while another holds it.
	Hold(ctx context.Context, owner string) (numbers Numbers, held bool, err error)
	// Append takes events in, for feeds into those of their users, in their order, and gives where these end now. Those of a partition go on from its
	// number, and bring it to that of the last one. ErrLost when the owner does not hold the lease, or the numbers are others.
	Append(ctx context.Context, owner string, from Numbers, events []Event) (ends map[string]uint64, err error)
}

// Source is where events are asked for that were not heard of.
type Source interface {
	// Events gives events of a partition after a number, from the oldest on that is kept; none when there are none.
	Events(ctx context.Context, p int, after uint64) ([]Numbered, error)
	// Numbers tells how many events the partitions have.
	Numbers(ctx context.Context) ([]uint64, error)
}

// Taker takes events in. It belongs to one goroutine.
type Taker struct {
	store  Store
	source Source
	owner  string
	tell   func(taken int, ends map[string]uint64)
	odd    func(error)

	numbers Numbers
	missed  map[int]bool // partitions of which events were not heard
	behind  atomic.Uint64
}

// NewTaker makes one; tell is called after each commit with how many events it had, and where feeds end, and odd with what is wrong with an
// event that can be in nobody's feed. What comes behind such an event is not held up by it.
func NewTaker(store Store, source Source, tell func(taken int, ends map[string]uint64), odd func(error)) *Taker {
	return &Taker{store: store, source: source, owner: uuid.NewString(), tell: tell, odd: odd, missed: map[int]bool{}}
}

// Hold takes the lease or renews it, and tells whether it is held.
func (t *Taker) Hold(ctx context.Context) (bool, error) {
	numbers, held, err := t.store.Hold(ctx, t.owner)
	if err == nil && held {
		t.numbers = numbers
	} else {
		t.behind.Store(0) // for who takes them to say
	}
	return held, err
}

// Take takes in events as they were heard, and asks for those that are missing before them.
func (t *Taker) Take(ctx context.Context, heard []json.RawMessage) error {
	next, fresh := t.numbers, make([]Event, 0, len(heard))
	for _, body := range heard {
		e, err := read(body)
		if err != nil {
			continue // the ledger tells which number it has, once one behind it is heard
		}
		switch p := e.Partition; {
		case e.N <= next[p]: // it is there
		case e.N > next[p]+1 || t.missed[p]:
			t.missed[p] = true
		default:
			next[p] = e.N
			fresh = append(fresh, e)
		}
	}
	if err := t.append(ctx, fresh); err != nil {
		return err
	}
	for p := range t.missed {
		if err := t.CatchUp(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// CatchUp asks for the events of a partition until there are no more. Some that are not kept any more are left out.
func (t *Taker) CatchUp(ctx context.Context, p int) error {
	for {
		found, err := t.source.Events(ctx, p, t.numbers[p])
		if err != nil {
			return err
		}
		events := make([]Event, 0, len(found))
		for _, known := range found {
			if known.N <= t.numbers[p] {
				continue
			}
			e, err := read(known.Body)
			if err == nil && (e.Partition != p || e.N != known.N) {
				err = fmt.Errorf("the event %s says that it is the event %d of the partition %d", e.ID, e.N, e.Partition)
			}
			if err != nil {
				t.odd(fmt.Errorf("event %d of the partition %d: %w", known.N, p, err))
				e = Event{Partition: p, N: known.N}
			}
			events = append(events, e)
		}
		if len(events) == 0 {
			delete(t.missed, p)
			return nil
		}
		if err := t.append(ctx, events); err != nil {
			return err
		}
	}
}

// Behind gives how many events the feeds lacked when they were compared last. Any goroutine may ask.
func (t *Taker) Behind() uint64 { return t.behind.Load() }

// Compare catches up with the partitions that have more events than the feeds. Those of late may be on their way still: they come twice then, which
// changes nothing.
func (t *Taker) Compare(ctx context.Context) error {
	last, err := t.source.Numbers(ctx)
	if err != nil {
		return err
	}
	behind := uint64(0)
	for p, n := range last {
		if p < len(t.numbers) && n > t.numbers[p] {
			behind += n - t.numbers[p]
		}
	}
	t.behind.Store(behind)
	for p, n := range last {
		if p < len(t.numbers) && n > t.numbers[p] {
			if err := t.CatchUp(ctx, p); err != nil {
				return err
			}
		}
	}
	t.behind.Store(0)
	return nil
}

func (t *Taker) append(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	ends, err := t.store.Append(ctx, t.owner, t.numbers, events)
	if err != nil {
		return err
	}
	for _, e := range events {
		t.numbers[e.Partition] = e.N
	}
	t.tell(len(events), ends)
	return nil
}

// read gives of an event what its place in the feeds depends on, and what it tells.
func read(body json.RawMessage) (Event, error) {
	var e struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		P    int    `json:"p"`
		N    uint64 `json:"n,string"`
		Data Fact   `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, fmt.Errorf("an event does not decode: %w", err)
	}
	if e.P < 0 || e.P >= subject.Partitions || e.N == 0 || uuid.Validate(e.ID) != nil || uuid.Validate(e.Data.UserID) != nil {
		return Event{}, fmt.Errorf("the event %q of the partition %d has the number %d and is of the user %q; one of them can not be", e.ID, e.P, e.N, e.Data.UserID)
	}
	return Event{Partition: e.P, N: e.N, ID: e.ID, Type: e.Type, Body: body, Fact: e.Data}, nil
}

// Row is what one commit has of a user's feed.
type Row struct {
	UserID, ID string
	Count      int
	Events     []byte // the batch
}

// maxRow bounds the events of a row, so that who reads a few does not read megabytes.
const maxRow = 512

// Rows puts events into rows, in the order of the users' ids; those of a user in their order.
func Rows(events []Event) []Row {
	byUser := map[string][]Event{}
	var users []string
	for _, e := range events {
		if e.UserID == "" {
			continue
		}
		if byUser[e.UserID] == nil {
			users = append(users, e.UserID)
		}
		byUser[e.UserID] = append(byUser[e.UserID], e)
	}
	slices.Sort(users)
	var rows []Row
	for _, user := range users {
		for chunk := range slices.Chunk(byUser[user], maxRow) {
			bodies := make([][]byte, len(chunk))
			for i, e := range chunk {
				bodies[i] = e.Body
			}
			rows = append(rows, Row{UserID: user, ID: chunk[len(chunk)-1].ID, Count: len(chunk), Events: event.AppendBatch(nil, bodies...)})
		}
	}
	return rows
}
