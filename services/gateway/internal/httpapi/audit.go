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
	ActorID      string    `query:"actorId" maxLength:"64" doc:"the user who did it" example:"01a2060a-ce51-7e9f-b2f4-8b54a1c078a0"`
	Action       string    `query:"action" maxLength:"64" doc:"like agent.created" example:"workflow.updated"`
	ResourceType string    `query:"resourceType" maxLength:"64" doc:"like workflow" example:"workflow"`
	ResourceID   string    `query:"resourceId" maxLength:"256" example:"01a2060a-dbe3-7f1b-b07e-2f02872ff6e3"`
	Outcome      string    `query:"outcome" enum:"SUCCESS,FAILURE"`
	From         time.Time `query:"from" doc:"recorded then or later" example:"2026-11-23T00:00:00Z"`
	To           time.Time `query:"to" doc:"recorded before then" example:"2026-11-24T00:00:00Z"`
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
