package form_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

func TestManyFaultsAreCut(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"x":0`)
	for i := range 5000 {
		fmt.Fprintf(&b, `,"%s%d":1`, strings.Repeat("k", 100), i)
	}
	var faults form.Faults
	o, ok := form.Read(json.RawMessage(b.String()+"}"), &faults)
	if !ok {
		t.Fatal("not read")
	}
	o.Only("x")
	var e *errs.Error
	if err := faults.Err("thing"); !errors.As(err, &e) {
		t.Fatal(err)
	}
	last := e.Details[len(e.Details)-1]
	if len(e.Details) != 201 || !strings.HasPrefix(last.Message, "4800 more") {
		t.Errorf("%d details, the last %+v", len(e.Details), last)
	}
	if n := len(e.Details[0].Field); n > 100 {
		t.Errorf("a field of %d bytes is echoed", n)
	}
}

func TestInt(t *testing.T) {
	for raw, want := range map[string]int64{`3`: 3, `3.0`: 3, `3e0`: 3, ` 0 `: 0, `null`: 7} {
		var faults form.Faults
		got := int64(5)
		o, _ := form.Read(json.RawMessage(`{"n":`+raw+`}`), &faults)
		o.Int("n", &got, 7, 0, 10)
		if err := faults.Err("x"); err != nil || got != want {
			t.Errorf("%s: %d, %v", raw, got, err)
		}
	}
	for _, raw := range []string{`3.5`, `-1`, `11`, `1e999`, `99999999999999999999`, `"3"`, `true`, `[]`} {
		var faults form.Faults
		got := int64(5)
		o, _ := form.Read(json.RawMessage(`{"n":`+raw+`}`), &faults)
		o.Int("n", &got, 7, 0, 10)
		if faults.Err("x") == nil || got != 5 {
			t.Errorf("%s was taken as %d", raw, got)
		}
	}
}

func TestTime(t *testing.T) {
	was := time.Unix(0, 0)
	for raw, want := range map[string]string{`"2026-01-02T04:04:05.0000019+01:00"`: "2026-01-02T03:04:05.000001Z", `null`: ""} {
		var faults form.Faults
		got := &was
		o, _ := form.Read(json.RawMessage(`{"t":`+raw+`}`), &faults)
		o.Time("t", &got)
		if err := faults.Err("x"); err != nil || (got == nil) != (want == "") || got != nil && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{`"2026-01-02"`, `1767323045`, `""`, `"2026-02-30T00:00:00Z"`, `"0000-01-01T00:00:00Z"`, `{}`} {
		var faults form.Faults
		got := &was
		o, _ := form.Read(json.RawMessage(`{"t":`+raw+`}`), &faults)
		o.Time("t", &got)
		if faults.Err("x") == nil || got != &was {
			t.Errorf("%s was taken as %v", raw, got)
		}
	}
}

func TestAbsentStays(t *testing.T) {
	var faults form.Faults
	o, _ := form.Read(json.RawMessage(`{}`), &faults)
	s, b, n, list, raw := "s", true, int64(3), []string{"a"}, json.RawMessage(`{"a":1}`)
	o.String("s", &s, "", 1, 2)
	o.Enum("s", &s, "x", "x")
	o.Bool("b", &b, false)
	o.Int("n", &n, 0, 0, 1)
	o.Strings("l", &list, 0, 0, 0)
	o.Object("r", &raw, nil)
	o.Any("r", &raw, nil)
	if faults.Err("x") != nil || s != "s" || !b || n != 3 || len(list) != 1 || string(raw) != `{"a":1}` {
		t.Error(s, b, n, list, raw, faults)
	}
}
