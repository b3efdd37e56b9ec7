package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/runner/internal/executor"
)

// ask asks the first provider that answers.
func (a *attempt) ask(ctx context.Context) (answer, error) {
	var failures []*failure
	for i, p := range a.providers {
		said, err := a.askOne(ctx, p)
		var failed *failure
		if err == nil || !errors.As(err, &failed) {
			return said, err
		}
		failed.message = p.name + ": " + failed.message
		failures = append(failures, failed)
		if i < len(a.providers)-1 {
			a.task.Log("WARN", "engine", failed.message+"; falling back to "+a.providers[i+1].name)
		}
	}
	return answer{}, noAnswer(failures)
}

// noAnswer is the end of an attempt that no provider has answered.
func noAnswer(failures []*failure) *runner.StepError {
	out := &runner.StepError{Code: runner.CodeLLMError}
	lines := make([]string, len(failures))
	addresses := 0
	var soonest time.Duration
	for i, f := range failures {
		lines[i] = f.message
		if f.address {
			addresses++
		}
		if f.transient {
			out.Code, out.Retryable = runner.CodeLLMUnavailable, true
			if soonest == 0 || f.retryAfter < soonest {
				soonest = f.retryAfter
			}
		}
	}
	out.RetryAfterMs = soonest.Milliseconds()
	if addresses == len(failures) {
		out.Code = runner.CodeAddress
	}
	out.Message = "no provider has answered: " + strings.Join(lines, "; ")
	return out
}

// askOne asks one provider. Its errors are a *failure, for which another one may be asked, or the end of the attempt.
func (a *attempt) askOne(ctx context.Context, p candidate) (answer, error) {
	pass, err := a.executor.breakers.allow(p.breaker)
	if err != nil {
		return answer{}, err
	}
	said, err := a.call(ctx, p)
	pass(err)
	return said, err
}

// call has a call of a model recorded, makes it, and settles it.
func (a *attempt) call(ctx context.Context, p candidate) (answer, error) {
	q := question{system: a.system, messages: a.messages, tools: a.tools.offers, config: a.config}
	begun, err := a.reserve(ctx, p, &q)
	if err != nil {
		return answer{}, err
	}
	if !a.task.Ours() {
		return answer{}, executor.ErrNotOurs
	}
	asking, cancel := context.WithTimeoutCause(ctx, p.timeout, errSlow)
	defer cancel()
	n := a.calls
	traced, answered := a.executor.cfg.Watch.asking(asking, p.kind, q)
	said, err := p.ask(traced, q, func(text string) { a.task.Tokens(n, text) })
	answered(said, err)
	ended := executor.EndedCall{ID: begun.id}
	var failed *failure
	switch {
	case err == nil:
		a.name(said.uses)
		if said.usage == (usage{}) { // a server that does not count
			said.usage = usage{input: q.estimate(), output: tokensOf(len(said.text)) + 1}
		}
		ended.Output, err = json.Marshal(recorded{Text: said.text, ToolCalls: said.uses, StopReason: said.stop})
		if err != nil {
			return answer{}, err
		}
		a.out.Model, a.out.Provider, a.asked = q.model, p.name, len(a.messages)
	case errors.As(err, &failed):
		ended.Error = &orchestrator.CallError{Code: runner.CodeLLMError, Message: failed.message}
		if failed.spent {
			said.usage = begun.most
		}
	default: // cancelled, or out of time: nobody knows what it has used
		ended.Error, said.usage = &orchestrator.CallError{Code: runner.CodeCancelled, Message: err.Error()}, begun.most
	}
	ended.InputTokens, ended.OutputTokens, ended.CostMicros = said.usage.input, said.usage.output, begun.price.cost(said.usage)
	a.used(said.usage, ended.CostMicros)
	if err := a.task.Calls.End(ctx, ended); err != nil {
		return answer{}, err
	}
	return said, err
}

// recorded is the output of a call of a model.
type recorded struct {
	Text       string `json:"text"`
	ToolCalls  []use  `json:"toolCalls,omitempty"`
	StopReason string `json:"stopReason"`
}

// name gives the calls of an answer ids that no other of the attempt has.
func (a *attempt) name(uses []use) {
	for i := range uses {
		uses[i].ID = fmt.Sprintf("call_%d_%d", a.calls, i+1)
	}
}

// begunCall is a call of a model that has its reservation.
type begunCall struct {
	id    string
	price price
	most  usage // that it may use
}

// reserve has the call recorded once all budgets have room for it. A budget may have another model asked instead, which q then names.
func (a *attempt) reserve(ctx context.Context, p candidate, q *question) (begunCall, error) {
	input, err := json.Marshal(a.fresh())
	if err != nil {
		return begunCall{}, err
	}
	a.calls++
	for {
		q.model = p.model
		if a.instead != "" {
			q.model = a.instead
		}
		found, known := a.executor.cfg.Prices.of(q.model)
		if !known && p.name != a.out.Provider {
			a.task.Log("WARN", "engine", fmt.Sprintf("the price of %s is not known: its tokens count, its money does not; an operator adds it to the file of TURBOCAT_LLM_PRICES", q.model))
		}
		most := usage{input: q.estimate(), output: maxTokens(a.config)}
		call := executor.BeginCall{
			N: a.calls, Kind: orchestrator.CallOfModel, Name: q.model, Provider: p.name, Input: input, Within: p.timeout + time.Minute,
			ReserveTokens: most.input + most.output, ReserveMicros: found.cost(most), Budgets: a.budgets,
		}
		call.Waiting = func(d orchestrator.DeniedCall) {
			a.task.Log("WARN", "engine", exceeded(&d, call)+"; the step waits until somebody approves of more, or refuses")
		}
		begun, err := a.task.Calls.Begin(ctx, call)
		switch {
		case err != nil:
			return begunCall{}, err
		case begun.Denied == nil:
			return begunCall{id: begun.ID, price: found, most: most}, nil
		case begun.Denied.Action != catalog.BudgetDowngrade || begun.Denied.Budget < 0 || begun.Denied.Budget >= len(a.budgets):
			return begunCall{}, denied(begun.Denied, call)
		}
		a.downgrade(begun.Denied, call)
	}
}

// fresh is what the ledger does not have yet of the conversation.
func (a *attempt) fresh() any {
	news := make([]message, 0, len(a.messages)-a.asked)
	for _, m := range a.messages[a.asked:] {
		if m.Role == fromModel && a.asked > 0 {
			continue // the output of the call before
		}
		shown := m
		shown.Images = nil
		for _, image := range m.Images {
			if strings.HasPrefix(image, "data:") {
				image = fmt.Sprintf("%.32s... (%d bytes)", image, len(image))
			}
			shown.Images = append(shown.Images, image)
		}
		news = append(news, shown)
	}
	out := struct {
		System   string    `json:"system,omitempty"`
		Messages []message `json:"messages"`
	}{Messages: news}
	if a.asked == 0 {
		out.System = a.system
	}
	return out
}

// downgrade goes on with the model of a budget, which does not bound anything any more.
func (a *attempt) downgrade(d *orchestrator.DeniedCall, call executor.BeginCall) {
	a.instead = a.budgets[d.Budget].Model
	a.task.Log("WARN", "engine", fmt.Sprintf("%s; going on with %s", exceeded(d, call), a.instead))
	a.budgets = append([]catalog.Budget(nil), a.budgets...)
	a.budgets[d.Budget] = catalog.Budget{Scope: d.Scope}
}

func denied(d *orchestrator.DeniedCall, call executor.BeginCall) *runner.StepError {
	message := exceeded(d, call)
	switch {
	case d.Pending:
		message += "; nobody decided in time"
	case d.Action == catalog.BudgetApprove:
		message += "; more was refused"
		if d.Comment != "" {
			message += ": " + d.Comment
		}
	}
	return &runner.StepError{Code: runner.CodeBudget, Message: message}
}

// exceeded names a budget that has no room for a call.
func exceeded(d *orchestrator.DeniedCall, call executor.BeginCall) string {
	which := fmt.Sprintf("budgets[%d], of the %s,", d.Budget, d.Scope)
	if d.Budget < 0 {
		which = "the operator's budget for a user and a day"
	}
	var used, needs []string
	if d.MaxMicros > 0 {
		used = append(used, fmt.Sprintf("$%g of $%g", orchestrator.USD(d.UsedMicros), orchestrator.USD(d.MaxMicros)))
		needs = append(needs, fmt.Sprintf("$%g", orchestrator.USD(call.ReserveMicros)))
	}
	if d.MaxTokens > 0 {
		used = append(used, fmt.Sprintf("%d of %d tokens", d.UsedTokens, d.MaxTokens))
		needs = append(needs, fmt.Sprintf("%d tokens", call.ReserveTokens))
	}
	return fmt.Sprintf("%s has no room for another call: %s are used or reserved, and with its maxTokens it may take %s", which, strings.Join(used, " and "), strings.Join(needs, " and "))
}
