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

const (
	chat     = "/v1/chat/completions"
	messages = "/v1/messages"
)

// question is one that each provider takes; settings are put behind it.
func question(path, settings string) string {
	if path == messages {
		return `{"model":"claude","max_tokens":50,"messages":[{"role":"user","content":"Hi"}]` + settings + `}`
	}
	return `{"model":"gpt","messages":[{"role":"user","content":"Hi"}]` + settings + `}`
}

func replies(reply llmtest.Reply) func(llmtest.Request) llmtest.Reply {
	return func(llmtest.Request) llmtest.Reply { return reply }
}

// ask sends a body as a client of the provider does; edit may change the request.
func ask(t *testing.T, s *llmtest.Server, path, body string, edit ...func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if path == messages {
		r.Header.Set("X-Api-Key", "sk-1")
		r.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		r.Header.Set("Authorization", "Bearer sk-1")
	}
	for _, e := range edit {
		e(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// post gives the status and all that came.
func post(t *testing.T, s *llmtest.Server, path, body string, edit ...func(*http.Request)) (int, string) {
	t.Helper()
	answer := ask(t, s, path, body, edit...)
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%v after %s", err, all)
	}
	return answer.StatusCode, string(all)
}
