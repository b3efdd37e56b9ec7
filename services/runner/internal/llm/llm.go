// Package llm runs LLM agents: it asks models of providers in order, has the tools run that they want, and gives what they say in the
// end. Every call of a model or a tool is one of the orchestrator's ledger, which reserves what it may use before it is made.
//
// What comes from a model or a tool is data: a tool is run when the config lists it and its arguments fit, and at most maxTurns times
// a model is asked.
package llm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
	"turbocat.io/services/runner/internal/jail"
)

// MaxAnswer bounds what a provider or an MCP server may send for one request, in bytes. A stream takes some ten times its text.
const MaxAnswer = 16 << 20

// maxConversation bounds what a model is told in one request, in bytes: the messages before and images among it.
const maxConversation = 16 << 20

// Config of an Executor.
type Config struct {
	Client       *http.Client // one of guard.NewClient with MaxAnswer
	Prices       *Prices
	OpenAIKey    string // the operator's, for providers without apiKey and baseUrl; "" for none
	AnthropicKey string
	OpenAIURL    string // of the official provider; "" for its own
	AnthropicURL string
	Watch        *Watch    // nil watches nothing
	Programs     Programs  // that may be MCP servers
	Host         jail.Host // how they stand among others; this program's main begins with jail.Main
}

// Executor runs LLM agents.
type Executor struct {
	cfg      Config
	breakers *breakers
}

var _ executor.Interface = (*Executor)(nil)

// New makes an Executor.
func New(cfg Config) *Executor { return &Executor{cfg: cfg, breakers: newBreakers()} }

// Output is what an LLM step gives.
type Output struct {
	Text       string          `json:"text"`
	JSON       json.RawMessage `json:"json,omitempty"` // with responseFormat json
	Model      string          `json:"model"`
	Provider   string          `json:"provider"`
	StopReason string          `json:"stopReason"` // stop, length or refusal
	Turns      int             `json:"turns"`      // how often a model has answered
	Usage      Usage           `json:"usage"`      // of this attempt
	ToolCalls  []ToolCall      `json:"toolCalls"`
}

// Usage is what the models of an attempt have taken.
type Usage struct {
	InputTokens  int64   `json:"inputTokens"`
	OutputTokens int64   `json:"outputTokens"`
	CostUSD      float64 `json:"costUsd"`
}

// ToolCall is a tool that was run.
type ToolCall struct {
	Name   string `json:"name"`
	CallID string `json:"callId"` // in the calls of the step, with what went in and came out
	Failed bool   `json:"failed,omitempty"`
}

// Run holds the conversation with the models and gives an Output.
func (e *Executor) Run(ctx context.Context, task executor.Task) (json.RawMessage, error) {
	a, err := e.begin(task)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(cmp.Or(a.config.TimeoutMs, catalog.DefaultLLMTimeoutMs)) * time.Millisecond
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := a.converse(limited)
	switch {
	case err == nil:
		return json.Marshal(out)
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return nil, &runner.StepError{Code: runner.CodeStepTimeout, Message: fmt.Sprintf("no answer within timeoutMs (%d)", timeout.Milliseconds()), Retryable: true}
	}
	return nil, err
}

// converse asks until a model says something that is no wish for a tool.
func (a *attempt) converse(ctx context.Context) (Output, error) {
	if err := a.equip(ctx); err != nil {
		return Output{}, err
	}
	defer a.tools.close()
	if err := a.recall(ctx); err != nil {
		return Output{}, err
	}
	repaired := false
	for a.out.Turns = 1; a.out.Turns <= a.turns; a.out.Turns++ {
		if size := a.size(); size > maxConversation {
			return Output{}, &runner.StepError{
				Code:    runner.CodeInputLimit,
				Message: fmt.Sprintf("the conversation has %d bytes, more than %d; give smaller images or a shorter prompt, or have tools tell less", size, maxConversation),
			}
		}
		said, err := a.ask(ctx)
		if err != nil {
			return Output{}, err
		}
		a.say(message{Role: fromModel, Text: said.text, Calls: said.uses})
		if len(said.uses) > 0 {
			results, err := a.useAll(ctx, said.uses)
			if err != nil {
				return Output{}, err
			}
			a.say(message{Role: fromTools, Results: results})
			continue
		}
		a.out.Text, a.out.StopReason = said.text, said.stop
		faults, err := a.read(ctx, said)
		switch {
		case err != nil:
			return Output{}, err
		case faults == "":
			return a.out, a.remember(ctx)
		case repaired:
			return Output{}, &runner.StepError{Code: runner.CodeInvalidOutput, Message: "the answer of " + a.out.Model + " does not fit responseFormat, also when it was asked to mend it: " + faults}
		}
		repaired = true
		a.task.Log("WARN", "engine", "the answer of "+a.out.Model+" does not fit responseFormat; it is asked once to mend it: "+faults)
		a.say(message{Role: fromUser, Text: "Your answer does not fit: " + faults + ". Answer again with the corrected JSON and nothing else."})
	}
	return Output{}, &runner.StepError{
		Code:    runner.CodeTurnLimit,
		Message: fmt.Sprintf("a model was asked maxTurns (%d) times and still did not end; allow more turns, or tell it when to stop", a.turns),
	}
}

// used adds what a call has used to the attempt's.
func (a *attempt) used(u usage, micros int64) {
	a.out.Usage.InputTokens += u.input
	a.out.Usage.OutputTokens += u.output
	a.micros += micros
	a.out.Usage.CostUSD = orchestrator.USD(a.micros)
}
