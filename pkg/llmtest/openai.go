package llmtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// created is when all answers were made: the same request has the same answer.
const created = 1741569952

// openai speaks Chat Completions.
type openai struct{ usage bool }

var (
	elements      = regexp.MustCompile(`\.(\d+)`)
	openaiNames   = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	openaiDataURL = regexp.MustCompile(`^data:image/(?:png|jpeg|gif|webp);base64,(.+)$`)
)

var openaiWording = wording{
	name: func(path string) string { return elements.ReplaceAllString(path, "[$1]") },
	unreadable: "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. " +
		"The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
	unknown:   "Unknown parameter: '%s'.",
	missing:   "Missing required parameter: '%s'.",
	empty:     "Invalid '%s': empty. Expected a minimum length of 1.",
	mistyped:  "Invalid type for '%s': expected %s.",
	unmatched: "Invalid '%s': string does not match pattern. Expected a string that matches the pattern '%s'.",
	unlisted:  "Invalid value for '%s': '%s'. Supported values are: %s.",
	above:     "Invalid '%s': above maximum value. Expected a value <= %v, but got %v instead.",
	below:     "Invalid '%s': below minimum value. Expected a value >= %v, but got %v instead.",
}

func (*openai) requestID() string { return "x-request-id" }

func (o *openai) read(header http.Header, request *Request) *fault {
	r := &reading{wording: openaiWording}
	request.Provider = "openai"
	if key, bearer := strings.CutPrefix(header.Get("Authorization"), "Bearer "); bearer {
		request.Key = key
	}
	r.contentType(header)

	var stream, parallel *bool
	var messages, tools []json.RawMessage
	var choice, options, stop, answerFormat json.RawMessage
	var maxTokens, maxCompletionTokens, n *int64
	var temperature, topP, frequency, presence *float64
	r.object("", request.Body, fields{
		"model": &request.Model, "messages": &messages, "max_tokens": &maxTokens, "max_completion_tokens": &maxCompletionTokens, "n": &n,
		"stream": &stream, "stream_options": &options, "response_format": &answerFormat,
		"tools": &tools, "tool_choice": &choice, "parallel_tool_calls": &parallel,
		"temperature": &temperature, "top_p": &topP, "frequency_penalty": &frequency, "presence_penalty": &presence, "stop": &stop,

		"logit_bias": nil, "logprobs": nil, "metadata": nil, "modalities": nil, "moderation": nil, "prediction": nil, "prompt_cache_key": nil,
		"prompt_cache_options": nil, "prompt_cache_retention": nil, "reasoning_effort": nil, "safety_identifier": nil, "seed": nil,
		"service_tier": nil, "store": nil, "top_logprobs": nil, "user": nil, "verbosity": nil, "web_search_options": nil,
	}, "messages", "model")
	request.Stream = stream != nil && *stream
	r.nonempty("model", len(request.Model))
	r.nonempty("messages", len(messages))

	within(r, "temperature", temperature, 0, 2)
	within(r, "top_p", topP, 0, 1)
	within(r, "frequency_penalty", frequency, -2, 2)
	within(r, "presence_penalty", presence, -2, 2)
	within(r, "n", n, 1, 1) // of the provider's 128 answers one is played
	within(r, "max_tokens", maxTokens, 1, math.MaxInt64)
	within(r, "max_completion_tokens", maxCompletionTokens, 1, math.MaxInt64)
	if maxTokens != nil && maxCompletionTokens != nil {
		r.refuse("max_tokens", "invalid_parameter_combination", "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
	}
	if limit := cmp.Or(maxCompletionTokens, maxTokens); limit != nil {
		request.MaxTokens = *limit
	}
	if given(stop) && stop[0] != '"' {
		var several []string
		r.value("stop", stop, &several)
		within(r, "stop", new(int64(len(several))), 1, 4)
	}
	if given(options) {
		if !request.Stream {
			r.refuse("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
		}
		r.object("stream_options", options, fields{"include_usage": &o.usage, "include_obfuscation": nil})
	}

	for i, raw := range tools {
		request.Tools = append(request.Tools, o.tool(r, element("tools", i), raw))
	}
	r.distinct(request.Tools)
	if tools != nil {
		within(r, "tools", new(int64(len(tools))), 1, 128)
	}
	if given(choice) {
		o.toolChoice(r, choice, request.Tools)
	}
	if parallel != nil && tools == nil {
		r.refuse("parallel_tool_calls", "", "'parallel_tool_calls' is only allowed when 'tools' are specified.")
	}
	o.messages(r, messages, request)
	if given(answerFormat) {
		o.answerFormat(r, answerFormat, request)
	}
	return r.fault
}

func (*openai) tool(r *reading, path string, raw json.RawMessage) (tool Tool) {
	var kind string
	var function json.RawMessage
	r.object(path, raw, fields{"type": &kind, "function": &function}, "type", "function")
	r.oneOf(path+".type", kind, "function")
	path += ".function"
	r.object(path, function, fields{"name": &tool.Name, "description": &tool.Description, "parameters": &tool.Parameters, "strict": nil}, "name")
	r.matches(path+".name", tool.Name, openaiNames)
	if tool.Parameters != nil && peek(tool.Parameters, "type") != "object" {
		r.refuse(path+".parameters", "invalid_function_parameters",
			fmt.Sprintf(`Invalid schema for function '%s': schema must be a JSON Schema of 'type: "object"'.`, tool.Name))
	}
	return tool
}

func (*openai) toolChoice(r *reading, raw json.RawMessage, tools []Tool) {
	if len(tools) == 0 {
		r.refuse("tool_choice", "", "'tool_choice' is only allowed when 'tools' are specified.")
	}
	if raw[0] == '"' {
		r.oneOf("tool_choice", peekText(raw), "none", "auto", "required")
		return
	}
	var kind, name string
	var function json.RawMessage
	r.object("tool_choice", raw, fields{"type": &kind, "function": &function}, "type", "function")
	r.oneOf("tool_choice.type", kind, "function")
	r.object("tool_choice.function", function, fields{"name": &name}, "name")
	if !slices.ContainsFunc(tools, func(t Tool) bool { return t.Name == name }) {
		r.refuse("tool_choice", "invalid_value", fmt.Sprintf("Tool choice '%s' not found in 'tools' parameter.", name))
	}
}

func (*openai) answerFormat(r *reading, raw json.RawMessage, request *Request) {
	switch peek(raw, "type") {
	case "json_schema":
		var schema json.RawMessage
		r.object("response_format", raw, fields{"type": nil, "json_schema": &schema}, "json_schema")
		var name string
		r.object("response_format.json_schema", schema, fields{"name": &name, "description": nil, "schema": nil, "strict": nil}, "name")
		r.matches("response_format.json_schema.name", name, openaiNames)
	case "json_object":
		r.object("response_format", raw, fields{"type": nil})
		said := request.System
		for _, m := range request.Messages {
			said = join(said, m.Text)
		}
		if !strings.Contains(strings.ToLower(said), "json") {
			r.refuse("messages", "", "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.")
		}
	default:
		r.kind("response_format", "type", raw, "json_object", "json_schema", "text")
		r.object("response_format", raw, fields{"type": nil})
	}
}

func (o *openai) messages(r *reading, messages []json.RawMessage, request *Request) {
	var open []string // ids of calls that have no answer yet
	answered := func() {
		if len(open) > 0 {
			r.refuse("messages", "", "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "+
				"The following tool_call_ids did not have response messages: "+strings.Join(open, ", "))
		}
		open = nil
	}
	for i, raw := range messages {
		path := element("messages", i)
		m := o.message(r, path, raw)
		switch m.Role {
		case "system":
			answered()
			request.System = join(request.System, m.Text)
			continue
		case "tool":
			at := slices.Index(open, m.Results[0].ID)
			if at < 0 {
				r.refuse(path+".role", "", "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.")
				break
			}
			open = slices.Delete(open, at, at+1)
		default:
			answered()
			for j, call := range m.Calls {
				if slices.Contains(open, call.ID) {
					r.refuse(element(path+".tool_calls", j)+".id", "invalid_value", fmt.Sprintf("Duplicate value for 'tool_call_id' of '%s'.", call.ID))
				}
				open = append(open, call.ID)
			}
		}
		request.Messages = append(request.Messages, m)
	}
	answered()
}

// message reads one; a developer's counts as the system's.
func (o *openai) message(r *reading, path string, raw json.RawMessage) (m Message) {
	var content json.RawMessage
	at := path + ".content"
	m.Role = peek(raw, "role")
	switch m.Role {
	case "system", "developer":
		m.Role = "system"
		r.object(path, raw, fields{"role": nil, "content": &content, "name": nil}, "content")
		o.content(r, at, content, &m, "text")
	case "user":
		r.object(path, raw, fields{"role": nil, "content": &content, "name": nil}, "content")
		o.content(r, at, content, &m, "text", "image_url")
	case "tool":
		var id string
		r.object(path, raw, fields{"role": nil, "content": &content, "tool_call_id": &id}, "content", "tool_call_id")
		o.content(r, at, content, &m, "text")
		m.Results, m.Text = []Result{{ID: id, Text: m.Text}}, ""
	case "assistant":
		var calls []json.RawMessage
		r.object(path, raw, fields{"role": nil, "content": &content, "name": nil, "refusal": nil, "tool_calls": &calls})
		if given(content) {
			o.content(r, at, content, &m, "text", "refusal")
		} else if calls == nil {
			r.mistype(at, "string or array")
		}
		if calls != nil {
			r.nonempty(path+".tool_calls", len(calls))
		}
		for i, raw := range calls {
			m.Calls = append(m.Calls, o.call(r, element(path+".tool_calls", i), raw))
		}
	default:
		r.kind(path, "role", raw, "system", "assistant", "user", "tool", "developer")
	}
	return m
}

func (*openai) content(r *reading, path string, raw json.RawMessage, m *Message, kinds ...string) {
	if !given(raw) || raw[0] != '"' && raw[0] != '[' {
		r.mistype(path, "string or array")
		return
	}
	if raw[0] == '"' {
		m.Text = peekText(raw)
		return
	}
	var parts []json.RawMessage
	r.value(path, raw, &parts)
	r.nonempty(path, len(parts))
	for i, raw := range parts {
		at := element(path, i)
		kind := peek(raw, "type")
		if !slices.Contains(kinds, kind) {
			r.kind(at, "type", raw, kinds...)
			continue
		}
		switch kind {
		case "text", "refusal":
			var text string
			r.object(at, raw, fields{"type": nil, kind: &text}, kind)
			m.Text = join(m.Text, text)
		case "image_url":
			var image json.RawMessage
			var address string
			r.object(at, raw, fields{"type": nil, "image_url": &image}, "image_url")
			r.object(at+".image_url", image, fields{"url": &address, "detail": nil}, "url")
			if !isImageURL(address) {
				r.refuse(at+".image_url.url", "invalid_image_url", "Invalid image URL: expected one with http or https, or a base64-encoded data URL of a png, jpeg, gif or webp.")
			}
			m.Images = append(m.Images, address)
		}
	}
}

func isImageURL(address string) bool {
	if data := openaiDataURL.FindStringSubmatch(address); data != nil {
		_, err := base64.StdEncoding.DecodeString(data[1])
		return err == nil
	}
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

func (*openai) call(r *reading, path string, raw json.RawMessage) (call Call) {
	var kind string
	var function json.RawMessage
	r.object(path, raw, fields{"id": &call.ID, "type": &kind, "function": &function}, "id", "type", "function")
	r.nonempty(path+".id", len(call.ID))
	r.oneOf(path+".type", kind, "function")
	path += ".function"
	r.object(path, function, fields{"name": &call.Name, "arguments": &call.Arguments}, "name", "arguments")
	r.matches(path+".name", call.Name, openaiNames)
	return call
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
		[]chatChoice{{Message: message, FinishReason: o.finish(reply)}},
		o.usageOf(reply), "default",
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

func (*openai) overloaded() int { return http.StatusInternalServerError }

func (o *openai) failureEvent(f fault) event { return event{data: encode(o.failure(f))} }

func (*openai) failure(f fault) any {
	kind, code, message := "invalid_request_error", "", http.StatusText(f.status)
	switch {
	case f.status == http.StatusUnauthorized:
		code = "invalid_api_key"
	case f.status == http.StatusNotFound:
		code = "model_not_found"
	case f.status == http.StatusTooManyRequests:
		kind, code = "requests", "rate_limit_exceeded"
	case f.status >= http.StatusInternalServerError:
		kind, message = "server_error", "The server had an error while processing your request. Sorry about that!"
	}
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	return map[string]body{"error": {
		cmp.Or(f.message, message), cmp.Or(f.kind, kind), nullable(f.param), nullable(cmp.Or(f.code, code)),
	}}
}

// nullable is null when there is nothing.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
