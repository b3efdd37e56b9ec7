package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
)

// Incoming is an event from outside, as it goes into a feed.
type Incoming struct {
	ID   string            // of the row, a UUIDv7
	Key  [sha256.Size]byte // of its source and its id
	Body json.RawMessage
}

// IntakeStore takes events from outside in.
type IntakeStore interface {
	// Ingest puts those events into a user's feed that did not come within telemetry.IngestedKept, and gives how many those are and where the feed ends.
	Ingest(ctx context.Context, userID string, events []Incoming) (fresh int, end uint64, err error)
}

// Intake takes events from outside into feeds. It is safe for concurrent use.
type Intake struct {
	store IntakeStore
	now   func() time.Time
	tell  func(userID string, end uint64)
}

// NewIntake makes an intake that tells whose feed has something new.
func NewIntake(store IntakeStore, now func() time.Time, tell func(userID string, end uint64)) *Intake {
	return &Intake{store, now, tell}
}

// Ingest takes events into the caller's feed; see telemetry.IngestEvents.
func (s *Intake) Ingest(ctx context.Context, caller rpc.Caller, req telemetry.IngestRequest) (telemetry.Ingested, error) {
	if caller.UserID == "" {
		return telemetry.Ingested{}, errs.New(errs.Unauthorized, "a feed is a user's; sign in")
	}
	events, err := incoming(req.Events, s.now())
	if err != nil {
		return telemetry.Ingested{}, err
	}
	fresh, end, err := s.store.Ingest(ctx, caller.UserID, events)
	if err != nil {
		return telemetry.Ingested{}, err
	}
	if fresh > 0 {
		s.tell(caller.UserID, end)
	}
	return telemetry.Ingested{Accepted: fresh, Repeated: len(req.Events) - fresh}, nil
}

// Bounds of attributes, in bytes.
const (
	maxEventID, maxSource, maxEventType, maxAttribute = 255, 500, 200, 1000
)

// incoming checks events, and reports all that is wrong with them. Of those that are alike the first is given.
func incoming(bodies []json.RawMessage, now time.Time) ([]Incoming, error) {
	var faults form.Faults
	if n := len(bodies); n == 0 || n > telemetry.MaxIngested {
		faults.Add("events", errs.OutOfRange, "are %d; send 1 to %d at once", n, telemetry.MaxIngested)
		return nil, faults.Err("request")
	}
	events := make([]Incoming, 0, len(bodies))
	seen := map[[sha256.Size]byte]bool{}
	for i, body := range bodies {
		e, ok := incomingEvent(form.At("events", i), body, now, &faults)
		if ok && !seen[e.Key] {
			seen[e.Key] = true
			events = append(events, e)
		}
	}
	return events, faults.Err("request")
}

func incomingEvent(at string, body json.RawMessage, now time.Time, faults *form.Faults) (Incoming, bool) {
	fault := func(name string, code errs.DetailCode, format string, args ...any) {
		faults.Add(strings.TrimSuffix(at+"."+name, "."), code, format, args...)
	}
	if len(body) > telemetry.MaxIngestedEvent {
		fault("", errs.OutOfRange, "has %d bytes; send at most %d, and the data another way", len(body), telemetry.MaxIngestedEvent)
		return Incoming{}, false
	}
	if rawjson.Depth(body) > form.MaxDepth {
		fault("", errs.OutOfRange, "nests deeper than %d levels; make it flatter", form.MaxDepth)
		return Incoming{}, false
	}
	if text := strings.TrimSpace(string(body)); !strings.HasPrefix(text, "{") {
		fault("", errs.BadType, "is no object; send a CloudEvent in its JSON format")
		return Incoming{}, false
	}
	e, err := event.Decode(body)
	if err != nil {
		fault("", errs.BadValue, "%s", strings.Join(strings.Fields(err.Error()), " "))
		return Incoming{}, false
	}
	sound := true
	bounded := func(name, value string, most int) {
		if len(value) > most || strings.ContainsFunc(value, unicode.IsControl) {
			fault(name, errs.OutOfRange, "has %d bytes, or control characters; give at most %d bytes without any", len(value), most)
			sound = false
		}
	}
	bounded("id", e.ID(), maxEventID)
	bounded("source", e.Source(), maxSource)
	bounded("type", e.Type(), maxEventType)
	bounded("subject", e.Subject(), maxSource)
	for name, value := range e.Extensions() {
		bounded(name, fmt.Sprint(value), maxAttribute)
	}
	if event.Ours(e.Type()) {
		fault("type", errs.BadValue, "begins as the types of Turbocat's own events do; give it another name")
		sound = false
	}
	if !sound {
		return Incoming{}, false
	}
	if e.Time().IsZero() {
		e.SetTime(now.UTC())
	}
	var encoded bytes.Buffer
	written, err := e.MarshalJSON()
	if err == nil {
		err = json.Compact(&encoded, written)
	}
	if err != nil {
		fault("", errs.BadValue, "can not be written as JSON: %s", err)
		return Incoming{}, false
	}
	return Incoming{ID: uuid.Must(uuid.NewV7()).String(), Key: sha256.Sum256([]byte(e.Source() + " " + e.ID())), Body: encoded.Bytes()}, true
}

// RowsOf puts events from outside into rows of a user's feed, in their order.
func RowsOf(userID string, incoming []Incoming) []Row {
	events := make([]Event, len(incoming))
	for i, e := range incoming {
		events[i] = Event{ID: e.ID, Body: e.Body, Fact: Fact{UserID: userID}}
	}
	return Rows(events)
}
