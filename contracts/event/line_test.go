package event_test

import (
	"maps"
	"reflect"
	"testing"

	"turbocat.io/contracts/event"
)

func TestHeaders(t *testing.T) {
	line := func(pairs ...string) []byte {
		var b []byte
		for i := 0; i < len(pairs); i += 2 {
			b = event.AppendHeader(b, pairs[i], pairs[i+1])
		}
		return event.EndHeaders(b)
	}
	if got, want := string(line("ce-type", "t", "ce-id", "a b%\n\x7fé=")), "ce-type=t ce-id=a%20b%25%0a%7f%c3%a9=\n"; got != want {
		t.Errorf("the line is %q, not %q", got, want)
	}
	for _, tt := range []struct {
		name    string
		own     map[string][]string
		body    string
		headers map[string]string
		data    string
	}{
		{"in a line", map[string][]string{"Nats-Msg-Id": {"1"}}, "ce-type=t ce-id=a%20b x=\ndata\n\n", map[string]string{"ce-type": "t", "ce-id": "a b", "x": ""}, "data\n\n"},
		{"no data", nil, "ce-type=t\n", map[string]string{"ce-type": "t"}, ""},
		{"of the message", map[string][]string{"ce-type": {"t"}, "x": {"1", "2"}, "y": {}}, "ce-type=u\ndata", map[string]string{"ce-type": "t", "x": "1"}, "ce-type=u\ndata"},
		{"none", nil, "{\n}", map[string]string{}, "{\n}"},
		{"a line that does not end", nil, "ce-type=t ce-id=1", map[string]string{}, "ce-type=t ce-id=1"},
		{"no values", nil, "ce-type=  =\n", map[string]string{"ce-type": "", "": ""}, ""},
		{"another line", nil, "ce-id=1 ce-type=t\ndata", map[string]string{}, "ce-id=1 ce-type=t\ndata"},
		{"no escapes", nil, "ce-type=%2 x=%zz y=%\n", map[string]string{"ce-type": "%2", "x": "%zz", "y": "%"}, ""},
	} {
		headers, data := event.Headers(tt.own, []byte(tt.body))
		if got := maps.Collect(headers); !maps.Equal(got, tt.headers) || string(data) != tt.data {
			t.Errorf("%s: %q and %q", tt.name, got, data)
		}
	}
	all, data := event.HeaderMap(map[string][]string{"Nats-Msg-Id": {"1"}}, []byte("ce-type=t\ndata"))
	if want := map[string][]string{"Nats-Msg-Id": {"1"}, "ce-type": {"t"}}; !reflect.DeepEqual(all, want) || string(data) != "data" {
		t.Errorf("all are %v, of %q", all, data)
	}
}

// FuzzHeaders wants any value to come out as it was put in.
func FuzzHeaders(f *testing.F) {
	f.Add("t", "a b", []byte("{}\n"))
	f.Add("", "%%20\n\x00é", []byte(nil))
	f.Fuzz(func(t *testing.T, typ, value string, data []byte) {
		b := event.EndHeaders(event.AppendHeader(event.AppendHeader(nil, event.HeaderType, typ), "x", value))
		headers, got := event.Headers(nil, append(b, data...))
		if all := maps.Collect(headers); all[event.HeaderType] != typ || all["x"] != value || len(all) != 2 || string(got) != string(data) {
			t.Errorf("%q and %q", all, got)
		}
		anything, _ := event.Headers(nil, data)
		_ = maps.Collect(anything) // does not panic
	})
}
