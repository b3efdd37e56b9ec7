package httpapi

import (
	"context"
	"net/http"
	"time"

	"turbocat.io/contracts/audit"
)

// auditFilter narrows a list of the audit trail.
type auditFilter struct {
	PageParams
	SortParams
	ActorID      string    `query:"actorId" maxLength:"64" doc:"the user who did it"`
	Action       string    `query:"action" maxLength:"64" doc:"like agent.created"`
	ResourceType string    `query:"resourceType" maxLength:"64" doc:"like workflow"`
	ResourceID   string    `query:"resourceId" maxLength:"256"`
	Outcome      string    `query:"outcome" enum:"SUCCESS,FAILURE"`
	From         time.Time `query:"from" doc:"recorded then or later"`
	To           time.Time `query:"to" doc:"recorded before then"`
}

func (a *API) routeAudit() {
	register(a, route{
		method: http.MethodGet, path: "/audit-logs", id: "listAuditLogs", sorts: []string{"createdAt", "time"}, tag: "audit",
		summary: "List the audit trail: all of it for ADMIN, for others what they did and what was done to theirs",
	},
		func(ctx context.Context, in *auditFilter) (*listed[audit.TrailEntry], error) {
			list, err := ask(ctx, a, audit.List, audit.ListRequest{
				Page: page(in.PageParams, in.SortParams), ActorID: in.ActorID, Action: in.Action, ResourceType: in.ResourceType, ResourceID: in.ResourceID,
				Outcome: in.Outcome, From: optional(in.From), To: optional(in.To),
			})
			return listedWith(ctx, list, err)
		})
}
