package llmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// anthropic speaks Messages.
type anthropic struct{}

var anthropicWording = wording{
	name:     func(path string) string { return path },
	unknown:  "%s: Extra inputs are not permitted",
	missing:  "%s: Field required",
	mistyped: "%s: Input should be a valid %s",
}

func (*anthropic) requestID() string { return "request-id" }

func (a *anthropic) read(header http.Header, request *Request) *fault {
	r := &reading{wording: anthropicWording}
	request.Provider, request.Key = "anthropic", header.Get("x-api-key")
	if header.Get("anthropic-version") == "" {
		r.refuse("", "", "anthropic-version: header is required")
	}
	a.request(r, request)
	return r.fault
}

func (a *anthropic) request(r *reading, request *Request) {
	if !json.Valid(request.Body) {
		r.refuse("", "", "The request body is not valid JSON")
		return
	}
	var messages, tools []json.RawMessage
	var system json.RawMessage
	r.object("", request.Body, fields{
		"model": &request.Model, "messages": &messages, "tools": &tools, "stream": &request.Stream,
		"max_tokens": &request.MaxTokens, "system": &system,
		"temperature": nil, "tool_choice": nil, "top_p": nil, "top_k": nil, "stop_sequences": nil, "metadata": nil, "cache_control": nil,
		"container": nil, "inference_geo": nil, "output_config": nil, "service_tier": nil, "thinking": nil,
	}, "model", "messages", "max_tokens")
	if system != nil {
		var m Message
		a.content(r, "system", system, &m)
		request.System = m.Text
	}
	for i, raw := range messages {
		path := fmt.Sprintf("messages.%d", i)
		var m Message
		var content json.RawMessage
		r.object(path, raw, fields{"role": &m.Role, "content": &content}, "role", "content")
		a.content(r, path+".content", content, &m)
		if len(m.Results) > 0 {
			m.Role = "tool"
		}
		request.Messages = append(request.Messages, m)
	}
	for i, raw := range tools {
		var tool Tool
		r.object(fmt.Sprintf("tools.%d", i), raw, fields{
			"name": &tool.Name, "description": &tool.Description, "input_schema": &tool.Parameters, "type": nil, "cache_control": nil,
		}, "name", "input_schema")
		request.Tools = append(request.Tools, tool)
	}
}

func (a *anthropic) content(r *reading, path string, raw json.RawMessage, m *Message) {
	if json.Unmarshal(raw, &m.Text) == nil {
		return
	}
	var blocks []json.RawMessage
	r.value(path, raw, &blocks)
	for i, raw := range blocks {
		at := fmt.Sprintf("%s.%d", path, i)
		var kind struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal(raw, &kind)
		switch kind.Type {
		case "text":
			var text string
			r.object(at, raw, fields{"type": nil, "text": &text, "cache_control": nil}, "text")
			m.Text = join(m.Text, text)
		case "image":
			var source json.RawMessage
			r.object(at, raw, fields{"type": nil, "source": &source, "cache_control": nil}, "source")
			var kind, media, data, url string
			r.object(at+".source", source, fields{"type": &kind, "media_type": &media, "data": &data, "url": &url}, "type")
			if kind == "base64" {
				url = "data:" + media + ";base64," + data
			}
			m.Images = append(m.Images, url)
		case "tool_use":
			var call Call
			var input json.RawMessage
			r.object(at, raw, fields{"type": nil, "id": &call.ID, "name": &call.Name, "input": &input, "cache_control": nil}, "id", "name", "input")
			call.Arguments = string(input)
			m.Calls = append(m.Calls, call)
		case "tool_result":
			var result Result
			var content json.RawMessage
			r.object(at, raw, fields{"type": nil, "tool_use_id": &result.ID, "content": &content, "is_error": &result.Failed, "cache_control": nil}, "tool_use_id")
			if content != nil {
				var inner Message
				a.content(r, at+".content", content, &inner)
				result.Text = inner.Text
				m.Images = append(m.Images, inner.Images...)
			}
			m.Results = append(m.Results, result)
		}
	}
}

type messageBlock struct {
	Type  string          `json:"type"`
	Text  *string         `json:"text,omitempty"`
	ID    string          `json:"id,omitempty"`
	Name  string          `json:"name,omitempty"`
	Input json.RawMessage `json:"input,omitempty"`
}

type messageUsage struct {
	Input  int64 `json:"input_tokens"`
	Output int64 `json:"output_tokens"`
}

type messageBody struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []messageBlock `json:"content"`
	StopReason   *string        `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        messageUsage   `json:"usage"`
}

func (*anthropic) stop(reply Reply) string {
	switch {
	case reply.Stop == "length":
		return "max_tokens"
	case reply.Stop == "refusal":
		return "refusal"
	case len(reply.Calls) > 0:
		return "tool_use"
	default:
		return "end_turn"
	}
}

func (*anthropic) body(request Request, reply Reply) messageBody {
	return messageBody{
		ID: fmt.Sprintf("msg_%d", request.N), Type: "message", Role: "assistant", Model: request.Model,
		Content: []messageBlock{}, Usage: messageUsage{Input: reply.Input, Output: 1},
	}
}

func (a *anthropic) whole(request Request, reply Reply) any {
	body, stop := a.body(request, reply), a.stop(reply)
	if reply.Text != "" {
		body.Content = append(body.Content, messageBlock{Type: "text", Text: &reply.Text})
	}
	for _, call := range reply.Calls {
		body.Content = append(body.Content, messageBlock{Type: "tool_use", ID: call.ID, Name: call.Name, Input: json.RawMessage(call.Arguments)})
	}
	body.StopReason, body.Usage.Output = &stop, reply.Output
	return body
}

func (a *anthropic) stream(request Request, reply Reply) []event {
	var events []event
	add := func(name string, piece bool, data any) {
		events = append(events, event{name: name, data: encode(data), piece: piece})
	}
	type delta struct {
		Type string  `json:"type"`
		Text *string `json:"text,omitempty"`
		JSON *string `json:"partial_json,omitempty"`
	}
	index := 0
	block := func(start messageBlock, deltas []delta) {
		add("content_block_start", false, struct {
			Type  string       `json:"type"`
			Index int          `json:"index"`
			Block messageBlock `json:"content_block"`
		}{"content_block_start", index, start})
		if index == 0 {
			add("ping", false, map[string]string{"type": "ping"})
		}
		for _, d := range deltas {
			add("content_block_delta", d.JSON == nil || *d.JSON != "", struct {
				Type  string `json:"type"`
				Index int    `json:"index"`
				Delta delta  `json:"delta"`
			}{"content_block_delta", index, d})
		}
		add("content_block_stop", false, struct {
			Type  string `json:"type"`
			Index int    `json:"index"`
		}{"content_block_stop", index})
		index++
	}

	add("message_start", false, struct {
		Type    string      `json:"type"`
		Message messageBody `json:"message"`
	}{"message_start", a.body(request, reply)})
	if len(reply.Pieces) > 0 {
		var deltas []delta
		for _, piece := range reply.Pieces {
			deltas = append(deltas, delta{Type: "text_delta", Text: &piece})
		}
		block(messageBlock{Type: "text", Text: new(string)}, deltas)
	}
	for _, call := range reply.Calls {
		deltas := []delta{{Type: "input_json_delta", JSON: new(string)}}
		for _, piece := range pieces(call.Arguments) {
			deltas = append(deltas, delta{Type: "input_json_delta", JSON: &piece})
		}
		block(messageBlock{Type: "tool_use", ID: call.ID, Name: call.Name, Input: json.RawMessage("{}")}, deltas)
	}
	type stopped struct {
		Reason   string  `json:"stop_reason"`
		Sequence *string `json:"stop_sequence"`
	}
	add("message_delta", false, struct {
		Type  string           `json:"type"`
		Delta stopped          `json:"delta"`
		Usage map[string]int64 `json:"usage"`
	}{"message_delta", stopped{Reason: a.stop(reply)}, map[string]int64{"output_tokens": reply.Output}})
	add("message_stop", false, map[string]string{"type": "message_stop"})
	return events
}

func (*anthropic) overloaded() fault {
	return fault{status: 529, kind: "overloaded_error", message: "Overloaded"}
}

var anthropicErrors = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
	413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 504: "timeout_error", 529: "overloaded_error",
}

func (*anthropic) failure(request Request, f fault) any {
	type body struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	kind := or(f.kind, or(anthropicErrors[f.status], "api_error"))
	return struct {
		Type      string `json:"type"`
		Error     body   `json:"error"`
		RequestID string `json:"request_id"`
	}{"error", body{kind, or(f.message, strings.TrimSuffix(kind, "_error"))}, fmt.Sprintf("req_%d", request.N)}
}
