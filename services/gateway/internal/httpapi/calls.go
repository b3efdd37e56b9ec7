package httpapi

import (
	"context"
	"net/http"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// StepInput is about a step of an execution.
type StepInput struct {
	IDParam
	StepKey string `path:"stepKey" maxLength:"64" example:"decide"`
}

// BudgetBody is what POST executions/{id}/steps/{stepKey}/budget takes.
type BudgetBody struct {
	Approved   bool     `json:"approved" doc:"false has the step fail"`
	Comment    string   `json:"comment,omitempty" maxLength:"1000" doc:"of a refusal the step's error has it"`
	MaxCostUSD *float64 `json:"maxCostUsd,omitempty" exclusiveMinimum:"0" maximum:"1000000000" doc:"instead of the budget's, for this step; with neither maximum the budget does not bound it any more"`
	MaxTokens  *int64   `json:"maxTokens,omitempty" minimum:"1" maximum:"1000000000000000"`
}

func (a *API) routeCalls() {
	const tag = "executions"
	register(a, route{
		method: http.MethodGet, path: "/executions/{id}/steps/{stepKey}/calls", id: "listCalls", tag: tag,
		summary: "List what an LLM step has called, models and tools, oldest first", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *struct {
			StepInput
			VersionsParams
		},
		) (*listed[orchestrator.Call], error) {
			list, err := ask(ctx, a, orchestrator.ListCalls, orchestrator.ListCallsRequest{
				ExecutionID: in.ID, StepKey: in.StepKey, Page: rpc.Page{Page: in.Page, PageSize: in.PageSize, Cursor: in.Cursor},
			})
			return listedWith(ctx, list, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/executions/{id}/steps/{stepKey}/budget", id: "decideBudget", tag: tag,
		summary: "Let a step that waits for approval go on beyond its budget, or not", access: access{body: bodyLimit},
		errors:   []errs.Code{errs.NotFound, errs.Conflict},
		repeated: "Sent twice, the second finds nothing to decide: a 409, unless what was approved is used up by then.",
	},
		func(ctx context.Context, in *struct {
			StepInput
			Body BudgetBody
		},
		) (*answer[orchestrator.DecideBudgetResponse], error) {
			decided, err := ask(ctx, a, orchestrator.DecideBudget, orchestrator.DecideBudgetRequest{
				ID: in.ID, StepKey: in.StepKey, Approved: &in.Body.Approved, Comment: in.Body.Comment, MaxCostUSD: in.Body.MaxCostUSD, MaxTokens: in.Body.MaxTokens,
			})
			return answerWith(ctx, decided, err)
		})
}
