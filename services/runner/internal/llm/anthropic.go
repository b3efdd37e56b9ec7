package llm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"
)

const anthropicURL = "https://api.anthropic.com/"

// anthropicAPI asks the models of Anthropic, or of a server that speaks like it.
type anthropicAPI struct{ service anthropic.MessageService }

// newAnthropic makes a provider; base is "" for the official one, key "" for none.
func newAnthropic(client *http.Client, base, key string) *anthropicAPI {
	// As newOpenAI: nothing is read from the environment.
	opts := []option.RequestOption{option.WithHTTPClient(client), option.WithMaxRetries(0), option.WithBaseURL(strings.TrimSuffix(cmp.Or(base, anthropicURL), "/") + "/")}
	if key != "" {
		opts = append(opts, option.WithAPIKey(key))
	}
	return &anthropicAPI{service: anthropic.NewMessageService(opts...)}
}

// ask implements provider.
func (p *anthropicAPI) ask(ctx context.Context, q question, write func(text string)) (answer, error) {
	stream := p.service.NewStreaming(ctx, anthropicParams(q))
	defer func() { _ = stream.Close() }()
	var said anthropic.Message
	began, ended := false, false
	for stream.Next() {
		began = true
		event := stream.Current()
		if err := said.Accumulate(event); err != nil {
			return answer{}, broken(ctx, err, began)
		}
		if event.Type == "content_block_delta" && event.Delta.Type == "text_delta" && event.Delta.Text != "" {
			write(event.Delta.Text)
		}
		ended = ended || event.Type == "message_stop"
	}
	switch err := stream.Err(); {
	case err != nil:
		return answer{}, anthropicFailure(ctx, err, began)
	case !ended:
		return answer{}, broken(ctx, errTruncated, began)
	}
	u := said.Usage
	a := answer{stop: stopped, usage: usage{input: u.InputTokens + u.CacheCreationInputTokens + u.CacheReadInputTokens, output: u.OutputTokens}}
	for _, block := range said.Content {
		switch block.Type {
		case "text":
			a.text += block.Text
		case "tool_use":
			a.uses = append(a.uses, use{ID: block.ID, Name: block.Name, Arguments: string(block.Input)})
		}
	}
	switch said.StopReason {
	case anthropic.StopReasonMaxTokens, anthropic.StopReasonModelContextWindowExceeded:
		a.stop = stopLimit
	case anthropic.StopReasonRefusal:
		a.stop = stopNo
	case anthropic.StopReasonToolUse:
		a.stop = stopTools
	}
	return a, nil
}

func anthropicFailure(ctx context.Context, err error, began bool) error {
	var answered *anthropic.Error
	if ctx.Err() != nil || !errors.As(err, &answered) {
		return broken(ctx, err, began)
	}
	kind, text := errorOf(answered.RawJSON())
	status := answered.StatusCode
	if status < http.StatusBadRequest {
		status = 0 // it came in the stream
	}
	var header http.Header
	if answered.Response != nil {
		header = answered.Response.Header
	}
	return refused(status, header, cmp.Or(kind, string(answered.Type())), text)
}

func anthropicParams(q question) anthropic.MessageNewParams {
	c := q.config
	params := anthropic.MessageNewParams{Model: q.model, MaxTokens: maxTokens(c), Messages: anthropicMessages(q.messages), StopSequences: c.Stop}
	if c.Temperature != nil {
		params.Temperature = param.NewOpt(*c.Temperature)
	}
	if c.TopP != nil {
		params.TopP = param.NewOpt(*c.TopP)
	}
	if q.system != "" {
		params.System = []anthropic.TextBlockParam{{Text: q.system}}
	}
	for _, t := range q.tools {
		params.Tools = append(params.Tools, anthropic.ToolUnionParam{OfTool: &anthropic.ToolParam{
			Name: t.name, Description: param.NewOpt(t.description), InputSchema: param.Override[anthropic.ToolInputSchemaParam](t.parameters),
		}})
	}
	return params
}

func anthropicMessages(messages []message) (out []anthropic.MessageParam) {
	for _, m := range messages {
		var blocks []anthropic.ContentBlockParamUnion
		for _, r := range m.Results {
			blocks = append(blocks, anthropic.NewToolResultBlock(r.ID, r.Text, r.Failed))
		}
		for _, image := range m.Images {
			blocks = append(blocks, anthropicImage(image))
		}
		if m.Text != "" {
			blocks = append(blocks, anthropic.NewTextBlock(m.Text))
		}
		for _, c := range m.Calls {
			arguments := json.RawMessage(c.Arguments)
			if !isObject(arguments) {
				arguments = json.RawMessage("{}") // what it wrote was no object, which the result says
			}
			blocks = append(blocks, anthropic.NewToolUseBlock(c.ID, arguments, c.Name))
		}
		if len(blocks) == 0 {
			continue // a model that said nothing; no text may be empty
		}
		if m.Role == fromModel {
			out = append(out, anthropic.NewAssistantMessage(blocks...))
		} else {
			out = append(out, anthropic.NewUserMessage(blocks...))
		}
	}
	return out
}

func anthropicImage(url string) anthropic.ContentBlockParamUnion {
	if head, data, ok := strings.Cut(url, ";base64,"); ok && strings.HasPrefix(head, "data:") {
		return anthropic.NewImageBlockBase64(strings.TrimPrefix(head, "data:"), data)
	}
	return anthropic.NewImageBlock(anthropic.URLImageSourceParam{URL: url})
}
