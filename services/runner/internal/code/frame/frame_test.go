package frame

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzReader(f *testing.F) {
	f.Add([]byte("O\x00\x00\x00\x021"), []byte("body"))
	f.Add([]byte("L\xff\xff\xff\xff"), []byte(""))
	f.Fuzz(func(t *testing.T, sent, body []byte) {
		const limit = 64
		limits := Limits{Log: limit, Output: limit}
		frames := NewReader(bytes.NewReader(sent), limits)
		for {
			kind, got, err := frames.Next()
			if err == nil {
				if _, ok := limits[kind]; !ok || len(got) > limit {
					t.Fatalf("kind %q with %d bytes came through", kind, len(got))
				}
				continue
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, ErrBroken) {
				t.Fatalf("got %v, wanted io.EOF or ErrBroken", err)
			}
			break
		}
		var wire bytes.Buffer
		if err := Write(&wire, Log, body); err != nil {
			t.Fatal(err)
		}
		kind, got, err := NewReader(&wire, Limits{Log: len(body)}).Next()
		if err != nil || kind != Log || !bytes.Equal(got, body) {
			t.Fatalf("wrote %q, read %q %q, %v", body, kind, got, err)
		}
	})
}
