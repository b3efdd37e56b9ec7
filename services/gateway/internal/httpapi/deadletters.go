package httpapi

import (
	"context"
	"net/http"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

func (a *API) routeDeadLetters() {
	const tag, all, one = "dead-letters", "/dead-letters", "/dead-letters/{id}"
	register(a, route{method: http.MethodGet, path: all, id: "listDeadLetters", sorts: []string{"createdAt"}, tag: tag, summary: "List inputs of executions that could not be applied; for an ADMIN"},
		func(ctx context.Context, in *struct {
			PageParams
			SortParams
			Reason   string `query:"reason" enum:"NO_INPUT,NO_EXECUTION"`
			Replayed string `query:"replayed" enum:"true,false" doc:"those that were sent once more, or those that were not"`
		},
		) (*listed[orchestrator.DeadLetter], error) {
			list, err := ask(ctx, a, orchestrator.ListDeadLetters, orchestrator.DeadLettersRequest{Page: page(in.PageParams, in.SortParams), Reason: in.Reason, Replayed: in.Replayed})
			return listedWith(ctx, list, err)
		})
	register(a, route{method: http.MethodGet, path: all + "/counts", id: "countDeadLetters", tag: tag, summary: "Count them by reason; for an ADMIN"},
		func(ctx context.Context, _ *struct{}) (*answer[[]orchestrator.DeadLetterCount], error) {
			got, err := ask(ctx, a, orchestrator.CountDeadLetters, rpc.Empty{})
			return answerWith(ctx, got.Counts, err)
		})
	register(a, route{method: http.MethodGet, path: one, id: "getDeadLetter", tag: tag, summary: "Show one with its body; for an ADMIN", errors: []errs.Code{errs.NotFound}},
		func(ctx context.Context, in *IDParam) (*answer[orchestrator.DeadLetter], error) {
			got, err := ask(ctx, a, orchestrator.GetDeadLetter, orchestrator.IDRequest{ID: in.ID})
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodPost, path: one + "/replay", id: "replayDeadLetter", tag: tag, summary: "Send one once more, as it came; for an ADMIN", errors: []errs.Code{errs.NotFound},
		repeated: "Sent twice it is sent twice, which has the effect of once. What can still not be applied is another dead letter then.",
	},
		func(ctx context.Context, in *IDParam) (*answer[orchestrator.DeadLetter], error) {
			got, err := ask(ctx, a, orchestrator.ReplayDeadLetter, orchestrator.IDRequest{ID: in.ID})
			return answerWith(ctx, got, err)
		})
}
