package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

// signalBody documents what POST executions/{id}/signals/{name} takes.
type signalBody struct {
	Payload any    `json:"payload,omitempty" doc:"any JSON; the output of the step that waits"`
	Approve bool   `json:"approve,omitempty" doc:"required when an approval is waited for"`
	Comment string `json:"comment,omitempty"`
}

// rerunBody documents what POST executions/{id}/rerun takes.
type rerunBody struct {
	From    string         `json:"from" doc:"the key of the step that runs again, and all that depend on it"`
	Inputs  map[string]any `json:"inputs,omitempty" doc:"instead of the execution's"`
	Outputs map[string]any `json:"outputs,omitempty" doc:"of steps that do not run again, instead of theirs, by step key"`
}

// BulkBody is what POST executions/bulk takes.
type BulkBody struct {
	Action string     `json:"action" enum:"CANCEL,RETRY"`
	Filter BulkFilter `json:"filter" doc:"as of the list of executions; an empty one names all"`
}

// BulkFilter names executions.
type BulkFilter struct {
	WorkflowID  string     `json:"workflowId,omitempty" format:"uuid"`
	Status      string     `json:"status,omitempty" enum:"PENDING,RUNNING,PAUSED,COMPLETED,FAILED,CANCELLED,TIMEOUT"`
	TriggerType string     `json:"triggerType,omitempty" enum:"MANUAL,SCHEDULED,API,WEBHOOK,EVENT"`
	TriggerID   string     `json:"triggerId,omitempty" format:"uuid"`
	From        *time.Time `json:"from,omitempty" doc:"created then or later"`
	To          *time.Time `json:"to,omitempty" doc:"created before then"`
	Search      string     `json:"search,omitempty" maxLength:"200"`
}

func (f BulkFilter) request() orchestrator.ListRequest {
	return orchestrator.ListRequest{
		Page: rpc.Page{Search: f.Search}, WorkflowID: f.WorkflowID, Status: f.Status, TriggerType: f.TriggerType, TriggerID: f.TriggerID, From: f.From, To: f.To,
	}
}

// bulkTimeout is how long a bulk may take. What is not done then is left for another request.
const bulkTimeout = time.Minute

// KeyParam makes a request safe to repeat.
type KeyParam struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"a repeated request with the same key repeats the first answer, for 24 h" example:"order-A-17"`
}

// Resolve has the request's calls of services carry the key.
func (p *KeyParam) Resolve(ctx huma.Context) []error {
	requestOf(ctx.Context()).caller.IdempotencyKey = p.IdempotencyKey
	return nil
}

func (a *API) routeControl() {
	const tag = "executions"
	a.command("cancel", "cancelExecution", "Cancel an execution", orchestrator.Cancel)
	a.command("pause", "pauseExecution", "Pause an execution: what runs goes on, nothing more starts", orchestrator.Pause)
	a.command("resume", "resumeExecution", "Let a paused execution go on", orchestrator.Resume)
	register(a, route{
		method: http.MethodPost, path: "/executions/{id}/signals/{name}", id: "signalExecution", tag: tag,
		summary: "Send a signal, or decide an approval, that an execution waits for or is going to",
		status:  http.StatusAccepted, access: access{body: executeBodyLimit}, document: reflect.TypeFor[signalBody](), optional: true,
		errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
			Name string `path:"name" maxLength:"200" example:"approval"`
		},
		) (*answer[orchestrator.CommandResponse], error) {
			signal, err := parseSignal(in.RawBody)
			if err != nil {
				return nil, err
			}
			signal.ID, signal.Name, signal.IdempotencyKey = in.ID, in.Name, in.IdempotencyKey
			command, err := ask(ctx, a, orchestrator.SendSignal, signal)
			return answerWith(ctx, command, err)
		})
	register(a, again("retry", "retryExecution", "Run again, as a new execution, what has not completed in one that failed, was cancelled or timed out"),
		func(ctx context.Context, in *againInput) (*answer[orchestrator.Execution], error) {
			accepted, err := ask(ctx, a, orchestrator.Retry, orchestrator.RetryRequest{ID: in.ID, IdempotencyKey: in.IdempotencyKey})
			return answerWith(ctx, accepted.Execution, err)
		})
	register(a, again("replay", "replayExecution", "Repeat an execution that has ended, as a new one, by what is recorded of it: nothing outside is asked again"),
		func(ctx context.Context, in *againInput) (*answer[orchestrator.Execution], error) {
			accepted, err := ask(ctx, a, orchestrator.Replay, orchestrator.ReplayRequest{ID: in.ID, IdempotencyKey: in.IdempotencyKey})
			return answerWith(ctx, accepted.Execution, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/executions/{id}/rerun", id: "rerunExecution", tag: tag,
		summary: "Run an execution that has ended again from a step on, as a new one",
		status:  http.StatusCreated, access: access{body: executeBodyLimit}, document: reflect.TypeFor[rerunBody](),
		errors: []errs.Code{errs.NotFound, errs.Conflict},
	},
		func(ctx context.Context, in *struct {
			IDParam
			KeyParam
			RawJSON
		},
		) (*answer[orchestrator.Execution], error) {
			rerun, err := parseRerun(in.RawBody)
			if err != nil {
				return nil, err
			}
			rerun.ID, rerun.IdempotencyKey = in.ID, in.IdempotencyKey
			accepted, err := ask(ctx, a, orchestrator.Rerun, rerun)
			return answerWith(ctx, accepted.Execution, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/executions/{id}/explain", id: "explainExecution", tag: tag,
		summary: "Tell why an execution, and each of its steps, is where it is", errors: []errs.Code{errs.NotFound},
	},
		func(ctx context.Context, in *IDParam) (*answer[orchestrator.Explanation], error) {
			explanation, err := ask(ctx, a, orchestrator.Explain, orchestrator.IDRequest{ID: in.ID})
			return answerWith(ctx, explanation, err)
		})
	register(a, route{
		method: http.MethodPost, path: "/executions/bulk", id: "bulkExecutions", tag: tag,
		summary: "Cancel or retry the executions that a filter names, the oldest first, 1,000 at most", access: access{body: bodyLimit},
		repeated: "Sent twice it goes on with what is left: what is cancelled or run again by one is left out by the next.",
	},
		func(ctx context.Context, in *struct{ Body BulkBody }) (*answer[orchestrator.BulkResponse], error) {
			ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
			defer cancel()
			done, err := ask(ctx, a, orchestrator.Bulk, orchestrator.BulkRequest{Action: in.Body.Action, Filter: in.Body.Filter.request()})
			return answerWith(ctx, done, err)
		})
}

// againInput names an execution that is run again.
type againInput struct {
	IDParam
	KeyParam
}

// again routes what runs an execution again without more being said.
func again(verb, id, summary string) route {
	return route{
		method: http.MethodPost, path: "/executions/{id}/" + verb, id: id, tag: "executions", summary: summary,
		status: http.StatusCreated, errors: []errs.Code{errs.NotFound, errs.Conflict},
	}
}

// command routes what is asked of an execution without more being said.
func (a *API) command(verb, id, summary string, m rpc.Method[orchestrator.IDRequest, orchestrator.CommandResponse]) {
	register(a, route{
		method: http.MethodPost, path: "/executions/{id}/" + verb, id: id, tag: "executions", summary: summary,
		status: http.StatusAccepted, errors: []errs.Code{errs.NotFound, errs.Conflict},
		repeated: "Sent twice it does what it does once.",
	},
		func(ctx context.Context, in *IDParam) (*answer[orchestrator.CommandResponse], error) {
			command, err := ask(ctx, a, m, orchestrator.IDRequest{ID: in.ID})
			return answerWith(ctx, command, err)
		})
}

// parseSignal reads the body of a signal, which may be absent. The payload stays as it is.
func parseSignal(body []byte) (orchestrator.SignalRequest, error) {
	var signal orchestrator.SignalRequest
	if len(body) == 0 {
		return signal, nil
	}
	if err := object(body); err != nil {
		return signal, err
	}
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Only("payload", "approve", "comment")
		o.Any("payload", &signal.Payload, nil)
		o.String("comment", &signal.Comment, "", 0, bodyLimit)
		if o.Has("approve") && !o.IsNull("approve") {
			signal.Approve = new(bool)
			o.Bool("approve", signal.Approve, false)
		}
	}
	return signal, faults.Err("signal")
}

// parseRerun reads the body of a rerun. Inputs and outputs stay as they are.
func parseRerun(body []byte) (orchestrator.RerunRequest, error) {
	var rerun orchestrator.RerunRequest
	if err := object(body); err != nil {
		return rerun, err
	}
	var faults form.Faults
	if o, ok := form.Read(body, &faults); ok {
		o.Only("from", "inputs", "outputs")
		o.Require(true, "from")
		o.String("from", &rerun.From, "", 1, 64)
		o.Object("inputs", &rerun.Inputs, nil)
		var outputs json.RawMessage
		o.Object("outputs", &outputs, nil)
		if outputs != nil {
			if err := json.Unmarshal(outputs, &rerun.Outputs); err != nil {
				faults.Add("outputs", errs.BadJSON, "is not valid JSON; correct its syntax")
			}
		}
	}
	return rerun, faults.Err("request")
}
