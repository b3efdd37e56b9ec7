package llmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// created is when all answers were made: the same request has the same answer.
const created = 1741569952

// openai speaks Chat Completions.
type openai struct{ usage bool }

var elements = regexp.MustCompile(`\.(\d+)`)

var openaiWording = wording{
	name:     func(path string) string { return elements.ReplaceAllString(path, "[$1]") },
	unknown:  "Unknown parameter: '%s'.",
	missing:  "Missing required parameter: '%s'.",
	mistyped: "Invalid type for '%s': expected %s.",
}

func (*openai) requestID() string { return "x-request-id" }

func (o *openai) read(header http.Header, request *Request) *fault {
	r := &reading{wording: openaiWording}
	request.Provider = "openai"
	request.Key, _ = strings.CutPrefix(header.Get("Authorization"), "Bearer ")
	o.request(r, request)
	return r.fault
}

func (o *openai) request(r *reading, request *Request) {
	if !json.Valid(request.Body) {
		r.refuse("", "", "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)")
		return
	}
	var stream *bool
	var messages, tools []json.RawMessage
	var options json.RawMessage
	var maxTokens, maxCompletionTokens *int64
	r.object("", request.Body, fields{
		"model": &request.Model, "messages": &messages, "tools": &tools, "stream": &stream, "stream_options": &options,
		"max_tokens": &maxTokens, "max_completion_tokens": &maxCompletionTokens,
		"temperature": nil, "response_format": nil, "tool_choice": nil, "parallel_tool_calls": nil, "top_p": nil, "stop": nil, "seed": nil, "n": nil,
		"frequency_penalty": nil, "presence_penalty": nil, "logit_bias": nil, "logprobs": nil, "top_logprobs": nil, "metadata": nil, "modalities": nil,
		"moderation": nil, "prediction": nil, "prompt_cache_key": nil, "prompt_cache_options": nil, "prompt_cache_retention": nil,
		"reasoning_effort": nil, "safety_identifier": nil, "service_tier": nil, "store": nil, "user": nil, "verbosity": nil, "web_search_options": nil,
	}, "model", "messages")
	request.Stream = stream != nil && *stream
	for _, n := range []*int64{maxTokens, maxCompletionTokens} {
		if n != nil {
			request.MaxTokens = *n
		}
	}
	if options != nil {
		r.object("stream_options", options, fields{"include_usage": &o.usage, "include_obfuscation": nil})
	}
	for i, raw := range messages {
		o.message(r, fmt.Sprintf("messages.%d", i), raw, request)
	}
	for i, raw := range tools {
		o.tool(r, fmt.Sprintf("tools.%d", i), raw, request)
	}
}

func (o *openai) message(r *reading, path string, raw json.RawMessage, request *Request) {
	var role, id string
	var content json.RawMessage
	var calls []json.RawMessage
	r.object(path, raw, fields{"role": &role, "content": &content, "name": nil, "refusal": nil, "tool_calls": &calls, "tool_call_id": &id}, "role")
	m := Message{Role: role}
	o.content(r, path+".content", content, &m)
	for i, raw := range calls {
		m.Calls = append(m.Calls, o.call(r, fmt.Sprintf("%s.tool_calls.%d", path, i), raw))
	}
	switch role {
	case "system", "developer":
		request.System = join(request.System, m.Text)
		return
	case "tool":
		m.Results, m.Text = []Result{{ID: id, Text: m.Text}}, ""
	}
	request.Messages = append(request.Messages, m)
}

func (o *openai) content(r *reading, path string, raw json.RawMessage, m *Message) {
	if raw == nil || string(raw) == "null" || json.Unmarshal(raw, &m.Text) == nil {
		return
	}
	var parts []json.RawMessage
	r.value(path, raw, &parts)
	for i, raw := range parts {
		at := fmt.Sprintf("%s.%d", path, i)
		var kind, text string
		var image json.RawMessage
		r.object(at, raw, fields{"type": &kind, "text": &text, "image_url": &image}, "type")
		switch kind {
		case "text":
			m.Text = join(m.Text, text)
		case "image_url":
			var url string
			r.object(at+".image_url", image, fields{"url": &url, "detail": nil}, "url")
			m.Images = append(m.Images, url)
		}
	}
}

func (o *openai) call(r *reading, path string, raw json.RawMessage) (call Call) {
	var kind string
	var function json.RawMessage
	r.object(path, raw, fields{"id": &call.ID, "type": &kind, "function": &function}, "id", "type", "function")
	r.object(path+".function", function, fields{"name": &call.Name, "arguments": &call.Arguments}, "name", "arguments")
	return call
}

func (o *openai) tool(r *reading, path string, raw json.RawMessage, request *Request) {
	var kind string
	var function json.RawMessage
	var tool Tool
	r.object(path, raw, fields{"type": &kind, "function": &function}, "type", "function")
	r.object(path+".function", function, fields{"name": &tool.Name, "description": &tool.Description, "parameters": &tool.Parameters, "strict": nil}, "name")
	request.Tools = append(request.Tools, tool)
}

func join(text, more string) string {
	if text == "" {
		return more
	}
	return text + "\n" + more
}

type chatChoice struct {
	Index        int          `json:"index"`
	Message      *chatMessage `json:"message,omitempty"`
	Delta        any          `json:"delta,omitempty"`
	Logprobs     any          `json:"logprobs"`
	FinishReason *string      `json:"finish_reason"`
}

type chatMessage struct {
	Role        string     `json:"role"`
	Content     *string    `json:"content"`
	ToolCalls   []chatCall `json:"tool_calls,omitempty"`
	Refusal     *string    `json:"refusal"`
	Annotations []any      `json:"annotations"`
}

type chatCall struct {
	Index    *int         `json:"index,omitempty"` // of streams
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type chatUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
}

func (*openai) usageOf(reply Reply) chatUsage {
	return chatUsage{reply.Input, reply.Output, reply.Input + reply.Output}
}

func (*openai) finish(reply Reply) *string {
	reason := "stop"
	switch {
	case reply.Stop == "length":
		reason = "length"
	case reply.Stop == "refusal":
		reason = "content_filter"
	case len(reply.Calls) > 0:
		reason = "tool_calls"
	}
	return &reason
}

func (o *openai) whole(request Request, reply Reply) any {
	message := &chatMessage{Role: "assistant", Annotations: []any{}}
	if reply.Text != "" || len(reply.Calls) == 0 {
		message.Content = &reply.Text
	}
	for _, call := range reply.Calls {
		message.ToolCalls = append(message.ToolCalls, chatCall{ID: call.ID, Type: "function", Function: chatFunction{call.Name, call.Arguments}})
	}
	return struct {
		ID          string       `json:"id"`
		Object      string       `json:"object"`
		Created     int64        `json:"created"`
		Model       string       `json:"model"`
		Choices     []chatChoice `json:"choices"`
		Usage       chatUsage    `json:"usage"`
		ServiceTier string       `json:"service_tier"`
	}{
		fmt.Sprintf("chatcmpl-%d", request.N), "chat.completion", created, request.Model,
		[]chatChoice{{Message: message, FinishReason: o.finish(reply)}}, o.usageOf(reply), "default",
	}
}

func (o *openai) stream(request Request, reply Reply) []event {
	type chunk struct {
		ID          string          `json:"id"`
		Object      string          `json:"object"`
		Created     int64           `json:"created"`
		Model       string          `json:"model"`
		ServiceTier string          `json:"service_tier"`
		Choices     []chatChoice    `json:"choices"`
		Usage       json.RawMessage `json:"usage,omitempty"` // null but in the last chunk, when it was asked for
	}
	base := chunk{ID: fmt.Sprintf("chatcmpl-%d", request.N), Object: "chat.completion.chunk", Created: created, Model: request.Model, ServiceTier: "default"}
	if o.usage {
		base.Usage = json.RawMessage("null")
	}
	var events []event
	add := func(delta any, finish *string, piece bool) {
		c := base
		c.Choices = []chatChoice{{Delta: delta, FinishReason: finish}}
		events = append(events, event{data: encode(c), piece: piece})
	}
	type text struct {
		Content string `json:"content"`
	}
	type calls struct {
		ToolCalls []chatCall `json:"tool_calls"`
	}
	type role struct {
		Role    string  `json:"role"`
		Content *string `json:"content"`
		Refusal *string `json:"refusal"`
	}
	first := role{Role: "assistant"}
	if reply.Text != "" || len(reply.Calls) == 0 {
		first.Content = new(string)
	}
	add(first, nil, false)
	for _, piece := range reply.Pieces {
		add(text{piece}, nil, true)
	}
	rest := make([][]string, len(reply.Calls))
	left := 0
	for i, call := range reply.Calls {
		add(calls{[]chatCall{{Index: &i, ID: call.ID, Type: "function", Function: chatFunction{Name: call.Name}}}}, nil, false)
		rest[i] = pieces(call.Arguments)
		left = max(left, len(rest[i]))
	}
	for turn := range left {
		for i := range rest {
			if turn < len(rest[i]) {
				add(calls{[]chatCall{{Index: &i, Function: chatFunction{Arguments: rest[i][turn]}}}}, nil, true)
			}
		}
	}
	add(struct{}{}, o.finish(reply), false)
	if o.usage {
		c := base
		c.Choices, c.Usage = []chatChoice{}, encode(o.usageOf(reply))
		events = append(events, event{data: encode(c)})
	}
	return append(events, event{data: []byte("[DONE]")})
}

func (*openai) overloaded() fault {
	return fault{status: http.StatusInternalServerError, kind: "server_error", message: "The server had an error while processing your request. Sorry about that!"}
}

func (*openai) failure(_ Request, f fault) any {
	kind, code := "invalid_request_error", f.code
	switch {
	case f.status >= http.StatusInternalServerError:
		kind = "server_error"
	case f.status == http.StatusUnauthorized:
		code = or(code, "invalid_api_key")
	case f.status == http.StatusTooManyRequests:
		kind, code = "requests", or(code, "rate_limit_exceeded")
	}
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	return map[string]body{"error": {or(f.message, http.StatusText(f.status)), or(f.kind, kind), nullable(f.param), nullable(code)}}
}

// nullable is null when there is nothing.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
