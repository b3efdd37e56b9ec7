package webhook

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
)

func TestParse(t *testing.T) {
	good := `{"name":"mine","url":"https://example.com/x?a=1","eventTypes":["io.turbocat.execution.failed.v1","io.turbocat.execution.step_*"],"filter":"data.status == \"FAILED\"","format":"binary","enabled":false,"id":"x","pending":7}`
	var w Webhook
	if err := w.parse(json.RawMessage(good), true); err != nil || w.Name != "mine" || len(w.EventTypes) != 2 || w.Format != "binary" || w.Enabled || w.Pending != 0 || w.ID != "" {
		t.Fatalf("%+v, %v", w, err)
	}
	for _, c := range []struct {
		body   string
		create bool
		want   string
	}{
		{`{}`, true, "url required"},
		{`{}`, false, ""},
		{`[]`, false, " bad_type"},
		{`{"url":null}`, false, "url required"},
		{`{"url":"ftp://x"}`, false, "url bad_value"},
		{`{"url":"https://"}`, false, "url bad_value"},
		{`{"url":"https://u:p@example.com"}`, false, "url bad_value"},
		{`{"url":"https://example.com/#x"}`, false, "url bad_value"},
		{`{"url":"https://example.com/a b"}`, false, "url bad_value"},
		{`{"url":"https://` + strings.Repeat("a", maxURL) + `"}`, false, "url out_of_range"},
		{`{"name":"` + strings.Repeat("a", maxName+1) + `"}`, false, "name out_of_range"},
		{`{"eventTypes":["io.turbocat.execution.fail.v1","*","io.turbocat.x*","x*",7]}`, false, "eventTypes[4] bad_type, eventTypes[0] bad_enum, eventTypes[2] bad_enum"},
		{`{"filter":"data.status =="}`, false, "filter bad_expression"},
		{`{"filter":"inputs.n > 1"}`, false, "filter bad_expression"},
		{`{"filter":"` + strings.Repeat("1+", expr.MaxLength) + `1"}`, false, "filter out_of_range"},
		{`{"format":"xml","enabled":1,"what":2}`, false, "what unknown_field, format bad_enum, enabled bad_type"},
	} {
		w := Webhook{Format: "structured", Enabled: true, URL: "https://example.com"}
		err := w.parse(json.RawMessage(c.body), c.create)
		var e *errs.Error
		var faults []string
		if errors.As(err, &e) {
			for _, d := range e.Details {
				faults = append(faults, d.Field+" "+string(d.Code))
			}
		}
		if got := strings.Join(faults, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.body, got, c.want)
		}
	}
	w = Webhook{Name: "n", URL: "https://example.com", Events: selection.Events{EventTypes: []string{"*"}, Filter: "true"}, Format: "binary"}
	if err := w.parse(json.RawMessage(`{"name":null,"eventTypes":null,"filter":null,"format":null,"enabled":null}`), false); err != nil || w.Name != "" || len(w.EventTypes) != 0 || w.Filter != "" || w.Format != "structured" || !w.Enabled {
		t.Errorf("null gives %+v, %v", w, err)
	}
}

func TestSecretsAreRotatedAndSealedAnew(t *testing.T) {
	keys := func(current string, old ...string) *seal.Keyring {
		k, err := seal.NewKeyring("webhooks", seal.Keys{Current: strings.Repeat(current, 32), Old: old})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a := keys("a")
	w := Webhook{ID: "w", UserID: "u"}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := w.issue(a, newSecret(), 0, now)
	second := w.issue(a, newSecret(), time.Hour, now)
	if got, err := w.secrets(a, now.Add(time.Hour-1)); err != nil || !slices.Equal(got, []string{second, first}) || !strings.HasPrefix(first, SecretPrefix) || first == second {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err := w.secrets(a, now.Add(time.Hour)); err != nil || !slices.Equal(got, []string{second}) {
		t.Fatalf("after the overlap %v, %v", got, err)
	}
	b := keys("b", strings.Repeat("a", 32))
	if changed, err := w.Reseal(b, w.UserID, w.ID); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if got, err := w.secrets(keys("b"), now); err != nil || !slices.Equal(got, []string{second, first}) {
		t.Fatalf("sealed anew %v, %v", got, err)
	}
	if changed, err := w.Reseal(b, w.UserID, w.ID); changed || err != nil {
		t.Fatal(changed, err)
	}
	third := w.issue(b, newSecret(), 0, now)
	if got, err := w.secrets(b, now); err != nil || !slices.Equal(got, []string{third}) {
		t.Fatalf("rotated without an overlap %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"url":"https://example.com","filter":"type == 'x'"}`)
	f.Add(`{"url":"http://[::1%25en0]/","eventTypes":["*"]}`)
	f.Fuzz(func(t *testing.T, body string) {
		var w Webhook
		if w.parse(json.RawMessage(body), true) != nil {
			return
		}
		if faultOfURL(w.URL) != "" {
			t.Errorf("%q passes", w.URL)
		}
		if _, err := w.Compile(); err != nil {
			t.Error(err)
		}
	})
}
