package llm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/schema"
	"turbocat.io/pkg/template"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/form"
	"turbocat.io/services/runner/internal/inputs"
)

// attempt is the conversation of one task.
type attempt struct {
	executor  *Executor
	task      executor.Task
	config    *catalog.LLMConfig
	providers []candidate
	budgets   []catalog.Budget // those that have downgraded bound nothing any more, at their old places
	instead   string           // the model of a budget that has downgraded; "" for the providers' own
	format    *schema.Schema   // of the answer; nil for none
	memory    string           // the key of the conversation; "" for none
	turns     int
	tools     toolbox

	system   string
	messages []message
	asked    int // messages that the ledger was told of
	first    message
	calls    int // begun in the ledger
	micros   int64
	out      Output
}

// candidate is a provider of the config.
type candidate struct {
	provider
	kind, name, model string // kind is the type of the provider
	breaker           string // its key
	timeout           time.Duration
}

// begin reads a task. Its error is a *runner.StepError.
func (e *Executor) begin(task executor.Task) (*attempt, error) {
	var c catalog.LLMConfig
	if err := json.Unmarshal(task.Config, &c); err != nil {
		return nil, &runner.StepError{Code: runner.CodeInvalidConfig, Message: "the config of the LLM agent can not be read: " + err.Error()}
	}
	a := &attempt{executor: e, task: task, config: &c, budgets: c.Budgets, turns: cmp.Or(c.MaxTurns, catalog.DefaultLLMTurns), out: Output{ToolCalls: []ToolCall{}}}
	fields := &fields{in: inputs.Of(task)}
	a.system = fields.text("system", c.System)
	a.first = message{Role: fromUser, Text: fields.text("prompt", c.Prompt)}
	if c.Prompt == "" {
		a.first.Text = promptOf(task.Input)
	}
	for i, image := range c.Images {
		at := fmt.Sprintf("images[%d]", i)
		if url := fields.text(at, image); strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "data:image/") {
			a.first.Images = append(a.first.Images, url)
		} else {
			fields.faults.Add(at, "is no image; give an https URL, or a data URL like data:image/png;base64,...")
		}
	}
	if c.Memory != nil {
		if a.memory = fields.text("memory.key", c.Memory.Key); a.memory == "" {
			fields.faults.Add("memory.key", "is empty; name the conversation")
		}
	}
	a.resolveProviders(fields)
	a.tools.resolve(c.Tools, fields)
	if wantsJSON(&c) {
		a.resolveFormat(fields)
	}
	if fields.err != nil {
		return nil, fields.err
	}
	return a, fields.faults.Err("LLM")
}

func (a *attempt) resolveProviders(f *fields) {
	cfg, c := a.executor.cfg, a.config
	for i, p := range c.Providers {
		at := fmt.Sprintf("providers[%d]", i)
		found := candidate{
			kind: p.Type, name: cmp.Or(p.Name, p.Type), model: cmp.Or(p.Model, c.Model), breaker: strings.Join([]string{a.task.UserID, p.Type, p.BaseURL}, " "),
			timeout: time.Duration(cmp.Or(p.TimeoutMs, catalog.DefaultLLMAnswerMs)) * time.Millisecond,
		}
		key := f.secret(at+".apiKey", p.APIKey)
		base, missing := p.BaseURL, ""
		switch p.Type {
		case catalog.ProviderOpenAI:
			if base == "" {
				base, key, missing = cfg.OpenAIURL, cmp.Or(key, cfg.OpenAIKey), "OPENAI_API_KEY"
			}
			found.provider = newOpenAI(cfg.Client, base, key)
		case catalog.ProviderAnthropic:
			if base == "" {
				base, key, missing = cfg.AnthropicURL, cmp.Or(key, cfg.AnthropicKey), "ANTHROPIC_API_KEY"
			}
			found.provider = newAnthropic(cfg.Client, base, key)
		default:
			f.faults.Add(at+".type", "is %q; it must be one of openai, anthropic", p.Type)
		}
		if missing != "" && key == "" {
			f.faults.Add(at+".apiKey", "is missing, and this runner has none of its own; give {{secrets.NAME}}, or have the operator set %s", missing)
		}
		if found.model == "" {
			f.faults.Add(at+".model", "is missing; name a model here or in config.model")
		}
		a.providers = append(a.providers, found)
	}
	if len(a.providers) == 0 {
		f.faults.Add("providers", "is missing; name at least one")
	}
}

// resolveFormat has the model told what its answer is to be. Not every provider has a way of its own to say so, and none is bound by it.
func (a *attempt) resolveFormat(f *fields) {
	instruction := "Answer with one JSON value and nothing else: no text before or after it, no code fence."
	if raw := a.config.ResponseFormat.Schema; len(raw) > 0 {
		var err error
		if a.format, err = schema.Compile(raw); err != nil {
			f.faults.Add("responseFormat.schema", "can not be used: %v", err)
		}
		instruction += " It must fit this JSON Schema: " + string(raw)
	}
	a.system = strings.TrimSpace(a.system + "\n\n" + instruction)
}

// promptOf gives what a model is asked when the config does not say: the input's prompt, or all of the input.
func promptOf(input json.RawMessage) string {
	var said struct{ Prompt *string }
	if json.Unmarshal(input, &said) == nil && said.Prompt != nil {
		return *said.Prompt
	}
	return string(input)
}

// size gives the bytes of the conversation.
func (a *attempt) size() int {
	size := len(a.system)
	for _, m := range a.messages {
		size += m.size()
	}
	return size
}

// say adds a message to the conversation.
func (a *attempt) say(m message) { a.messages = append(a.messages, m) }

// recall begins with what was said before under the memory's key, and this step's question.
func (a *attempt) recall(ctx context.Context) error {
	if a.memory != "" {
		known, err := a.task.Calls.Recall(ctx, a.memory, cmp.Or(a.config.Memory.MaxMessages, catalog.DefaultLLMMessages))
		if err != nil {
			return err
		}
		for _, raw := range known {
			var m message
			if json.Unmarshal(raw, &m) == nil && (m.Role == fromUser || m.Role == fromModel && len(a.messages) > 0) { // an answer whose question is over says nothing
				a.say(m)
			}
		}
	}
	a.say(a.first)
	return nil
}

// remember adds the question and the answer to what was said, without images and what tools had to do with it.
func (a *attempt) remember(ctx context.Context) error {
	if a.memory == "" {
		return nil
	}
	question, err := json.Marshal(message{Role: fromUser, Text: a.first.Text})
	if err != nil {
		return err
	}
	said, err := json.Marshal(message{Role: fromModel, Text: a.out.Text})
	if err != nil {
		return err
	}
	return a.task.Calls.Remember(ctx, a.memory, []json.RawMessage{question, said})
}

// fields resolves those fields of a config that are templates.
type fields struct {
	in     *inputs.Inputs
	faults form.Faults
	err    error // the first that is no fault of the config
}

// text resolves a field in which secrets are not put in: models tell what they read.
func (f *fields) text(field, text string) string { return f.resolve(field, text, f.in.Public) }

// secret resolves a field that a provider or a server of tools is sent in its headers.
func (f *fields) secret(field, text string) string { return f.resolve(field, text, f.in.Lookup) }

func (f *fields) resolve(field, text string, lookup template.Lookup) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		f.faults.Add(field, "%v", err)
		return ""
	}
	t, problems := template.Parse(quoted)
	for _, p := range problems {
		f.faults.Add(field, "%s", p.Message)
	}
	if t == nil || len(problems) > 0 {
		return ""
	}
	raw, err := f.in.Render(t, lookup)
	if err != nil && f.err == nil {
		f.err = err
	}
	return inputs.Text(raw)
}

func wantsJSON(c *catalog.LLMConfig) bool {
	return c.ResponseFormat != nil && c.ResponseFormat.Type == catalog.ResponseJSON
}

func maxTokens(c *catalog.LLMConfig) int64 { return cmp.Or(c.MaxTokens, catalog.DefaultLLMTokens) }
