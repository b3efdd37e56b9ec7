package llmtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/pkg/llmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// post sends a body as a client of the provider does, and gives the status and what came.
func post(t *testing.T, s *llmtest.Server, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if path == "/v1/messages" {
		r.Header.Set("X-Api-Key", "k")
		r.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		r.Header.Set("Authorization", "Bearer k")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%v after %s", err, b)
	}
	return answer.StatusCode, string(b)
}

func TestAnswersBothProviders(t *testing.T) {
	s := llmtest.New(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "Hello there!", Input: 3} })
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`,
		"/v1/messages":         `{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}`,
	} {
		if status, got := post(t, s, path, body); status != 200 || !strings.Contains(got, "Hello there!") {
			t.Errorf("%s: %d %s", path, status, got)
		}
		if status, got := post(t, s, path, body[:len(body)-1]+`,"stream":true}`); status != 200 || !strings.Contains(got, "Hello ") {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	if got := s.Requests(); len(got) != 4 || got[0].N != 1 || got[3].N != 4 || got[0].Messages[0].Text != "Hi" || got[0].Key != "k" {
		t.Errorf("requests: %+v", got)
	}
}
