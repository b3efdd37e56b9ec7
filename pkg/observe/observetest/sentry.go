package observetest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Fault is an event that was told to a Sentry.
type Fault struct {
	Level, Message, Release, Environment string
	Tags                                 map[string]string
	Exception                            []struct{ Type, Value string }
	Body                                 string // all that came
}

// Sentry keeps what is told to DSN. It is safe for concurrent use.
type Sentry struct {
	DSN  string
	told chan Fault
}

// NewSentry starts one that ends with the test.
func NewSentry(t testing.TB) *Sentry {
	t.Helper()
	s := &Sentry{told: make(chan Fault, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzip, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Errorf("told is: %v", err)
				return
			}
			body = unzip
		}
		raw, err := io.ReadAll(body)
		if err != nil || r.URL.Path != "/api/42/envelope/" {
			t.Errorf("told at %s: %v", r.URL.Path, err)
		}
		s.take(string(raw))
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)
	s.DSN = strings.Replace(server.URL, "http://", "http://key@", 1) + "/42"
	return s
}

// take reads an envelope: lines of JSON, of which those with a level are events.
func (s *Sentry) take(body string) {
	lines := bufio.NewScanner(strings.NewReader(body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := Fault{Body: body}
		if json.Unmarshal(lines.Bytes(), &f) == nil && f.Level != "" {
			s.told <- f
		}
	}
}

// Next gives what is told next.
func (s *Sentry) Next(t testing.TB) Fault {
	t.Helper()
	select {
	case f := <-s.told:
		return f
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
	return Fault{}
}

// More tells how much has come that nobody has looked at.
func (s *Sentry) More() int { return len(s.told) }
