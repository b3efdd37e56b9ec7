package callbook

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCallsAreWrittenDown(t *testing.T) {
	b := New()
	server := httptest.NewServer(b)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	call := func(ctx context.Context, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k")
		req.Header.Set("X-Turbocat-Attempt", "2")
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(raw)
	}
	changed := b.Changed()
	if status, body := call(t.Context(), "/x/step?delayMs=30", `{"n":1}`); status != 200 || body != `{"n":1}` {
		t.Errorf("answered %d %s", status, body)
	}
	<-changed
	if status, _ := call(t.Context(), "/x/step", `no JSON`); status != 400 {
		t.Errorf("a body that is no JSON: %d", status)
	}
	if status, _ := call(t.Context(), "/x", `1`); status != 404 {
		t.Errorf("a path without a step: %d", status)
	}
	if status, _ := call(t.Context(), "/x/loop/3?refuse=2", `1`); status != 503 {
		t.Errorf("a second attempt, when two are refused: %d", status)
	}
	if status, _ := call(t.Context(), "/x/loop/3?refuse=1", `1`); status != 200 {
		t.Errorf("a second attempt, when one is refused: %d", status)
	}
	// A caller that goes away is in the book too.
	changed = b.Changed()
	leaving, leave := context.WithCancel(t.Context())
	go func() {
		<-changed
		leave()
	}()
	if status, text := call(leaving, "/x/slow?delayMs=60000", `1`); status != 0 {
		t.Errorf("answered %d %s", status, text)
	}

	for deadline := time.Now().Add(10 * time.Second); ; {
		calls := b.Calls()
		if len(calls) == 5 && !calls[4].Ended.IsZero() {
			if first := calls[2]; first.Step != "loop/3" {
				t.Errorf("written down as %+v", first)
			}
			first := calls[0]
			if first.Execution != "x" || first.Step != "step" || first.Key != "k" || first.Attempt != 2 || first.Ended.Sub(first.Began) < 30*time.Millisecond {
				t.Errorf("written down as %+v", first)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the book has %+v", calls)
		}
		<-time.After(5 * time.Millisecond)
	}
}
