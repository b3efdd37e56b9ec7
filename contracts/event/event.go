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

// Headers of a binary-mode event, as the CloudEvents NATS binding names them.
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
	return "io.turbocat." + t.Entity + "." + t.Name + ".v" + strconv.Itoa(t.Version)
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
	d, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t, err)
	}
	b := make([]byte, 0, 384+len(d))
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendString(b, m.ID)
	b = append(b, `,"source":`...)
	b = appendString(b, m.Source)
	b = append(b, `,"type":"`...)
	b = append(b, t.String()...)
	b = append(b, `","subject":`...)
	b = appendString(b, m.Subject)
	b = append(b, `,"time":"`...)
	b = m.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json"`...)
	if m.RequestID != "" {
		b = append(b, `,"requestid":`...)
		b = appendString(b, m.RequestID)
	}
	if m.Traceparent != "" {
		b = append(b, `,"traceparent":`...)
		b = appendString(b, m.Traceparent)
	}
	b = append(b, `,"p":`...)
	b = strconv.AppendInt(b, int64(m.Partition), 10)
	// n may outgrow the 32 bits of a CloudEvents integer, so it travels as a string.
	b = append(b, `,"n":"`...)
	b = strconv.AppendUint(b, m.Number, 10)
	b = append(b, `","data":`...)
	b = append(b, d...)
	return append(b, '}'), nil
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

func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f || c == '<' || c == '>' || c == '&' {
			q, _ := json.Marshal(s) // a string always encodes
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// typePrefix begins every CloudEvents type of Turbocat.
const typePrefix = "io.turbocat."

// Path is a CloudEvents type without the prefix: <entity>.<name>.v<version>.
func Path(eventType string) string { return strings.TrimPrefix(eventType, typePrefix) }
