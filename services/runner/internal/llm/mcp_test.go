package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/llmtest"
	"turbocat.io/services/runner/internal/llm"
)

// tools is an MCP server with some tools, and the keys that it was sent.
type tools struct {
	url  string
	mu   sync.Mutex
	keys map[string]bool
}

func newTools(t *testing.T) *tools {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	type word struct {
		Word string `json:"word"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "reverse", Description: "turns a word around"}, func(_ context.Context, _ *mcp.CallToolRequest, in word) (*mcp.CallToolResult, any, error) {
		runes := []rune(in.Word)
		for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
			runes[i], runes[j] = runes[j], runes[i]
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(runes)}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "length", Description: "counts"}, func(_ context.Context, _ *mcp.CallToolRequest, in word) (*mcp.CallToolResult, map[string]int, error) {
		return nil, map[string]int{"length": len(in.Word)}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "fail", Description: "fails"}, func(context.Context, *mcp.CallToolRequest, word) (*mcp.CallToolResult, any, error) {
		return nil, nil, errors.New("the dictionary is lost")
	})
	mcp.AddTool(server, &mcp.Tool{Name: "with.dot", Description: "can not be offered"}, func(context.Context, *mcp.CallToolRequest, word) (*mcp.CallToolResult, any, error) {
		return nil, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	s := &tools{keys: map[string]bool{}}
	listening := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.keys[r.Header.Get("X-Key")] = true
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(listening.Close)
	s.url = listening.URL + "/mcp"
	return s
}

func TestMCP(t *testing.T) {
	each(t, func(t *testing.T, p object) {
		s := newTools(t)
		d := newDesk(t, func(r llmtest.Request) llmtest.Reply {
			if r.N == 1 {
				return llmtest.Reply{Calls: []llmtest.Call{
					{ID: "a", Name: "words_reverse", Arguments: `{"word":"abc"}`},
					{ID: "b", Name: "words_length", Arguments: `{"word":"abc"}`},
					{ID: "c", Name: "words_fail", Arguments: `{"word":"abc"}`},
					{ID: "d", Name: "words_reverse", Arguments: `{"word":7}`},
				}}
			}
			return llmtest.Reply{Text: "cba"}
		})
		got := d.text(only(p, object{"tools": []object{{"mcp": object{"name": "words", "url": s.url, "headers": object{"X-Key": "k {{secrets.KEY}}"}}}}}), `{}`)
		if got.Text != "cba" || len(got.ToolCalls) != 3 {
			t.Errorf("it gives %+v", got)
		}
		var offered, told []string
		for _, o := range d.server.Requests()[0].Tools {
			offered = append(offered, o.Name)
		}
		if strings.Join(offered, " ") != "words_fail words_length words_reverse" {
			t.Errorf("it offers %v", offered)
		}
		d.logs(`the tool "with.dot" of the MCP server words is left out`)
		for _, m := range d.server.Requests()[1].Messages {
			for _, r := range m.Results {
				told = append(told, r.Text)
			}
		}
		if len(told) != 4 || told[0] != `"cba"` || told[1] != `{"length":3}` || told[2] != "CODE_ERROR: the dictionary is lost" || !strings.Contains(told[3], "do not fit its parameters") {
			t.Errorf("the model is told %q", told)
		}
		if len(s.keys) != 1 || !s.keys["k the-secret"] {
			t.Errorf("the server is sent the keys %v", s.keys)
		}
		for _, c := range d.book.begun[1:4] {
			if c.Kind != orchestrator.CallOfMCP || c.N < 2 || c.N > 4 {
				t.Errorf("the ledger was told %+v", c)
			}
		}
	})
	t.Run("allowed ones", func(t *testing.T) {
		s := newTools(t)
		d := newDesk(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "a"} })
		d.text(object{"tools": []object{{"mcp": object{"name": "w", "url": s.url, "allow": []string{"length"}}}}}, `{}`)
		if o := d.server.Requests()[0].Tools; len(o) != 1 || o[0].Name != "w_length" {
			t.Errorf("it offers %+v", o)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		d := newDesk(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "a"} })
		server := func(url string) object {
			return object{"tools": []object{{"mcp": object{"name": "w", "url": url}}}}
		}
		d.fails(server("http://127.0.0.1:1/mcp"), runner.CodeHTTPError, "the MCP server w can not be used: ")
		d.fails(server("http://10.0.0.1/mcp"), runner.CodeHTTPError, "private or reserved")
		if len(d.book.begun) > 0 {
			t.Error("a model was asked")
		}
	})
	t.Run("a redirect to another host", func(t *testing.T) {
		leaked := make(chan string, 10)
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			leaked <- r.Header.Get("X-Key")
			w.WriteHeader(http.StatusTeapot)
		}))
		t.Cleanup(other.Close)
		here := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
		t.Cleanup(here.Close)
		d := newDesk(t, func(llmtest.Request) llmtest.Reply { return llmtest.Reply{Text: "a"} })
		d.fails(object{"tools": []object{{"mcp": object{"name": "w", "url": here.URL, "headers": object{"X-Key": "{{secrets.KEY}}"}}}}}, runner.CodeHTTPError, "can not be used")
		if key := <-leaked; key != "" {
			t.Errorf("the other host is sent %q", key)
		}
	})
}

// TestToolsThatAreRecorded looks at what the ledger keeps of a tool of an MCP server.
func TestToolsThatAreRecorded(t *testing.T) {
	s := newTools(t)
	d := newDesk(t, func(r llmtest.Request) llmtest.Reply {
		if r.N == 1 {
			return llmtest.Reply{Calls: []llmtest.Call{{ID: "a", Name: "w_length", Arguments: `{"word":"abcd"}`}}}
		}
		return llmtest.Reply{Text: "4"}
	})
	got := d.text(object{"tools": []object{{"mcp": object{"name": "w", "url": s.url}}}}, `{}`)
	if got.ToolCalls[0] != (llm.ToolCall{Name: "w_length", CallID: "2"}) {
		t.Errorf("the calls are %+v", got.ToolCalls)
	}
	if in, out := d.book.begun[1].Input, d.book.of(2).Output; string(in) != `{"word":"abcd"}` || string(out) != `{"length":4}` || !json.Valid(out) {
		t.Errorf("%s gives %s", in, out)
	}
}
