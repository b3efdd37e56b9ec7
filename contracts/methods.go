package contracts

import (
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
)

// Methods gives every remote procedure.
func Methods() []Method {
	methods := []Method{
		method(identity.Register, "makes an account and opens its first session", gateway),
		method(identity.Login, "opens a session", gateway, cli),
		method(identity.Refresh, "exchanges a refresh token for new tokens of its session; used twice, the session is revoked", gateway),
		method(identity.Logout, "ends the session of a refresh token", gateway),
		method(identity.Verify, "tells whose an access token is", gateway),
		method(identity.GetMe, "gives the caller's account", gateway),
		method(identity.UpdateMe, "changes the caller's account", gateway),
		method(identity.SeedUser, "makes an account when its address is free; system callers only", cli),

		method(catalog.CreateAgent, "checks and saves a new agent", gateway, cli),
		method(catalog.GetAgent, "gives an agent that the caller may see", gateway),
		method(catalog.ListAgents, "gives a page of the agents that the caller may see", gateway),
		method(catalog.PatchAgent, "changes an agent, at a given version if one is given", gateway),
		method(catalog.DeleteAgent, "deletes an agent", gateway),
		method(catalog.CreateWorkflow, "checks and saves a new workflow", gateway, cli),
		method(catalog.GetWorkflow, "gives a workflow that the caller may see, with its steps", gateway),
		method(catalog.ListWorkflows, "gives a page of the workflows that the caller may see, without steps", gateway),
		method(catalog.PatchWorkflow, "changes a workflow, at a given version if one is given", gateway),
		method(catalog.DeleteWorkflow, "deletes a workflow", gateway),
		method(catalog.ResolveDefinition, "freezes a workflow and its agents into what an execution runs", orchestrator.Service),

		method(orchestrator.Submit, "accepts an execution: once answered, it will end", gateway, cli),
		method(orchestrator.GetExecution, "gives an execution that the caller may see, with its steps", gateway),
		method(orchestrator.ListExecution, "gives a page of the executions that the caller may see, without steps", gateway),
		method(orchestrator.Cancel, "commits the command to cancel an execution", gateway),
		method(orchestrator.Pause, "commits the command to start no more steps of an execution", gateway),
		method(orchestrator.Resume, "commits the command to go on with a paused execution", gateway),
		method(orchestrator.SendSignal, "commits a signal for an execution that waits for it, or is going to", gateway),
		method(orchestrator.Retry, "accepts an execution that runs what has not completed in an ended one", gateway),
		method(orchestrator.Rerun, "accepts an execution that runs an ended one again from a step on", gateway),
		method(orchestrator.Bulk, "cancels or retries the executions that a filter names", gateway),
		method(orchestrator.Explain, "tells why an execution, and each of its steps, is where it is", gateway),
		method(orchestrator.AttemptAwaited, "tells whether an attempt's result would still count; system callers only", runner.Service),
		method(orchestrator.ListEvents, "gives the public events of an execution after a seq", gateway),

		method(telemetry.ListLogs, "gives a page of an execution's log lines, oldest first", gateway),
	}
	for _, service := range Services() {
		methods = append(methods, method(rpc.HealthOf(service), "tells how the service and what it needs are", gateway, cli))
	}
	return methods
}

func method[Req, Resp any](m rpc.Method[Req, Resp], doc string, callers ...string) Method {
	return Method{Description: m.Describe(), Doc: doc, Callers: callers}
}

// RequestHeaders gives the headers of every request: its caller, and how long an answer is awaited.
func RequestHeaders() []Field {
	return []Field{
		{Name: rpc.HeaderUser, Doc: "the caller; absent when anonymous", Format: "uuid", Optional: true},
		{Name: rpc.HeaderRole, Doc: "ADMIN, USER or AGENT", Optional: true},
		{Name: rpc.HeaderSession, Doc: "the caller's session", Format: "uuid", Optional: true},
		{Name: rpc.HeaderScopes, Doc: "scopes of an API key, separated by spaces; absent means no restriction", Optional: true},
		{Name: rpc.HeaderRequestID, Doc: "the request of the API that this one serves", Optional: true},
		{Name: rpc.HeaderTraceparent, Doc: "W3C trace context", Optional: true},
		{Name: rpc.HeaderIP, Doc: "the client's address, as the gateway saw it", Optional: true},
		{Name: rpc.HeaderUserAgent, Doc: "the client's User-Agent", Optional: true},
		{Name: rpc.HeaderTimeoutMs, Doc: "how long the answer is awaited; 10 s when absent", Pattern: decimal, Optional: true},
	}
}

// AnswerHeaders gives the headers of an answer. An error has a code, and an errs.Error as its body.
func AnswerHeaders() []Field {
	return []Field{
		{Name: rpc.HeaderPartsLeft, Doc: "how many parts of this answer follow; absent in the last", Pattern: decimal, Optional: true},
		{Name: "Nats-Service-Error-Code", Doc: "code of the error; absent when there is none", Optional: true},
		{Name: "Nats-Service-Error", Doc: "its message, on one line", Optional: true},
	}
}
