package contracts

import (
	"turbocat.io/contracts/audit"
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
		method(identity.ForgotPassword, "has a mail sent with which a new password can be set, to an address that has an account", gateway),
		method(identity.ResetPassword, "sets a new password by the token of a mail, and ends all sessions", gateway),
		method(identity.ListDevMail, "gives a page of the development mailbox, to an ADMIN", gateway),
		method(identity.Verify, "tells whose an access token is", gateway),
		method(identity.VerifyAPIKey, "tells whose an API key is and what it may be used for", gateway),
		method(identity.CreateAPIKey, "makes an API key", gateway),
		method(identity.ListAPIKeys, "gives a page of the API keys that the caller may see", gateway),
		method(identity.PatchAPIKey, "changes an API key", gateway),
		method(identity.RotateAPIKey, "gives an API key a new secret", gateway),
		method(identity.RevokeAPIKey, "ends an API key for ever", gateway),
		method(identity.ListSessions, "gives a page of the caller's sessions", gateway),
		method(identity.EndSession, "ends a session of the caller", gateway),
		method(identity.EndOtherSessions, "ends all sessions of the caller but the one that asks", gateway),
		method(identity.ListUsers, "gives a page of all accounts, to an ADMIN", gateway),
		method(identity.GetUser, "gives an account, to an ADMIN", gateway),
		method(identity.PatchUser, "changes the role of an account or whether it is active, for an ADMIN, and ends its sessions", gateway),
		method(identity.GetMe, "gives the caller's account", gateway),
		method(identity.UpdateMe, "changes the caller's account", gateway),
		method(identity.ListSecrets, "gives a page of the caller's secrets, without their values", gateway),
		method(identity.PutSecret, "makes a secret of the caller, or gives it another value", gateway),
		method(identity.DeleteSecret, "deletes a secret of the caller", gateway),
		method(identity.RotateSecrets, "seals secrets under the current key; system callers only", cli),
		method(identity.OpenSecrets, "gives the secrets of a grant, sealed to the key of who asks; system callers only", runner.Service),
		method(identity.NotifyUser, "sends a user a mail; system callers only", telemetry.Service),
		method(identity.SeedUser, "makes an account when its address is free; system callers only", cli),

		method(audit.List, "gives a page of the audit trail: all of it to ADMIN, to others what they did and what was done to theirs", gateway),
		method(audit.Denied, "records that the caller was denied an operation, before it is answered", gateway),
		method(audit.Stored, "tells which entries of the audit trail are committed, so that who recorded them need not keep them; system callers only", identity.Service, catalog.Service, orchestrator.Service),

		method(catalog.CreateAgent, "checks and saves a new agent", gateway, cli),
		method(catalog.GetAgent, "gives an agent that the caller may see", gateway),
		method(catalog.ListAgents, "gives a page of the agents that the caller may see", gateway),
		method(catalog.PatchAgent, "changes an agent, at a given version if one is given", gateway),
		method(catalog.DeleteAgent, "deletes an agent", gateway),
		method(catalog.DuplicateAgent, "copies an agent that the caller may see", gateway),
		method(catalog.ListAgentVersions, "gives a page of the versions of an agent, newest first", gateway),
		method(catalog.GetAgentVersion, "gives a version of an agent", gateway),
		method(catalog.CreateWorkflow, "checks and saves a new workflow", gateway, cli),
		method(catalog.GetWorkflow, "gives a workflow that the caller may see, with its steps", gateway, orchestrator.Service),
		method(catalog.ListWorkflows, "gives a page of the workflows that the caller may see, without steps", gateway),
		method(catalog.PatchWorkflow, "changes a workflow, at a given version if one is given", gateway),
		method(catalog.DeleteWorkflow, "deletes a workflow", gateway),
		method(catalog.DuplicateWorkflow, "copies a workflow that the caller may see", gateway),
		method(catalog.ValidateWorkflow, "tells all that is wrong with a workflow, or with what a patch would make of it", gateway),
		method(catalog.ListWorkflowVersions, "gives a page of the versions of a workflow, newest first, without steps", gateway),
		method(catalog.GetWorkflowVersion, "gives a version of a workflow", gateway),
		method(catalog.DiffWorkflow, "tells what differs between two versions of a workflow", gateway),
		method(catalog.NoteSchedules, "keeps of workflows whether a schedule of theirs is on; system callers only", orchestrator.Service),
		method(catalog.ResolveDefinition, "freezes a workflow and its agents into what an execution runs", orchestrator.Service),
		method(catalog.ExportWorkflow, "gives a workflow and its agents as a document that another installation can import", gateway),
		method(catalog.ImportWorkflow, "makes the workflow and the agents of a document, all or nothing", gateway),
		method(catalog.ListTemplates, "gives a page of the templates that the caller may see, public ones to everybody", gateway),
		method(catalog.TemplateCategories, "gives the categories of the templates that the caller may see", gateway),
		method(catalog.GetTemplate, "gives a template that the caller may see", gateway),
		method(catalog.CreateTemplate, "checks and saves a new template", gateway),
		method(catalog.PatchTemplate, "changes a template, at a given version if one is given", gateway),
		method(catalog.DeleteTemplate, "deletes a template; what was made of it stays", gateway),
		method(catalog.RateTemplate, "rates a template, once for each user", gateway),
		method(catalog.InstantiateTemplate, "makes an agent, a workflow with its agents, or a step with its agents, of a template", gateway),

		method(orchestrator.Submit, "accepts an execution: once answered, it will end", gateway, cli),
		method(orchestrator.GetExecution, "gives an execution that the caller may see, with its steps", gateway),
		method(orchestrator.ListExecution, "gives a page of the executions that the caller may see, without steps", gateway),
		method(orchestrator.Cancel, "commits the command to cancel an execution", gateway),
		method(orchestrator.Pause, "commits the command to start no more steps of an execution", gateway),
		method(orchestrator.Resume, "commits the command to go on with a paused execution", gateway),
		method(orchestrator.SendSignal, "commits a signal for an execution that waits for it, or is going to", gateway),
		method(orchestrator.Retry, "accepts an execution that runs what has not completed in an ended one", gateway),
		method(orchestrator.Replay, "accepts an execution that repeats an ended one by what is recorded of it, and reaches nothing outside", gateway),
		method(orchestrator.Rerun, "accepts an execution that runs an ended one again from a step on", gateway),
		method(orchestrator.Bulk, "cancels or retries the executions that a filter names", gateway),
		method(orchestrator.Explain, "tells why an execution, and each of its steps, is where it is", gateway),
		method(orchestrator.AttemptAwaited, "tells whether an attempt's result would still count; system callers only", runner.Service),
		method(orchestrator.AttemptBody, "gives the body of a ready step that is too large for its message; system callers only", runner.Service),
		method(orchestrator.GrantKey, "gives the key that verifies grants of secrets; system callers only", identity.Service),
		method(orchestrator.StorePayload, "keeps a large output before it is reported by its reference; system callers only", runner.Service),
		method(orchestrator.ListEvents, "gives the public events of an execution after a seq", gateway),

		method(orchestrator.ListCalls, "gives a page of what an LLM step has called, models and tools, oldest first", gateway),
		method(orchestrator.DecideBudget, "lets a step go on that waits for approval to use more than its budget, or not", gateway),
		method(orchestrator.BeginCall, "records what an attempt is about to call, and reserves what that may use of the budgets; system callers only", runner.Service),
		method(orchestrator.EndCall, "settles what a call has used; system callers only", runner.Service),
		method(orchestrator.CallAgent, "begins the execution of an agent that an attempt calls as a tool; system callers only", runner.Service),
		method(orchestrator.AwaitAgent, "waits for the end of such an execution; system callers only", runner.Service),
		method(orchestrator.Recall, "gives the newest messages of a conversation; system callers only", runner.Service),
		method(orchestrator.Remember, "adds the messages of an attempt to a conversation; system callers only", runner.Service),

		method(orchestrator.CreateTrigger, "checks and saves a new trigger of a workflow that the caller may change", gateway),
		method(orchestrator.GetTrigger, "gives a trigger", gateway),
		method(orchestrator.ListTriggers, "gives a page of the triggers of a workflow", gateway),
		method(orchestrator.PatchTrigger, "changes a trigger; no time at or before its last fired one fires after that", gateway),
		method(orchestrator.DeleteTrigger, "deletes a trigger; its executions stay", gateway),
		method(orchestrator.RotateTrigger, "gives a trigger of type WEBHOOK a new secret", gateway),
		method(orchestrator.ListTriggerDeliveries, "gives a page of what came in for a trigger of type WEBHOOK or EVENT, newest first", gateway),
		method(orchestrator.ReceiveHook, "takes a request that came to the URL of a trigger, if its signature is good", gateway),
		method(orchestrator.PreviewSchedule, "tells when a schedule that is not saved would be due next", gateway),
		method(orchestrator.ListSkips, "gives a page of the scheduled times of a trigger that have no execution, newest first", gateway),

		method(orchestrator.ListDeadLetters, "gives a page of the inputs that could not be applied; for an ADMIN", gateway),
		method(orchestrator.GetDeadLetter, "gives one of them with its body; for an ADMIN", gateway),
		method(orchestrator.CountDeadLetters, "counts them by reason; for an ADMIN", gateway),
		method(orchestrator.ReplayDeadLetter, "sends one of them once more; for an ADMIN", gateway),
		method(orchestrator.ListLeases, "tells which orchestrator has each partition; for an ADMIN", gateway),
		method(orchestrator.PartitionEvents, "gives events of a partition after a number; system callers only", telemetry.Service),
		method(orchestrator.EventNumbers, "tells how many events each partition has; system callers only", telemetry.Service),
		method(orchestrator.SettledCalls, "gives what calls of models have used, after a number; system callers only", telemetry.Service),
		method(telemetry.ReadFeed, "gives events of the caller's feed after a cursor, in the one order in which all are told of them", gateway, orchestrator.Service),
		method(telemetry.IngestEvents, "brings events from outside into the caller's feed, each once", gateway),
		method(telemetry.CreateWebhook, "makes a webhook of the caller", gateway),
		method(telemetry.ListWebhooks, "gives a page of the webhooks of the caller, to an ADMIN of any user", gateway),
		method(telemetry.GetWebhook, "gives a webhook", gateway),
		method(telemetry.PatchWebhook, "changes a webhook", gateway),
		method(telemetry.DeleteWebhook, "deletes a webhook and what waits for it", gateway),
		method(telemetry.RotateWebhook, "gives a webhook a new secret", gateway),
		method(telemetry.TestWebhook, "sends a webhook a test and gives what came of it", gateway),
		method(telemetry.ReplayWebhook, "has a webhook sent a part of its user's feed again", gateway),
		method(telemetry.ListDeliveries, "gives a page of the deliveries of a webhook", gateway),
		method(telemetry.GetDelivery, "gives a delivery with its event and the log of its attempts", gateway),
		method(telemetry.ReplayDelivery, "has the event of a delivery sent once more", gateway),
		method(telemetry.ReadMetrics, "gives figures of executions, of a workflow or of an agent, with a time series", gateway),
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
		{Name: rpc.HeaderAPIKey, Doc: "the API key that the caller came with", Format: "uuid", Optional: true},
		{Name: rpc.HeaderScopes, Doc: "scopes of an API key, separated by spaces; absent means no restriction", Optional: true},
		{Name: rpc.HeaderRequestID, Doc: "the request of the API that this one serves", Optional: true},
		{Name: rpc.HeaderTraceparent, Doc: "W3C trace context", Optional: true},
		{Name: rpc.HeaderIP, Doc: "the client's address, as the gateway saw it", Optional: true},
		{Name: rpc.HeaderUserAgent, Doc: "the client's User-Agent", Optional: true},
		{Name: rpc.HeaderIdempotencyKey, Doc: "the client's Idempotency-Key, by which a method that creates something gives its first answer again", Optional: true},
		{Name: rpc.HeaderTimeoutMs, Doc: "how long the answer is awaited; 10 s when absent", Pattern: decimal, Optional: true},
		partsAt, bodySize,
	}
}

// A body that is too large for a message stays with its sender, who gives it part by part.
var (
	partsAt  = Field{Name: rpc.HeaderPartsAt, Doc: "where the parts of a body that is too large for one message are asked for: a request with the part's decimal number from 0, and \"done\" once all are there", Optional: true}
	bodySize = Field{Name: rpc.HeaderSize, Doc: "the bytes of such a body", Pattern: decimal, Optional: true}
)

// AnswerHeaders gives the headers of an answer. An error has a code, and an errs.Error as its body.
func AnswerHeaders() []Field {
	return []Field{
		partsAt, bodySize,
		{Name: "Nats-Service-Error-Code", Doc: "code of the error; absent when there is none", Optional: true},
		{Name: "Nats-Service-Error", Doc: "its message, on one line", Optional: true},
	}
}
