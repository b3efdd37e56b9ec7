// Package llmtest plays providers of large language models for tests: OpenAI's Chat Completions and
// Anthropic's Messages, whole and streamed, in the schemas that they publish
// (https://platform.openai.com/docs/api-reference/chat, https://docs.anthropic.com/en/api/messages).
//
// What a provider refuses is refused, with 400 and in its shape, so a test whose requests are answered sent
// what the provider takes. Conversations are of texts, images, calls of functions and their results; other
// content that the schemas have (audio, documents, thinking, tools that run at the provider) is refused too.
// Settings that change no answer here are known by name, and not looked into. What depends on the model (its
// name, how much it takes, which settings it has) is not played.
package llmtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Server plays providers of models. It is safe for concurrent use.
type Server struct {
	// URL is the base of Anthropic's API; that of OpenAI's is URL + "/v1".
	URL string

	t      testing.TB
	answer func(Request) Reply
	closed chan struct{}

	mu       sync.Mutex
	requests []Request
}

// Request is what a client asked, in one form for both providers.
type Request struct {
	Provider  string // openai or anthropic
	Key       string // of Authorization: Bearer (OpenAI) or x-api-key (Anthropic)
	Model     string
	System    string // several texts, here and in messages, are joined by a line feed
	Messages  []Message
	Tools     []Tool
	Stream    bool
	MaxTokens int64
	Body      json.RawMessage // as it came, which of a refused request need not be JSON
	N         int             // counts the server's requests from 1
}

// Message is one turn of a conversation.
type Message struct {
	Role    string // user, assistant or tool; a user's message with results counts as tool
	Text    string
	Images  []string // URLs; what came as base64 is a data URL
	Calls   []Call
	Results []Result
}

// Tool is a function that the model may call.
type Tool struct {
	Name, Description string
	Parameters        json.RawMessage
}

// Call is a model's call of a tool. Arguments is JSON text.
type Call struct{ ID, Name, Arguments string }

// Result answers a call. OpenAI's format has no Failed.
type Result struct {
	ID, Text string
	Failed   bool
}

// Reply is what the model answers, or how it fails. The zero Reply is an answer without text.
type Reply struct {
	Text   string
	Pieces []string // as which the text is streamed, in Text's place; nil cuts Text
	// Calls come after the text; without an ID they are given one, without Arguments they have {}. Streams have
	// the arguments in pieces: with OpenAI several calls take turns, told apart by their index, as its schema
	// allows; with Anthropic one ends before the next begins.
	Calls  []Call
	Stop   string // length or refusal; "" is the end of the answer, or of the turn when there are Calls
	Input  int64  // tokens of the request
	Output int64  // tokens of the answer; 0 counts words

	Status                      int    // of HTTP; other than 0 and 200 it is an error
	ErrorType, ErrorCode, Error string // "" is what the provider has for Status; the code is OpenAI's alone
	RetryAfter                  string // the header

	// In an answer that is not streamed, StreamError is the error alone, Truncate ends it after half of its bytes,
	// and Hang comes before it.
	StreamError bool // after the first piece comes an error, and nothing more
	Truncate    bool // the connection ends after the first half of the text's pieces, or of the arguments' without a text
	Hang        bool // after the first piece nothing comes until the client goes away
}

// New starts a server that lasts as long as the test, and asks answer, from many goroutines, for what it replies
// to each request that the provider would take. Keys are not checked: not all servers that speak these formats
// have them, and answer can reply with Status 401.
func New(t testing.TB, answer func(Request) Reply) *Server {
	t.Helper()
	s := &Server{t: t, answer: answer, closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, &openai{}) })
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, &anthropic{}) })
	server := httptest.NewServer(mux)
	s.URL = server.URL
	t.Cleanup(func() {
		close(s.closed)
		server.Close()
	})
	return s
}

// Requests gives those that came so far, in their order, also those that were refused: of these as much as was understood.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// format is how a provider speaks; one is made for each request.
type format interface {
	// read fills a request as far as it understands it.
	read(http.Header, *Request) *fault
	// whole is the answer that is not streamed.
	whole(Request, Reply) any
	stream(Request, Reply) []event
	// overloaded is the status that would have told what an error in a stream tells.
	overloaded() int
	// failure completes an error by what the provider has for its status, and gives its body.
	failure(fault) any
	failureEvent(fault) event
	requestID() string // the header that has it
}

// event is one of a stream. Pieces are those with a part of the answer.
type event struct {
	name  string
	data  []byte
	piece bool
}

// fault is an error of the provider; what is empty is as its status has it.
type fault struct {
	status        int
	kind, message string
	param, code   string // OpenAI's
	request       string // the id, but in streams
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, f format) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	request := Request{Body: body}
	refused := f.read(r.Header, &request)
	s.mu.Lock()
	request.N = len(s.requests) + 1
	s.requests = append(s.requests, request)
	s.mu.Unlock()

	id := fmt.Sprintf("req_%d", request.N)
	w.Header().Set(f.requestID(), id)
	if refused != nil {
		refused.request = id
		refuse(w, f, *refused)
		return
	}
	reply, err := complete(s.answer(request), request)
	if err != nil {
		s.t.Errorf("llmtest: reply to request %d: %v", request.N, err)
		refuse(w, f, fault{status: http.StatusInternalServerError, message: err.Error(), request: id})
		return
	}
	if reply.RetryAfter != "" {
		w.Header().Set("Retry-After", reply.RetryAfter)
	}
	failed := fault{status: reply.Status, kind: reply.ErrorType, code: reply.ErrorCode, message: reply.Error, request: id}
	switch {
	case reply.Status != http.StatusOK:
		refuse(w, f, failed)
	case request.Stream:
		s.streams(w, r, f, request, reply)
	case reply.Hang:
		s.hang(r)
	case reply.StreamError:
		failed.status = f.overloaded()
		refuse(w, f, failed)
	default:
		send(w, http.StatusOK, encode(f.whole(request, reply)), reply.Truncate)
	}
}

// complete says what the reply left open.
func complete(reply Reply, request Request) (Reply, error) {
	if reply.Status == 0 {
		reply.Status = http.StatusOK
	}
	if reply.Pieces == nil {
		reply.Pieces = pieces(reply.Text)
	} else {
		reply.Text = strings.Join(reply.Pieces, "")
	}
	if !slices.Contains([]string{"", "length", "refusal"}, reply.Stop) {
		return reply, fmt.Errorf("no Stop %q", reply.Stop)
	}
	id, anthropic := "call_%d_%d", request.Provider == "anthropic"
	if anthropic {
		id = "toolu_%d_%d"
	}
	reply.Calls = slices.Clone(reply.Calls)
	for i := range reply.Calls {
		call := &reply.Calls[i]
		if call.Name == "" {
			return reply, errors.New("a call names no tool")
		}
		if call.ID == "" {
			call.ID = fmt.Sprintf(id, request.N, i+1)
		}
		if call.Arguments == "" {
			call.Arguments = "{}"
		}
		if anthropic && !request.Stream && !isObject(json.RawMessage(call.Arguments)) {
			return reply, fmt.Errorf("arguments of %s are no JSON object, and Anthropic's answer has no other", call.Name)
		}
	}
	if reply.Output == 0 {
		reply.Output = int64(len(strings.Fields(reply.Text)))
		for _, call := range reply.Calls {
			reply.Output += int64(1 + len(strings.Fields(call.Arguments)))
		}
	}
	return reply, nil
}

// streams sends the events, each by itself.
func (s *Server) streams(w http.ResponseWriter, r *http.Request, f format, request Request, reply Reply) {
	events, end := f.stream(request, reply), func() {}
	switch {
	case reply.Hang:
		events, end = head(events, 1), func() { s.hang(r) }
	case reply.StreamError:
		failed := fault{status: f.overloaded(), kind: reply.ErrorType, code: reply.ErrorCode, message: reply.Error}
		events = append(head(events, 1), f.failureEvent(failed))
	case reply.Truncate:
		events, end = head(events, cmp.Or(len(reply.Pieces), countPieces(events))/2), abort
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	flush := http.NewResponseController(w).Flush
	for _, e := range events {
		if e.name != "" {
			_, _ = fmt.Fprintf(w, "event: %s\n", e.name)
		}
		_, _ = fmt.Fprintf(w, "data: %s\n\n", e.data)
		if flush() != nil {
			return // the client is gone
		}
	}
	end()
}

// hang waits until nobody does any more.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closed:
		abort()
	}
}

// abort ends the connection in the middle of an answer.
func abort() { panic(http.ErrAbortHandler) }

func refuse(w http.ResponseWriter, f format, failed fault) {
	send(w, failed.status, encode(f.failure(failed)), false)
}

func send(w http.ResponseWriter, status int, body []byte, truncate bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if truncate {
		body = body[:len(body)/2] // less than was announced, so the connection ends
	}
	_, _ = w.Write(body)
}

// head is a stream up to its nth piece, and no more than the beginning when it has fewer.
func head(events []event, n int) []event {
	end := 1
	for i, e := range events {
		if e.piece && n > 0 {
			end, n = i+1, n-1
		}
	}
	return events[:end:end]
}

func countPieces(events []event) int {
	n := 0
	for _, e := range events {
		if e.piece {
			n++
		}
	}
	return n
}

// pieces cuts a text about where tokens end.
func pieces(text string) []string {
	const size = 6
	var cut []string
	for part := range slices.Chunk([]rune(text), size) {
		cut = append(cut, string(part))
	}
	return cut
}

// encode leaves <, > and & as they are, like the providers do.
func encode(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // an answer consists of what can be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func isObject(raw json.RawMessage) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal(raw, &object) == nil && object != nil
}
