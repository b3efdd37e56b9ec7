package llmtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// anthropic speaks Messages.
type anthropic struct{}

var (
	anthropicNames = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	anthropicIDs   = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
)

var anthropicWording = wording{
	name:       func(path string) string { return path },
	unreadable: "The request body is not valid JSON.",
	unknown:    "%s: Extra inputs are not permitted",
	missing:    "%s: Field required",
	empty:      "%s: Input should not be empty",
	mistyped:   "%s: Input should be a valid %s",
	unmatched:  "%s: String should match pattern '%s'",
	unlisted:   "%s: Input '%s' should be one of %s",
	above:      "%s: Input should be less than or equal to %v, is %v",
	below:      "%s: Input should be greater than or equal to %v, is %v",
}

func (*anthropic) requestID() string { return "request-id" }

func (a *anthropic) read(header http.Header, request *Request) *fault {
	r := &reading{wording: anthropicWording}
	request.Provider, request.Key = "anthropic", header.Get("x-api-key")
	r.contentType(header)
	switch version := header.Get("anthropic-version"); version {
	case "2023-06-01", "2023-01-01":
	case "":
		r.refuse("", "", "anthropic-version: header is required")
	default:
		r.refuse("", "", fmt.Sprintf("anthropic-version: %q is not a valid version", version))
	}

	var messages, tools []json.RawMessage
	var system, choice json.RawMessage
	var temperature, topP float64
	var topK int64
	var stops []string
	r.object("", request.Body, fields{
		"model": &request.Model, "messages": &messages, "max_tokens": &request.MaxTokens, "system": &system, "stream": &request.Stream,
		"tools": &tools, "tool_choice": &choice, "temperature": &temperature, "top_p": &topP, "top_k": &topK, "stop_sequences": &stops,

		"cache_control": nil, "container": nil, "inference_geo": nil, "metadata": nil, "output_config": nil, "service_tier": nil, "thinking": nil,
	}, "max_tokens", "messages", "model")
	r.nonempty("model", len(request.Model))
	r.nonempty("messages", len(messages))
	within(r, "max_tokens", &request.MaxTokens, 1, math.MaxInt64) // 0 fills the provider's cache, which is not played
	within(r, "temperature", &temperature, 0, 1)
	within(r, "top_p", &topP, 0, 1)
	within(r, "top_k", &topK, 0, math.MaxInt64)
	for _, stop := range stops {
		if strings.TrimSpace(stop) == "" {
			r.refuse("stop_sequences", "", "stop_sequences: each stop sequence must contain non-whitespace")
		}
	}
	if system != nil {
		var m Message
		a.content(r, "system", system, &m, "text")
		request.System = m.Text
	}
	for i, raw := range tools {
		request.Tools = append(request.Tools, a.tool(r, element("tools", i), raw))
	}
	r.distinct(request.Tools)
	if choice != nil {
		a.toolChoice(r, choice, request.Tools)
	}
	a.messages(r, messages, request)
	return r.fault
}

func (*anthropic) tool(r *reading, path string, raw json.RawMessage) (tool Tool) {
	var kind *string
	r.object(path, raw, fields{
		"name": &tool.Name, "description": &tool.Description, "input_schema": &tool.Parameters, "type": &kind,
		"allowed_callers": nil, "cache_control": nil, "defer_loading": nil, "eager_input_streaming": nil, "input_examples": nil, "strict": nil,
	}, "input_schema", "name")
	if kind != nil {
		r.oneOf(path+".type", *kind, "custom")
	}
	r.matches(path+".name", tool.Name, anthropicNames)
	r.kind(path+".input_schema", "type", tool.Parameters, "object")
	return tool
}

func (*anthropic) toolChoice(r *reading, raw json.RawMessage, tools []Tool) {
	if len(tools) == 0 {
		r.refuse("tool_choice", "", "tool_choice: may only be specified while providing tools")
	}
	switch peek(raw, "type") {
	case "tool":
		var name string
		r.object("tool_choice", raw, fields{"type": nil, "name": &name, "disable_parallel_tool_use": nil}, "name")
		if !slices.ContainsFunc(tools, func(t Tool) bool { return t.Name == name }) {
			r.refuse("tool_choice", "", fmt.Sprintf("tool_choice: Tool '%s' not found in provided tools", name))
		}
	case "none":
		r.object("tool_choice", raw, fields{"type": nil})
	default:
		r.kind("tool_choice", "type", raw, "any", "auto", "none", "tool")
		r.object("tool_choice", raw, fields{"type": nil, "disable_parallel_tool_use": nil})
	}
}

func (a *anthropic) messages(r *reading, messages []json.RawMessage, request *Request) {
	var calls []Call // of the message before
	ids := map[string]bool{}
	for i, raw := range messages {
		path := element("messages", i)
		m := a.message(r, path, raw, i == len(messages)-1)
		if i == 0 && m.Role == "assistant" {
			r.refuse("messages", "", `messages: first message must use the "user" role`)
		}
		a.results(r, i, calls, m.Results)
		for _, call := range m.Calls {
			if ids[call.ID] {
				r.refuse(path, "", path+": `tool_use` ids must be unique")
			}
			ids[call.ID] = true
		}
		calls = m.Calls
		request.Messages = append(request.Messages, m)
	}
	a.results(r, len(messages), calls, nil)
}

// results checks those of the ith message against the calls of the one before.
func (*anthropic) results(r *reading, i int, calls []Call, results []Result) {
	open, answered := map[string]bool{}, map[string]bool{}
	for _, call := range calls {
		open[call.ID] = true
	}
	for j, result := range results {
		path := element(element("messages", i)+".content", j)
		switch {
		case answered[result.ID]:
			r.refuse(path, "", fmt.Sprintf("%s: each tool_use must have a single result. Found multiple `tool_result` blocks with id: %s", path, result.ID))
		case !open[result.ID]:
			r.refuse(path, "", fmt.Sprintf("%s: unexpected `tool_use_id` found in `tool_result` blocks: %s. "+
				"Each `tool_result` block must have a corresponding `tool_use` block in the previous message.", path, result.ID))
		}
		answered[result.ID] = true
		delete(open, result.ID)
	}
	if len(open) > 0 {
		path := element("messages", i-1)
		r.refuse(path, "", fmt.Sprintf("%s: `tool_use` ids were found without `tool_result` blocks immediately after: %s. "+
			"Each `tool_use` block must have a corresponding `tool_result` block in the next message.", path, strings.Join(slices.Sorted(maps.Keys(open)), ", ")))
	}
}

func (a *anthropic) message(r *reading, path string, raw json.RawMessage, last bool) (m Message) {
	var content json.RawMessage
	r.object(path, raw, fields{"role": &m.Role, "content": &content}, "content", "role")
	switch m.Role {
	case "user":
		a.content(r, path+".content", content, &m, "text", "image", "tool_result")
	case "assistant":
		a.content(r, path+".content", content, &m, "text", "tool_use")
		if last && m.Text != strings.TrimRightFunc(m.Text, unicode.IsSpace) {
			r.refuse(path, "", "messages: final assistant content cannot end with trailing whitespace")
		}
	default:
		r.oneOf(path+".role", m.Role, "assistant", "user")
	}
	if nothing := strings.TrimSpace(m.Text) == "" && len(m.Images)+len(m.Calls)+len(m.Results) == 0; nothing && (m.Role == "user" || !last) {
		r.refuse(path, "", path+": all messages must have non-empty content except for the optional final assistant message")
	}
	if len(m.Results) > 0 {
		m.Role = "tool"
	}
	return m
}

func (a *anthropic) content(r *reading, path string, raw json.RawMessage, m *Message, kinds ...string) {
	if !given(raw) || raw[0] != '"' && raw[0] != '[' {
		r.mistype(path, "string or array")
		return
	}
	if raw[0] == '"' {
		m.Text = peekText(raw)
		return
	}
	var blocks []json.RawMessage
	r.value(path, raw, &blocks)
	for i, raw := range blocks {
		at := element(path, i)
		switch kind := peek(raw, "type"); {
		case !slices.Contains(kinds, kind):
			r.kind(at, "type", raw, kinds...)
		case kind == "text":
			var text string
			r.object(at, raw, fields{"type": nil, "text": &text, "cache_control": nil, "citations": nil}, "text")
			if strings.TrimSpace(text) == "" {
				r.refuse(at, "", at+": text content blocks must contain non-whitespace text")
			}
			m.Text = join(m.Text, text)
		case kind == "image":
			m.Images = append(m.Images, a.image(r, at, raw))
		case kind == "tool_use":
			m.Calls = append(m.Calls, a.call(r, at, raw))
		case kind == "tool_result":
			if i > len(m.Results) {
				r.refuse(at, "", at+": `tool_result` blocks must come before all other content")
			}
			a.result(r, at, raw, m)
		}
	}
}

func (*anthropic) image(r *reading, path string, raw json.RawMessage) string {
	var source json.RawMessage
	r.object(path, raw, fields{"type": nil, "source": &source, "cache_control": nil}, "source")
	path += ".source"
	var media, data, address string
	switch peek(source, "type") {
	case "base64":
		r.object(path, source, fields{"type": nil, "media_type": &media, "data": &data}, "data", "media_type")
		r.oneOf(path+".media_type", media, "image/gif", "image/jpeg", "image/png", "image/webp")
		if _, err := base64.StdEncoding.DecodeString(data); err != nil || data == "" {
			r.refuse(path, "", path+".data: Input should be valid base64")
		}
		return "data:" + media + ";base64," + data
	case "url":
		r.object(path, source, fields{"type": nil, "url": &address}, "url")
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			r.refuse(path, "", path+".url: Only HTTPS URLs are supported.")
		}
	default:
		r.kind(path, "type", source, "base64", "url")
	}
	return address
}

func (*anthropic) call(r *reading, path string, raw json.RawMessage) (call Call) {
	var input json.RawMessage
	r.object(path, raw, fields{"type": nil, "id": &call.ID, "name": &call.Name, "input": &input, "cache_control": nil, "caller": nil}, "id", "input", "name")
	r.matches(path+".id", call.ID, anthropicIDs)
	r.matches(path+".name", call.Name, anthropicNames)
	if !isObject(input) {
		r.mistype(path+".input", "object")
	}
	call.Arguments = string(input)
	return call
}

// result reads one; its images count as the message's.
func (a *anthropic) result(r *reading, path string, raw json.RawMessage, m *Message) {
	var result Result
	var content json.RawMessage
	var inner Message
	r.object(path, raw, fields{"type": nil, "tool_use_id": &result.ID, "content": &content, "is_error": &result.Failed, "cache_control": nil}, "tool_use_id")
	if content != nil {
		a.content(r, path+".content", content, &inner, "text", "image")
	}
	if result.Failed && inner.Text == "" && inner.Images == nil {
		r.refuse(path, "", path+": content cannot be empty if `is_error` is true")
	}
	result.Text = inner.Text
	m.Images = append(m.Images, inner.Images...)
	m.Results = append(m.Results, result)
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
	StopDetails  *refusal       `json:"stop_details,omitempty"`
	Usage        messageUsage   `json:"usage"`
}

// refusal says why, which the provider does not always do.
type refusal struct {
	Type        string  `json:"type"`
	Category    *string `json:"category"`
	Explanation *string `json:"explanation"`
}

func (*anthropic) stop(reply Reply) (string, *refusal) {
	switch {
	case reply.Stop == "length":
		return "max_tokens", nil
	case reply.Stop == "refusal":
		return "refusal", &refusal{Type: "refusal"}
	case len(reply.Calls) > 0:
		return "tool_use", nil
	default:
		return "end_turn", nil
	}
}

func (*anthropic) body(request Request, reply Reply) messageBody {
	return messageBody{
		ID: fmt.Sprintf("msg_%d", request.N), Type: "message", Role: "assistant", Model: request.Model,
		Content: []messageBlock{}, Usage: messageUsage{Input: reply.Input, Output: 1},
	}
}

func (a *anthropic) whole(request Request, reply Reply) any {
	body := a.body(request, reply)
	if reply.Text != "" {
		body.Content = append(body.Content, messageBlock{Type: "text", Text: &reply.Text})
	}
	for _, call := range reply.Calls {
		body.Content = append(body.Content, messageBlock{Type: "tool_use", ID: call.ID, Name: call.Name, Input: json.RawMessage(call.Arguments)})
	}
	stop, details := a.stop(reply)
	body.StopReason, body.StopDetails, body.Usage.Output = &stop, details, reply.Output
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
		Reason   string   `json:"stop_reason"`
		Sequence *string  `json:"stop_sequence"`
		Details  *refusal `json:"stop_details,omitempty"`
	}
	reason, details := a.stop(reply)
	add("message_delta", false, struct {
		Type  string           `json:"type"`
		Delta stopped          `json:"delta"`
		Usage map[string]int64 `json:"usage"`
	}{"message_delta", stopped{Reason: reason, Details: details}, map[string]int64{"output_tokens": reply.Output}})
	add("message_stop", false, map[string]string{"type": "message_stop"})
	return events
}

var anthropicErrors = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
	413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", statusOverloaded: "overloaded_error",
}

const statusOverloaded = 529

func (*anthropic) overloaded() int { return statusOverloaded }

func (a *anthropic) failureEvent(f fault) event {
	return event{name: "error", data: encode(a.failure(f))}
}

func (*anthropic) failure(f fault) any {
	type body struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	return struct {
		Type      string `json:"type"`
		Error     body   `json:"error"`
		RequestID string `json:"request_id,omitempty"`
	}{"error", body{
		cmp.Or(f.kind, anthropicErrors[f.status], "api_error"),
		cmp.Or(f.message, http.StatusText(f.status), "Overloaded"),
	}, f.request}
}
