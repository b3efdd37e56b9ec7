// Package event declares how a fact looks on the wire: CloudEvents 1.0, in structured
// JSON mode for public events and in binary mode where a payload must pass untouched.
package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
)

// ContentType of a structured event.
const ContentType = "application/cloudevents+json"

// BatchContentType is that of several structured events in one message, the JSON batch format of CloudEvents.
const BatchContentType = "application/cloudevents-batch+json"

// Headers of a binary-mode event, as the CloudEvents NATS binding names them; Headers reads them.
const (
	HeaderSpecVersion = "ce-specversion"
	HeaderID          = "ce-id"
	HeaderType        = "ce-type"
	HeaderSource      = "ce-source"
	HeaderSubject     = "ce-subject"
	HeaderRequestID   = "ce-requestid"
	HeaderTraceparent = "ce-traceparent"
	HeaderContentType = "content-type"
)

// SpecVersion of CloudEvents.
const SpecVersion = "1.0"

// Type declares one event type whose data is a T.
type Type[T any] struct {
	Entity  string
	Name    string
	Version int
}

// String is the CloudEvents type: io.turbocat.<entity>.<name>.v<version>.
func (t Type[T]) String() string {
	return typePrefix + t.Entity + "." + t.Name + ".v" + strconv.Itoa(t.Version)
}

// Description is an event type without its type parameter, for documents and tests.
type Description struct {
	Type string
	Data reflect.Type
}

// Describe gives the type's description.
func (t Type[T]) Describe() Description { return Description{t.String(), reflect.TypeFor[T]()} }

// Meta is everything of an event but its data.
type Meta struct {
	ID          string
	Source      string
	Subject     string
	Time        time.Time
	RequestID   string // extension requestid; left out when empty
	Traceparent string // extension traceparent; left out when empty
	Partition   int    // extension p
	Number      uint64 // extension n: gapless per partition
}

// Encode gives the structured JSON of an event of type t. The bytes depend on the
// arguments alone, so an event that is published again is the same to the byte.
func (t Type[T]) Encode(m Meta, data T) ([]byte, error) {
	b := make([]byte, 0, 800) // few have more
	b = append(b, `{"specversion":"1.0","id":`...)
	b = AppendString(b, m.ID)
	b = append(b, `,"source":`...)
	b = AppendString(b, m.Source)
	b = append(b, `,"type":"`+typePrefix...)
	b = append(b, t.Entity...)
	b = append(b, '.')
	b = append(b, t.Name...)
	b = append(b, `.v`...)
	b = strconv.AppendInt(b, int64(t.Version), 10)
	b = append(b, `","subject":`...)
	b = AppendString(b, m.Subject)
	b = append(b, `,"time":"`...)
	b = m.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json"`...)
	if m.RequestID != "" {
		b = append(b, `,"requestid":`...)
		b = AppendString(b, m.RequestID)
	}
	if m.Traceparent != "" {
		b = append(b, `,"traceparent":`...)
		b = AppendString(b, m.Traceparent)
	}
	b = append(b, `,"p":`...)
	b = strconv.AppendInt(b, int64(m.Partition), 10)
	// n may outgrow the 32 bits of a CloudEvents integer, so it travels as a string.
	b = append(b, `,"n":"`...)
	b = strconv.AppendUint(b, m.Number, 10)
	b = append(b, `","data":`...)
	if d, ok := any(data).(jsonAppender); ok {
		b = d.AppendJSON(b)
	} else {
		d, err := json.Marshal(data)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", t, err)
		}
		b = append(b, d...)
	}
	return append(b, '}'), nil
}

// jsonAppender is data that is encoded by thousands a second: it appends what encoding/json would give.
type jsonAppender interface {
	AppendJSON(b []byte) []byte
}

// AppendBatch appends the batch of structured events to b; they stand in it byte for byte and in their order.
func AppendBatch(b []byte, events ...[]byte) []byte {
	b = append(b, '[')
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	return append(b, ']')
}

// Split gives the events of a batch as they were written, not decoded.
func Split(batch []byte) ([]json.RawMessage, error) {
	var events []json.RawMessage
	if err := json.Unmarshal(batch, &events); err != nil {
		return nil, fmt.Errorf("not a batch of CloudEvents: %w", err)
	}
	return events, nil
}

// Decode reads a structured event of CloudEvents 1.0 and validates it as the SDK does, and what
// the SDK takes for granted: names in lower case, and data_base64 that is a string.
func Decode(b []byte) (cloudevents.Event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return cloudevents.Event{}, fmt.Errorf("not a CloudEvent: %w", err)
	}
	for name, value := range members {
		if name == "data_base64" && value[0] == '"' {
			continue
		}
		if !cloudevents.IsExtensionNameValid(name) || name != strings.ToLower(name) {
			return cloudevents.Event{}, fmt.Errorf("not a CloudEvent: %q is no name of an attribute; use a-z and 0-9, and a string for data_base64", name)
		}
	}
	var e cloudevents.Event
	if err := json.Unmarshal(b, &e); err != nil {
		return cloudevents.Event{}, fmt.Errorf("not a CloudEvent: %w", err)
	}
	if err := e.Validate(); err != nil {
		return cloudevents.Event{}, fmt.Errorf("not a valid CloudEvent: %w", err)
	}
	if e.SpecVersion() != SpecVersion {
		return cloudevents.Event{}, fmt.Errorf("specversion is %q; send CloudEvents %s", e.SpecVersion(), SpecVersion)
	}
	return e, nil
}

// AppendString appends a string as encoding/json does.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			q, _ := json.Marshal(s) // a string always encodes
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// plain are the bytes that stand in a JSON string as they are.
var plain = func() (plain [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		plain[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return plain
}()

// typePrefix begins every CloudEvents type of Turbocat.
const typePrefix = "io.turbocat."

// Path is a CloudEvents type without the prefix: <entity>.<name>.v<version>.
func Path(eventType string) string { return strings.TrimPrefix(eventType, typePrefix) }

// Ours tells whether a type is one of Turbocat's own, or the beginning of one; of those nobody from outside may send an event.
func Ours(eventType string) bool { return strings.HasPrefix(eventType, typePrefix) }

// Matches tells whether a type is the wanted one or, when that ends in *, begins as it does.
func Matches(wanted, eventType string) bool {
	if beginning, open := strings.CutSuffix(wanted, "*"); open {
		return strings.HasPrefix(eventType, beginning)
	}
	return wanted == eventType
}
