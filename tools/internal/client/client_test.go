package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
}

func refuse(w http.ResponseWriter, status int, code errs.Code, message string) {
	answer(w, status, fmt.Sprintf(`{"success":false,"error":{"code":%q,"message":%q,"details":[{"field":"f","message":"wrong"}]},"requestId":"r1"}`, code, message))
}

// serve runs an API with login and gives a client of it.
func serve(t *testing.T, routes map[string]http.HandlerFunc) (c *Client, logins *atomic.Int64) {
	t.Helper()
	logins = new(atomic.Int64)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/auth/login", func(w http.ResponseWriter, _ *http.Request) {
		n := logins.Add(1)
		answer(w, 200, fmt.Sprintf(`{"success":true,"data":{"user":{"id":"u1"},"accessToken":"t%d"}}`, n))
	})
	for pattern, handler := range routes {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v1"+path, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := Login(t.Context(), server.URL+"/", "a@b.c", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.patience = patience{silence: 200 * time.Millisecond, away: time.Second, pause: time.Millisecond}
	return c, logins
}

func TestAnExpiredTokenIsReplaced(t *testing.T) {
	c, logins := serve(t, map[string]http.HandlerFunc{"GET /executions/{id}": func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t2" {
			refuse(w, 401, errs.TokenExpired, "expired")
			return
		}
		answer(w, 200, `{"success":true,"data":{"id":"`+r.PathValue("id")+`","status":"COMPLETED"}}`)
	}})
	x, err := c.Execution(t.Context(), "x1")
	if err != nil || x.ID != "x1" || logins.Load() != 2 {
		t.Errorf("%+v, %v, %d logins", x, err, logins.Load())
	}
}

func TestListsAreReadToTheirEndAndFiltered(t *testing.T) {
	c, _ := serve(t, map[string]http.HandlerFunc{"GET /agents": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("search") != "N" || r.URL.Query().Get("page") != "" {
			refuse(w, 400, errs.Validation, "query "+r.URL.RawQuery)
			return
		}
		page := `{"success":true,"data":[%s],"meta":{"pagination":{"nextCursor":%s}}}`
		if r.URL.Query().Get("cursor") == "" {
			answer(w, 200, fmt.Sprintf(page, `{"id":"1","name":"N","userId":"other"},{"id":"2","name":"N","userId":"u1"},{"id":"3","name":"N2","userId":"u1"}`, `"c"`))
			return
		}
		answer(w, 200, fmt.Sprintf(page, `{"id":"4","name":"N","userId":"u1"}`, "null"))
	}})
	agents, err := c.Agents(t.Context(), "N")
	if err != nil || len(agents) != 2 || agents[0].ID != "2" || agents[1].ID != "4" {
		t.Errorf("%+v, %v", agents, err)
	}
}

func TestFaultsAreSentences(t *testing.T) {
	c, _ := serve(t, map[string]http.HandlerFunc{
		"GET /executions/bad":   func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, errs.Validation, "1 problem") },
		"GET /executions/fault": func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, errs.Internal, "our fault") },
		"GET /executions/html":  func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "<html>") },
		"GET /executions/other": func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, `{"message":"no"}`) },
	})
	for id, want := range map[string]string{
		"bad": "1 problem\n  f: wrong", "fault": "our fault\n  f: wrong (requestId r1)",
		"html": "is not Turbocat (HTTP 200)", "other": "is not Turbocat (HTTP 404)",
	} {
		_, err := c.Execution(t.Context(), id)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for address, want := range map[string]string{
		"localhost:3001": "is no address", "ftp://x": "is no address", "http://127.0.0.1:1": "nothing answers at http://127.0.0.1:1; start Turbocat with `make run`",
	} {
		if _, err := Login(t.Context(), address, "a@b.c", "p"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// event writes one event of an execution.
func event(w http.ResponseWriter, seq uint64, eventType, stepKey string) {
	body, _ := json.Marshal(map[string]any{"data": orchestrator.ExecutionEvent{Seq: seq, StepKey: stepKey}})
	_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", seq, eventType, body)
	w.(http.Flusher).Flush()
}

func TestFollowResumesWhereTheStreamEnded(t *testing.T) {
	var connects atomic.Int64
	var c *Client
	c, logins := serve(t, map[string]http.HandlerFunc{"GET /executions/x/events": func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get("Last-Event-ID")
		n := connects.Add(1)
		wants := map[int64]string{1: "", 2: "2", 3: "2", 4: "2", 5: "3"}
		if last != wants[n] {
			t.Errorf("connection %d begins behind %q, want %q", n, last, wants[n])
		}
		if n == 2 {
			refuse(w, 503, errs.DependencyUnavailable, "starting")
			return
		}
		if n == 3 {
			refuse(w, 401, errs.TokenExpired, "expired")
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, ": ping\n\nevent: token\ndata: {}\n\n")
		switch n {
		case 1:
			event(w, 1, orchestrator.EventStarted.String(), "")
			event(w, 2, orchestrator.EventStepStarted.String(), "a")
		case 4: // repeats one, then falls silent
			event(w, 2, orchestrator.EventStepStarted.String(), "a")
			event(w, 3, orchestrator.EventStepCompleted.String(), "a")
			<-r.Context().Done()
		default:
			event(w, 4, orchestrator.EventCompleted.String(), "")
			<-r.Context().Done() // the client leaves by itself after the last event
		}
	}})
	var seen []string
	err := c.Follow(t.Context(), "x", func(e Event) {
		seen = append(seen, fmt.Sprint(e.Data.Seq, e.Data.StepKey))
	})
	if err != nil || strings.Join(seen, " ") != "1 2a 3a 4" || logins.Load() != 2 {
		t.Errorf("%v, saw %v, %d logins", err, seen, logins.Load())
	}
}

func TestFollowGivesUp(t *testing.T) {
	c, _ := serve(t, map[string]http.HandlerFunc{
		"GET /executions/gone/events": func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, errs.NotFound, "no such execution") },
		"GET /executions/down/events": func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, errs.DependencyUnavailable, "down") },
		"GET /executions/mute/events": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	})
	c.patience = patience{silence: 500 * time.Millisecond, away: time.Second, pause: time.Millisecond}
	for id, want := range map[string]string{"gone": "no such execution", "down": "down", "mute": "nothing answers at " + c.URL()} {
		if err := c.Follow(t.Context(), id, func(Event) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Follow(ctx, "down", func(Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add("id: 1\nevent: io.turbocat.execution.started.v1\ndata: {\"data\":{\"seq\":1}}\n\n")
	f.Add(":\n\nid\ndata: {\ndata: }\n\n")
	f.Fuzz(func(_ *testing.T, stream string) {
		_ = events(strings.NewReader(stream), func() {}, func(uint64, Event) bool { return true })
	})
}
