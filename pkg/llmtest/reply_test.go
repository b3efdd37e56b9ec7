package llmtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/pkg/llmtest"
)

const streamed = `,"stream":true`

func TestErrorsAreWhatTheStatusHas(t *testing.T) {
	for _, tc := range []struct {
		path  string
		reply llmtest.Reply
		want  string
	}{
		{chat, llmtest.Reply{Status: 400, ErrorCode: "context_length_exceeded", Error: "too long"}, `{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}`},
		{chat, llmtest.Reply{Status: 404}, `{"error":{"message":"Not Found","type":"invalid_request_error","param":null,"code":"model_not_found"}}`},
		{chat, llmtest.Reply{Status: 429, RetryAfter: "7"}, `{"error":{"message":"Too Many Requests","type":"requests","param":null,"code":"rate_limit_exceeded"}}`},
		{chat, llmtest.Reply{Status: 429, ErrorType: "insufficient_quota", ErrorCode: "insufficient_quota"}, `{"error":{"message":"Too Many Requests","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`},
		{chat, llmtest.Reply{Status: 503}, `{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}`},
		{messages, llmtest.Reply{Status: 400}, `{"type":"error","error":{"type":"invalid_request_error","message":"Bad Request"},"request_id":"req_1"}`},
		{messages, llmtest.Reply{Status: 404}, `{"type":"error","error":{"type":"not_found_error","message":"Not Found"},"request_id":"req_1"}`},
		{messages, llmtest.Reply{Status: 429, RetryAfter: "7", Error: "slow down"}, `{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"req_1"}`},
		{messages, llmtest.Reply{Status: 500, ErrorType: "odd_error"}, `{"type":"error","error":{"type":"odd_error","message":"Internal Server Error"},"request_id":"req_1"}`},
		{messages, llmtest.Reply{Status: 502}, `{"type":"error","error":{"type":"api_error","message":"Bad Gateway"},"request_id":"req_1"}`},
		{messages, llmtest.Reply{Status: 529}, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}`},
	} {
		for _, settings := range []string{``, streamed} {
			s := llmtest.New(t, replies(tc.reply))
			answer := ask(t, s, tc.path, question(tc.path, settings))
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			h := answer.Header
			if answer.StatusCode != tc.reply.Status || string(body) != tc.want || h.Get("Retry-After") != tc.reply.RetryAfter || h.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %v\n%s\nwant %d\n%s", tc.path, answer.StatusCode, h, body, tc.reply.Status, tc.want)
			}
		}
	}
}

func TestStreamErrorOfAnAnswerThatIsNotStreamed(t *testing.T) {
	for path, want := range map[string]int{chat: 500, messages: 529} {
		s := llmtest.New(t, replies(llmtest.Reply{Text: "Hello", StreamError: true}))
		if status, body := post(t, s, path, question(path, ``)); status != want || strings.Contains(body, "Hello") {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

func TestStopAndUsage(t *testing.T) {
	call := []llmtest.Call{{Name: "now"}}
	for _, tc := range []struct {
		reply          llmtest.Reply
		finish, stop   string
		prompt, output string
	}{
		{llmtest.Reply{}, "stop", "end_turn", "0", "0"},
		{llmtest.Reply{Text: "one two three", Input: 4}, "stop", "end_turn", "4", "3"},
		{llmtest.Reply{Text: "one", Output: 9}, "stop", "end_turn", "0", "9"},
		{llmtest.Reply{Text: "one two", Stop: "length"}, "length", "max_tokens", "0", "2"},
		{llmtest.Reply{Text: "no", Stop: "refusal"}, "content_filter", "refusal", "0", "1"},
		{llmtest.Reply{Text: "one", Calls: call}, "tool_calls", "tool_use", "0", "3"},
		{llmtest.Reply{Calls: call, Stop: "length"}, "length", "max_tokens", "0", "2"},
	} {
		s := llmtest.New(t, replies(tc.reply))
		for _, settings := range []string{``, streamed + `,"stream_options":{"include_usage":true}`} {
			_, got := post(t, s, chat, question(chat, settings))
			for _, want := range []string{`"finish_reason":"` + tc.finish + `"`, `"prompt_tokens":` + tc.prompt + `,"completion_tokens":` + tc.output + `,`} {
				if !strings.Contains(got, want) {
					t.Errorf("%+v: %s\nwant %s", tc.reply, got, want)
				}
			}
		}
		for _, settings := range []string{``, streamed} {
			_, got := post(t, s, messages, question(messages, settings))
			for _, want := range []string{`"stop_reason":"` + tc.stop + `"`, `"input_tokens":` + tc.prompt + `,`, `"output_tokens":` + tc.output + `}`} {
				if !strings.Contains(got, want) {
					t.Errorf("%+v: %s\nwant %s", tc.reply, got, want)
				}
			}
		}
	}
}

func TestCallsAreCompleted(t *testing.T) {
	s := llmtest.New(t, replies(llmtest.Reply{Calls: []llmtest.Call{{Name: "now"}, {Name: "now"}}}))
	for _, tc := range []struct{ path, want string }{
		{chat, `[{"id":"call_1_1","type":"function","function":{"name":"now","arguments":"{}"}},{"id":"call_1_2",`},
		{messages, `[{"type":"tool_use","id":"toolu_2_1","name":"now","input":{}},{"type":"tool_use","id":"toolu_2_2",`},
	} {
		if _, got := post(t, s, tc.path, question(tc.path, ``)); !strings.Contains(got, tc.want) {
			t.Errorf("%s\nwant %s", got, tc.want)
		}
	}
}

// What models write need not be JSON; streams have it as it is.
func TestStreamsArgumentsThatAreNoJSON(t *testing.T) {
	s := llmtest.New(t, replies(llmtest.Reply{Calls: []llmtest.Call{{Name: "now", Arguments: `{"a`}}, Stop: "length"}))
	for path, want := range map[string]string{chat: `"arguments":"{\"a"`, messages: `"partial_json":"{\"a"`} {
		if _, got := post(t, s, path, question(path, streamed)); !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestTruncate(t *testing.T) {
	text := llmtest.Reply{Pieces: []string{"one ", "two ", "three ", "four"}, Calls: []llmtest.Call{{Name: "now", Arguments: `{"zone":"UTC"}`}}, Truncate: true}
	calls := text
	calls.Pieces = nil
	for _, tc := range []struct {
		path, settings string
		reply          llmtest.Reply
		has, hasNot    string
	}{
		{chat, streamed, text, `{"content":"two "}`, `three`},
		{chat, streamed, calls, `{"arguments":"{\"zone"}`, `UTC`},
		{chat, streamed, llmtest.Reply{Truncate: true}, `"role":"assistant"`, `[DONE]`},
		{chat, ``, text, `{"id":"chatcmpl-1"`, `usage`},
		{messages, streamed, text, `"text":"two "`, `three`},
		{messages, streamed, calls, `"partial_json":"{\"zone"`, `UTC`},
		{messages, streamed, llmtest.Reply{Truncate: true}, `message_start`, `message_stop`},
		{messages, ``, text, `{"id":"msg_1"`, `usage`},
	} {
		s := llmtest.New(t, replies(tc.reply))
		answer := ask(t, s, tc.path, question(tc.path, tc.settings))
		got, err := io.ReadAll(answer.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || answer.StatusCode != http.StatusOK || !strings.Contains(string(got), tc.has) || strings.Contains(string(got), tc.hasNot) {
			t.Errorf("%s%s: %v after %d\n%s", tc.path, tc.settings, err, answer.StatusCode, got)
		}
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	for path, last := range map[string]string{chat: `"content":"one"`, messages: `"text":"one"`} {
		for _, settings := range []string{``, streamed} {
			s := llmtest.New(t, replies(llmtest.Reply{Pieces: []string{"one", "two"}, Hang: true}))
			before := goleak.IgnoreCurrent()
			ctx, leave := context.WithCancel(t.Context())
			over := func(r *http.Request) { *r = *r.WithContext(ctx) }
			if settings == streamed {
				answer := ask(t, s, path, question(path, settings), over)
				got := readUntil(t, answer.Body, last)
				if strings.Contains(got, "two") {
					t.Errorf("%s: %s", path, got)
				}
				leave()
			} else {
				asked := make(chan error, 1)
				go func() {
					r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader(question(path, ``)))
					if err == nil {
						r.Header.Set("Content-Type", "application/json")
						r.Header.Set("Anthropic-Version", "2023-06-01")
						_, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
					}
					asked <- err
				}()
				for len(asked) == 0 && !hangs() {
					runtime.Gosched()
				}
				leave()
				if err := <-asked; !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", path, err)
				}
			}
			if err := goleak.Find(before); err != nil {
				t.Errorf("%s%s: the server still waits: %v", path, settings, err)
			}
		}
	}
}

// hangs tells whether a server keeps a client waiting.
func hangs() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "llmtest.(*Server).hang")
}

// A client that waits for ever does not keep the test from ending.
func TestHangEndsWithTheServer(t *testing.T) {
	var answer *http.Response
	t.Run("server", func(t *testing.T) {
		s := llmtest.New(t, replies(llmtest.Reply{Pieces: []string{"one"}, Hang: true}))
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, s.URL+chat, strings.NewReader(question(chat, streamed)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
	})
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v after %s", err, got)
	}
}

// readUntil reads what comes until the end of the event with the text.
func readUntil(t *testing.T, body io.Reader, text string) string {
	t.Helper()
	var got strings.Builder
	for b := make([]byte, 256); !strings.Contains(got.String(), text) || !strings.HasSuffix(got.String(), "\n\n"); {
		n, err := body.Read(b)
		got.Write(b[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, got.String())
		}
	}
	return got.String()
}

func TestServesManyAtOnce(t *testing.T) {
	s := llmtest.New(t, func(r llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: r.Provider} })
	var clients sync.WaitGroup
	for range 10 {
		for path, want := range map[string]string{chat: "openai", messages: "anthropic"} {
			clients.Go(func() {
				if status, got := post(t, s, path, question(path, ``)); status != http.StatusOK || !strings.Contains(got, want) {
					t.Errorf("%d %s", status, got)
				}
			})
		}
	}
	clients.Wait()
	for i, r := range s.Requests() {
		if r.N != i+1 {
			t.Errorf("request %d has N %d", i+1, r.N)
		}
	}
	if n := len(s.Requests()); n != 20 {
		t.Errorf("%d requests", n)
	}
}

// failing is a test that is told of its mistakes.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Errorf(string, ...any) { f.failed = true }

func TestRepliesThatNoModelGives(t *testing.T) {
	for _, reply := range []llmtest.Reply{
		{Stop: "stop"},
		{Calls: []llmtest.Call{{ID: "a"}}},
		{Calls: []llmtest.Call{{Name: "now", Arguments: "["}}},
	} {
		test := &failing{TB: t}
		s := llmtest.New(test, replies(reply))
		if status, got := post(t, s, messages, question(messages, ``)); status != http.StatusInternalServerError || !test.failed {
			t.Errorf("%+v: %d %s", reply, status, got)
		}
	}
}

func TestKnowsNoOtherPaths(t *testing.T) {
	s := llmtest.New(t, replies(llmtest.Reply{}))
	if status, _ := post(t, s, "/chat/completions", question(chat, ``)); status != http.StatusNotFound {
		t.Errorf("another path: %d", status)
	}
	get := func(r *http.Request) { r.Method = http.MethodGet }
	if status, _ := post(t, s, chat, ``, get); status != http.StatusMethodNotAllowed {
		t.Errorf("another method: %d", status)
	}
}
