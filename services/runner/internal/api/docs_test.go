package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/services/runner/internal/executor/executortest"
)

// TestExamplesOfTheDocumentation runs every example of docs/agents/api.md against a server that answers as the example has it.
func TestExamplesOfTheDocumentation(t *testing.T) {
	examples := executortest.Examples(t, "../../../../docs/agents/api.md", catalog.AgentAPI)
	if len(examples) < 3 {
		t.Fatalf("there are %d examples", len(examples))
	}
	for _, e := range examples {
		var script struct {
			Server map[string]struct {
				Status int
				Body   any
			}
		}
		if err := json.Unmarshal([]byte(e.Text), &script); err != nil {
			t.Fatal(err)
		}
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			request := strings.TrimSpace(r.Method + " " + r.RequestURI + " " + string(body))
			answer, known := script.Server[request]
			if !known {
				t.Errorf("%s\nasks for %s", e.Text, request)
			}
			w.Header().Set("Content-Type", "application/json")
			if answer.Status > 0 {
				w.WriteHeader(answer.Status)
			}
			_ = json.NewEncoder(w).Encode(answer.Body)
		})
		raw, err := local(t).Run(context.Background(), task(s, strings.ReplaceAll(string(e.Config), "https://api.example.com", s.URL), string(e.Input)))
		if err != nil {
			t.Errorf("%s\ngives %v", e.Text, err)
			continue
		}
		var got struct {
			Status int             `json:"status"`
			Body   json.RawMessage `json:"body"`
			Pages  int             `json:"pages,omitempty"`
			More   *bool           `json:"more,omitempty"`
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		if shown, err := json.Marshal(got); err != nil || !e.Gives(shown) {
			t.Errorf("%s\ngives %s", e.Text, raw)
		}
	}
}
