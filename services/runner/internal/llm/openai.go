package llm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/shared"
)

const openAIURL = "https://api.openai.com/v1/"

// openAI asks the models of OpenAI, or of a server that speaks like it.
type openAI struct {
	completions openai.ChatCompletionService
	official    bool
}

// newOpenAI makes a provider; base is "" for the official one, key "" for none.
func newOpenAI(client *http.Client, base, key string) *openAI {
	// The service is made without a client of the library, which would read keys and addresses from the environment.
	opts := []option.RequestOption{option.WithHTTPClient(client), option.WithMaxRetries(0)}
	if base == "" {
		opts = append(opts, option.WithBaseURL(openAIURL))
	} else {
		opts = append(opts, option.WithBaseURL(strings.TrimSuffix(base, "/")+"/"))
	}
	if key != "" {
		opts = append(opts, option.WithAPIKey(key))
	}
	return &openAI{completions: openai.NewChatCompletionService(opts...), official: base == ""}
}

// ask implements provider.
func (p *openAI) ask(ctx context.Context, q question, write func(text string)) (answer, error) {
	stream := p.completions.NewStreaming(ctx, p.params(q))
	defer func() { _ = stream.Close() }()
	var a answer
	var text strings.Builder
	began := false
	for stream.Next() {
		began = true
		chunk := stream.Current()
		if chunk.Usage.TotalTokens > 0 || chunk.Usage.PromptTokens > 0 {
			a.usage = usage{input: chunk.Usage.PromptTokens, output: chunk.Usage.CompletionTokens}
		}
		for _, choice := range chunk.Choices {
			if choice.Index != 0 {
				continue // one answer was asked for
			}
			if piece := choice.Delta.Content + choice.Delta.Refusal; piece != "" {
				text.WriteString(piece)
				write(piece)
			}
			for _, call := range choice.Delta.ToolCalls {
				a.uses = addCall(a.uses, call)
			}
			if choice.FinishReason != "" {
				a.stop = choice.FinishReason
			}
		}
	}
	a.text = text.String()
	switch err := stream.Err(); {
	case err != nil:
		return answer{}, openAIFailure(ctx, err, began)
	case a.stop == "":
		return answer{}, broken(ctx, errTruncated, began)
	}
	switch a.stop {
	case "length":
		a.stop = stopLimit
	case "content_filter":
		a.stop = stopNo
	default: // servers that are compatible say "stop" beside tool calls
		a.stop = stopped
		if len(a.uses) > 0 {
			a.stop = stopTools
		}
	}
	return a, nil
}

// addCall adds a piece of a tool call. Some servers give every call the index 0, and each its id.
func addCall(uses []use, piece openai.ChatCompletionChunkChoiceDeltaToolCall) []use {
	at := int(piece.Index)
	fresh := at >= len(uses) || at < 0
	if !fresh && piece.ID != "" && uses[at].ID != "" && uses[at].ID != piece.ID {
		at = len(uses) - 1
		fresh = uses[at].ID != piece.ID
	}
	if fresh {
		uses, at = append(uses, use{}), len(uses)
	}
	u := &uses[at]
	if u.ID == "" {
		u.ID = piece.ID
	}
	u.Name += piece.Function.Name
	u.Arguments += piece.Function.Arguments
	return uses
}

func openAIFailure(ctx context.Context, err error, began bool) error {
	var inStream *ssestream.StreamError
	var answered *openai.Error
	switch {
	case ctx.Err() != nil:
		return broken(ctx, err, began)
	case errors.As(err, &inStream):
		kind, text := errorOf(string(inStream.Event.Data))
		return refused(0, nil, kind, text)
	case errors.As(err, &answered):
		kind, text := answered.Type, answered.Message
		if kind == "" && text == "" {
			kind, text = errorOf(answered.RawJSON())
		}
		var header http.Header
		if answered.Response != nil {
			header = answered.Response.Header
		}
		return refused(answered.StatusCode, header, kind, text)
	}
	return broken(ctx, err, began)
}

func (p *openAI) params(q question) openai.ChatCompletionNewParams {
	c := q.config
	params := openai.ChatCompletionNewParams{
		Model: q.model, Messages: p.messages(q),
		Temperature: optional(c.Temperature), TopP: optional(c.TopP), FrequencyPenalty: optional(c.FrequencyPenalty), PresencePenalty: optional(c.PresencePenalty),
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)},
	}
	if p.official {
		params.MaxCompletionTokens = param.NewOpt(maxTokens(c))
	} else {
		params.MaxTokens = param.NewOpt(maxTokens(c)) // the older name, which all know
	}
	if len(c.Stop) > 0 {
		params.Stop.OfStringArray = c.Stop
	}
	for _, t := range q.tools {
		var parameters shared.FunctionParameters
		_ = json.Unmarshal(t.parameters, &parameters) // it was checked to be an object
		params.Tools = append(params.Tools, openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: t.name, Description: param.NewOpt(t.description), Parameters: parameters,
		}))
	}
	if wantsJSON(c) {
		if len(c.ResponseFormat.Schema) > 0 {
			params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
				JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "answer", Schema: c.ResponseFormat.Schema},
			}
		} else {
			params.ResponseFormat.OfJSONObject = &shared.ResponseFormatJSONObjectParam{}
		}
	}
	return params
}

func (p *openAI) messages(q question) (out []openai.ChatCompletionMessageParamUnion) {
	if q.system != "" {
		out = append(out, openai.SystemMessage(q.system))
	}
	for _, m := range q.messages {
		switch m.Role {
		case fromUser:
			out = append(out, openAIUser(m))
		case fromModel:
			var said openai.ChatCompletionAssistantMessageParam
			if m.Text != "" || len(m.Calls) == 0 {
				said.Content.OfString = param.NewOpt(m.Text)
			}
			for _, c := range m.Calls {
				said.ToolCalls = append(said.ToolCalls, openai.ChatCompletionMessageToolCallUnionParam{
					OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{
						ID: c.ID, Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: c.Name, Arguments: c.Arguments},
					},
				})
			}
			out = append(out, openai.ChatCompletionMessageParamUnion{OfAssistant: &said})
		case fromTools:
			for _, r := range m.Results {
				out = append(out, openai.ToolMessage(r.Text, r.ID))
			}
		}
	}
	return out
}

func openAIUser(m message) openai.ChatCompletionMessageParamUnion {
	if len(m.Images) == 0 {
		return openai.UserMessage(m.Text)
	}
	parts := []openai.ChatCompletionContentPartUnionParam{openai.TextContentPart(m.Text)}
	for _, image := range m.Images {
		parts = append(parts, openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: image}))
	}
	return openai.UserMessage(parts)
}

func optional(v *float64) param.Opt[float64] {
	if v == nil {
		return param.Opt[float64]{}
	}
	return param.NewOpt(*v)
}
