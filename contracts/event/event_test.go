package event_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"turbocat.io/contracts/event"
)

// FuzzDecode wants every input to be refused, or to be a valid event that is the same when it is
// written and read again.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.Decode(b)
		if err != nil {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("accepted and not valid: %v", err)
		}
		written, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("accepted and not written again: %v", err)
		}
		again, err := event.Decode(written)
		if err != nil {
			t.Fatalf("written as %s it is refused: %v", written, err)
		}
		if a, b := e.Context.String(), again.Context.String(); a != b {
			t.Fatalf("it was\n%s\nand is\n%s", a, b)
		}
		if e.DataBase64 != again.DataBase64 || !reflect.DeepEqual(dataOf(e), dataOf(again)) {
			t.Fatalf("its data was %q and is %q", e.Data(), again.Data())
		}
	})
}

// dataOf gives an event's data, decoded when it is JSON.
func dataOf(e cloudevents.Event) any {
	d := json.NewDecoder(bytes.NewReader(e.Data()))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return e.Data()
	}
	return v
}

func TestTypeDescribesItself(t *testing.T) {
	type data struct {
		A int `json:"a"`
	}
	typ := event.Type[data]{Entity: "thing", Name: "made", Version: 2}
	if d := typ.Describe(); d.Type != "io.turbocat.thing.made.v2" || d.Data.Name() != "data" || event.Path(d.Type) != "thing.made.v2" {
		t.Errorf("it is %+v", d)
	}
}

// TestEncodeQuotes wants every text to stay inside its string.
func TestEncodeQuotes(t *testing.T) {
	typ := event.Type[string]{Entity: "thing", Name: "made", Version: 1}
	for _, text := range []string{`"`, `\`, `","id":"x`, "é", "a\u2028b", "<&>", "\x7f", "a\tb", "plain"} {
		b, err := typ.Encode(event.Meta{ID: text, Source: "orchestrator", Subject: text, Time: time.Unix(0, 1), RequestID: text, Traceparent: text, Number: 1 << 63}, text)
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.Decode(b)
		if err != nil {
			t.Errorf("%s: %v", b, err)
			continue
		}
		var data string
		if err := json.Unmarshal(e.Data(), &data); err != nil || e.ID() != text || e.Subject() != text ||
			e.Extensions()["requestid"] != text || e.Extensions()["traceparent"] != text || data != text {
			t.Errorf("%q became %s", text, b)
		}
	}
}

func TestBatchKeepsTheBytes(t *testing.T) {
	for _, events := range [][]string{{`{"a": 1}`}, {`{"a":[1,"],{"]}`, `{ }`, `{"b":"\u0001"}`}} {
		var bodies [][]byte
		for _, e := range events {
			bodies = append(bodies, []byte(e))
		}
		batch := event.AppendBatch(nil, bodies...)
		got, err := event.Split(batch)
		if err != nil || len(got) != len(events) {
			t.Fatalf("%s: %s, %v", batch, got, err)
		}
		for i, e := range events {
			if string(got[i]) != e {
				t.Errorf("event %d is %s, was %s", i, got[i], e)
			}
		}
	}
	for _, wrong := range []string{``, `{}`, `[{}`, `[{}]]`, `1`} {
		if got, err := event.Split([]byte(wrong)); err == nil {
			t.Errorf("%q is taken for %s", wrong, got)
		}
	}
}
