package httpapi

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
)

// MetricsParams say of which time figures are wanted.
type MetricsParams struct {
	From     time.Time `query:"from" doc:"executions that were created then or later, by quarters of an hour; 30 days before to when absent" example:"2026-11-01T00:00:00Z"`
	To       time.Time `query:"to" doc:"and before this time; now when absent" example:"2026-12-01T00:00:00Z"`
	Interval string    `query:"interval" enum:"hour,day,week,month" default:"day" doc:"of the time series, which has 750 buckets at most; weeks begin on Monday"`
	TimeZone string    `query:"timeZone" maxLength:"64" default:"UTC" doc:"in which days, weeks and months begin" example:"Europe/Berlin"`
}

func (p MetricsParams) request(of, id string) telemetry.MetricsRequest {
	return telemetry.MetricsRequest{Of: of, ID: id, From: optional(p.From), To: optional(p.To), Interval: p.Interval, TimeZone: p.TimeZone}
}

// Overview is what somebody's executions amount to.
type Overview struct {
	Resources ResourceCounts `json:"resources"`
	telemetry.Metrics
}

// ResourceCounts tells how many things the caller may see, up to 10,000 of each.
type ResourceCounts struct {
	Agents    int `json:"agents"`
	Workflows int `json:"workflows"`
	Templates int `json:"templates"`
}

func (a *API) routeAnalytics() {
	const tag = "analytics"
	register(a, route{method: http.MethodGet, path: "/analytics/overview", id: "getAnalyticsOverview", tag: tag, summary: "Show what one's executions amount to; to an ADMIN those of everybody"},
		func(ctx context.Context, in *struct {
			MetricsParams
			UserID string `query:"userId" format:"uuid" doc:"of executions that this user has started; for an ADMIN" example:"01a2060a-ce51-7e9f-b2f4-8b54a1c078a0"`
		},
		) (*answer[Overview], error) {
			req := in.request(telemetry.MetricsOfExecutions, "")
			if req.UserID = in.UserID; req.UserID == "" {
				req.UserID = onlyOwn(ctx, "")
			}
			var out Overview
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() (err error) {
				out.Metrics, err = ask(ctx, a, telemetry.ReadMetrics, req)
				return err
			})
			group.Go(func() error {
				return count(ctx, a, catalog.ListAgents, catalog.ListRequest{Page: rpc.Page{PageSize: 1}}, &out.Resources.Agents)
			})
			group.Go(func() error {
				return count(ctx, a, catalog.ListWorkflows, catalog.ListRequest{Page: rpc.Page{PageSize: 1}}, &out.Resources.Workflows)
			})
			group.Go(func() error {
				return count(ctx, a, catalog.ListTemplates, catalog.ListTemplatesRequest{Page: rpc.Page{PageSize: 1}}, &out.Resources.Templates)
			})
			err := group.Wait()
			return answerWith(ctx, out, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/analytics/workflows/{id}/metrics", id: "getWorkflowMetrics", tag: tag, errors: []errs.Code{errs.NotFound},
		summary: "Show figures of the executions of a workflow and of its steps; to its owner those of everybody's, to others those of their own",
	},
		func(ctx context.Context, in *struct {
			IDParam
			MetricsParams
		},
		) (*answer[telemetry.Metrics], error) {
			workflow, err := ask(ctx, a, catalog.GetWorkflow, catalog.IDRequest{ID: in.ID})
			if err != nil {
				return nil, err
			}
			req := in.request(telemetry.MetricsOfWorkflow, in.ID)
			req.UserID = onlyOwn(ctx, workflow.UserID)
			got, err := ask(ctx, a, telemetry.ReadMetrics, req)
			return answerWith(ctx, got, err)
		})
	register(a, route{
		method: http.MethodGet, path: "/analytics/agents/{id}/metrics", id: "getAgentMetrics", tag: tag, errors: []errs.Code{errs.NotFound},
		summary: "Show figures of the runs of an agent; to its owner those of everybody's executions, to others those of their own",
	},
		func(ctx context.Context, in *struct {
			IDParam
			MetricsParams
		},
		) (*answer[telemetry.Metrics], error) {
			agent, err := ask(ctx, a, catalog.GetAgent, catalog.IDRequest{ID: in.ID})
			if err != nil {
				return nil, err
			}
			req := in.request(telemetry.MetricsOfAgent, in.ID)
			req.UserID = onlyOwn(ctx, agent.UserID)
			got, err := ask(ctx, a, telemetry.ReadMetrics, req)
			return answerWith(ctx, got, err)
		})
}

// onlyOwn gives whose executions alone the caller may see figures of: "" for everybody's, of what is the caller's own, and to an ADMIN.
func onlyOwn(ctx context.Context, owner string) string {
	caller := requestOf(ctx).caller
	if caller.Role == rpc.RoleAdmin || owner == caller.UserID && owner != "" {
		return ""
	}
	return caller.UserID
}

// count asks for how many things a list has.
func count[Req, T any](ctx context.Context, a *API, list rpc.Method[Req, rpc.List[T]], req Req, n *int) error {
	got, err := ask(ctx, a, list, req)
	*n = got.Pagination.Total
	return err
}
