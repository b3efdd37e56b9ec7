package rawjson_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"turbocat.io/pkg/rawjson"
)

func TestMeasures(t *testing.T) {
	for _, c := range []struct {
		raw           string
		depth, values int
		numbers       []string
	}{
		{`1`, 0, 1, []string{"1"}},
		{`"{[1,2]}"`, 0, 1, nil},
		{`"a\"{\\"`, 0, 1, nil},
		{`{}`, 1, 2, nil},
		{`[1,-2.5e+7,"3",[true,{"4":[5]}]]`, 4, 9, []string{"1", "-2.5e+7", "5"}},
		{strings.Repeat("[", 300) + strings.Repeat("]", 300), 300, 301, nil},
	} {
		raw := json.RawMessage(c.raw)
		if got := rawjson.Depth(raw); got != c.depth {
			t.Errorf("%s: depth %d, want %d", c.raw, got, c.depth)
		}
		if got := rawjson.Values(raw); got != c.values {
			t.Errorf("%s: %d values, want %d", c.raw, got, c.values)
		}
		if got := slices.Collect(rawjson.Numbers(raw)); !slices.Equal(got, c.numbers) {
			t.Errorf("%s: numbers %q, want %q", c.raw, got, c.numbers)
		}
	}
	for n := range rawjson.Numbers(json.RawMessage(`[1,2,3]`)) {
		if n != "1" {
			t.Errorf("%s after the loop has ended", n)
		}
		break
	}
}

// FuzzMeasures compares what is measured with what encoding/json reads.
func FuzzMeasures(f *testing.F) {
	f.Add([]byte(`{"a\"":[1,-2.5e+7,{}],"b":"{\\","c":[[],null]}`))
	f.Add([]byte(`0`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		depth, values, numbers := rawjson.Depth(raw), rawjson.Values(raw), slices.Collect(rawjson.Numbers(raw))
		if !json.Valid(raw) {
			return
		}
		want := measured{}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		want.value(t, dec, 0)
		if depth != want.depth || values != want.values || !slices.Equal(numbers, want.numbers) {
			t.Errorf("%s: depth %d, %d values, numbers %q; want %+v", raw, depth, values, numbers, want)
		}
	})
}

type measured struct {
	depth, values int
	numbers       []string
}

func (m *measured) value(t *testing.T, dec *json.Decoder, depth int) {
	token, err := dec.Token()
	if err != nil {
		t.Fatal(err)
	}
	m.values++
	switch v := token.(type) {
	case json.Number:
		m.numbers = append(m.numbers, v.String())
	case json.Delim:
		m.depth = max(m.depth, depth+1)
		if !dec.More() {
			m.values++
		}
		for dec.More() {
			if v == '{' {
				if _, err := dec.Token(); err != nil {
					t.Fatal(err)
				}
			}
			m.value(t, dec, depth+1)
		}
		if _, err := dec.Token(); err != nil {
			t.Fatal(err)
		}
	}
}
