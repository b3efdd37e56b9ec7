// Package audit declares the audit trail: what is recorded of every change and of every security event, whoever records it.
// identity keeps it; every service that changes something records into it in the transaction of the change.
package audit

import (
	"encoding/json"
	"strings"
	"time"

	"turbocat.io/contracts/rpc"
)

// TypeRecorded is the message that carries an TrailEntry to identity.
const TypeRecorded = "io.turbocat.audit.recorded.v1"

// TrailEntry says who did what to which thing. Its JSON, without hash, is what the hash is made of: a field that is added here is
// left out when it is empty, so that the entries of old keep their hashes.
type TrailEntry struct {
	ID           string        `json:"id" format:"uuid"`               // UUIDv7; made by who records it, so that a second copy is known
	Seq          int64         `json:"seq,omitempty"`                  // its place in the chain, gapless from 1; absent until it is there
	Time         time.Time     `json:"time"`                           // when it was recorded, to the microsecond
	Actor        TrailActor    `json:"actor"`                          // who did it
	Action       Action        `json:"action"`                         // what was done
	Outcome      string        `json:"outcome" enum:"SUCCESS,FAILURE"` // FAILURE: it was tried and refused
	ResourceType string        `json:"resourceType"`                   // what it was done to, like workflow
	ResourceID   string        `json:"resourceId,omitempty"`           // its id, or its name when it has none; absent when it is not known
	OwnerID      string        `json:"ownerId,omitempty"`              // the user whose it is; absent when it is nobody's
	Changes      []TrailChange `json:"changes,omitempty"`              // before and after, where they differ; values that are secret are masked
	IP           string        `json:"ip,omitempty"`                   // of the client, as the gateway saw it
	UserAgent    string        `json:"userAgent,omitempty"`            // of the client
	RequestID    string        `json:"requestId,omitempty"`            // the request of the API, as in X-Request-ID
	Hash         string        `json:"hash,omitempty"`                 // SHA-256, in hex, of the hash of the entry before it and of this entry's JSON without hash
}

// TrailActor is who did something.
type TrailActor struct {
	UserID    string `json:"userId,omitempty"`                            // absent when nobody was signed in
	Role      string `json:"role,omitempty"`                              // that the user had then
	Via       string `json:"via" enum:"session,api_key,anonymous,system"` // how he was known; system is Turbocat itself
	SessionID string `json:"sessionId,omitempty"`                         // of a session
	APIKeyID  string `json:"apiKeyId,omitempty"`                          // of an API key
}

// How an actor is known.
const (
	ViaSession   = "session"
	ViaAPIKey    = "api_key"
	ViaAnonymous = "anonymous"
	ViaSystem    = "system"
)

// Outcomes of what was tried.
const (
	Success = "SUCCESS"
	Failure = "FAILURE"
)

// TrailChange is one place of a thing that is not what it was.
type TrailChange struct {
	Path   string          `json:"path"`             // like steps[2].config.timeoutMs
	Before json.RawMessage `json:"before,omitempty"` // absent when it was not there
	After  json.RawMessage `json:"after,omitempty"`  // absent when it is not there any more
}

// Masked stands for a value that may be secret.
const Masked = "[masked]"

// Action names what was done: <resourceType>.<past participle>; auth.<what> is done to a user, access.<what> to an operation of the API.
type Action string

// The actions.
const (
	AgentCreated    Action = "agent.created"
	AgentUpdated    Action = "agent.updated"
	AgentDeleted    Action = "agent.deleted"
	WorkflowCreated Action = "workflow.created"
	WorkflowUpdated Action = "workflow.updated"
	WorkflowDeleted Action = "workflow.deleted"
	TemplateCreated Action = "template.created"
	TemplateUpdated Action = "template.updated"
	TemplateDeleted Action = "template.deleted"
	TemplateRated   Action = "template.rated"

	TriggerCreated Action = "trigger.created"
	TriggerUpdated Action = "trigger.updated"
	TriggerDeleted Action = "trigger.deleted"

	ExecutionCancelled Action = "execution.cancelled"
	ExecutionPaused    Action = "execution.paused"
	ExecutionResumed   Action = "execution.resumed"
	ExecutionSignalled Action = "execution.signalled"
	ExecutionRetried   Action = "execution.retried"
	ExecutionReplayed  Action = "execution.replayed"
	BudgetDecided      Action = "execution.budget_decided"

	DeadLetterReplayed Action = "dead_letter.replayed"

	WebhookCreated  Action = "webhook.created"
	WebhookUpdated  Action = "webhook.updated"
	WebhookDeleted  Action = "webhook.deleted"
	WebhookRotated  Action = "webhook.rotated"
	WebhookTested   Action = "webhook.tested"
	WebhookReplayed Action = "webhook.replayed"
	WebhookDisabled Action = "webhook.disabled"

	UserRegistered Action = "user.registered"
	UserCreated    Action = "user.created"
	UserUpdated    Action = "user.updated"

	UserStandingChanged Action = "user.standing_changed"

	AuthLogin          Action = "auth.login"
	AuthLoginFailed    Action = "auth.login_failed"
	AuthLogout         Action = "auth.logout"
	AuthRefreshRefused Action = "auth.refresh_refused"
	AuthResetRequested Action = "auth.reset_requested"
	AuthResetIssued    Action = "auth.reset_issued"
	AuthPasswordReset  Action = "auth.password_reset"
	SessionRevoked     Action = "session.revoked"

	APIKeyCreated Action = "api_key.created"
	APIKeyUpdated Action = "api_key.updated"
	APIKeyRotated Action = "api_key.rotated"
	APIKeyRevoked Action = "api_key.revoked"
	APIKeyRefused Action = "api_key.refused"

	SecretCreated Action = "secret.created"
	SecretUpdated Action = "secret.updated"
	SecretDeleted Action = "secret.deleted"

	AccessDenied Action = "access.denied"

	AuditTrimmed Action = "audit.trimmed"
)

// Resource gives the type of what an action is done to.
func (a Action) Resource() string {
	resource, _, _ := strings.Cut(string(a), ".")
	switch resource {
	case "auth":
		return "user"
	case "access":
		return "operation"
	}
	return resource
}

// Description is an action with what it says.
type Description struct {
	Action Action
	Doc    string
}

// Actions gives the closed list of all of them.
func Actions() []Description {
	return []Description{
		{AgentCreated, "an agent was made"},
		{AgentUpdated, "an agent was changed"},
		{AgentDeleted, "an agent was deleted"},
		{WorkflowCreated, "a workflow was made"},
		{WorkflowUpdated, "a workflow was changed, or its steps"},
		{WorkflowDeleted, "a workflow was deleted"},
		{TemplateCreated, "a template was made"},
		{TemplateUpdated, "a template was changed"},
		{TemplateDeleted, "a template was deleted"},
		{TemplateRated, "somebody rated a template"},
		{TriggerCreated, "a trigger of a workflow was made"},
		{TriggerUpdated, "a trigger was changed, enabled or disabled"},
		{TriggerDeleted, "a trigger was deleted"},
		{ExecutionCancelled, "somebody asked for the end of an execution"},
		{ExecutionPaused, "somebody asked that no more steps of an execution start"},
		{ExecutionResumed, "somebody asked that a paused execution goes on"},
		{ExecutionSignalled, "somebody sent an execution a signal, or decided an approval"},
		{WebhookCreated, "a webhook was made"},
		{WebhookUpdated, "a webhook was changed, enabled or disabled"},
		{WebhookDeleted, "a webhook was deleted"},
		{WebhookRotated, "a webhook got a new secret"},
		{WebhookTested, "somebody had a webhook sent a test"},
		{WebhookReplayed, "somebody had a webhook sent events again"},
		{WebhookDisabled, "Turbocat switched a webhook off, because its target failed for a day or said that it is gone"},
		{DeadLetterReplayed, "an ADMIN had an input that could not be applied sent once more"},
		{ExecutionReplayed, "somebody had an ended execution repeated by what is recorded of it, as a new execution"},
		{ExecutionRetried, "somebody had an ended execution run again, from what failed or from a step on, as a new execution"},
		{BudgetDecided, "somebody let a step of an execution go on beyond a budget of its agent, or not"},
		{UserRegistered, "somebody made an account, or tried to with an address that has one"},
		{UserCreated, "Turbocat made an account, such as the first administrator's"},
		{UserUpdated, "a user changed the own profile"},
		{UserStandingChanged, "an ADMIN changed the role of an account, or whether it is active"},
		{AuthLogin, "somebody logged in"},
		{AuthLoginFailed, "a login was refused; why is in changes, the address is not"},
		{AuthLogout, "somebody logged out"},
		{AuthRefreshRefused, "a refresh token was refused; one that was used before has ended its session"},
		{AuthResetRequested, "somebody asked for a mail to set a new password; for which address is not told"},
		{AuthResetIssued, "a token with which a new password can be set was made, to be sent to the address of the account"},
		{AuthPasswordReset, "a new password was set by such a token, or tried to be by one that is not good"},
		{SessionRevoked, "a session was ended by its user, or by a change of its account"},
		{APIKeyCreated, "an API key was made"},
		{APIKeyUpdated, "an API key was changed"},
		{APIKeyRotated, "an API key was given a new secret"},
		{APIKeyRevoked, "an API key was revoked"},
		{APIKeyRefused, "an API key was used that is revoked or expired, or with a wrong secret; the first time in an hour"},
		{SecretCreated, "a secret was made; its value is nowhere told"},
		{SecretUpdated, "a secret was given another value"},
		{SecretDeleted, "a secret was deleted"},
		{AccessDenied, "somebody asked for what the role, or the scopes of the API key, do not allow; the first time in a minute for each operation"},
		{AuditTrimmed, "the oldest entries of the trail were trimmed: resourceId is the number and the hash of the last of them, changes says how many they were and which setting has it so"},
	}
}

// Service keeps the audit trail: that of contracts/identity.
const Service = "identity"

// ListRequest asks for entries, newest first unless it says otherwise. What is empty filters nothing.
type ListRequest struct {
	rpc.Page
	ActorID      string     `json:"actorId,omitempty"`
	Action       string     `json:"action,omitempty"`
	ResourceType string     `json:"resourceType,omitempty"`
	ResourceID   string     `json:"resourceId,omitempty"`
	Outcome      string     `json:"outcome,omitempty"`
	From         *time.Time `json:"from,omitempty"` // recorded then or later
	To           *time.Time `json:"to,omitempty"`   // recorded before then
}

// IDs names entries.
type IDs struct {
	IDs []string `json:"ids"`
}

// MaxIDs is how many entries can be asked after at once.
const MaxIDs = 1000

// Denial is what a caller asked for and may not do.
type Denial struct {
	Operation string `json:"operation"` // its operationId
	Path      string `json:"path"`      // of the request
	Reason    string `json:"reason"`    // as it is answered
}

// The methods of the audit trail.
var (
	List   = rpc.Method[ListRequest, rpc.List[TrailEntry]]{Service: Service, Name: "list_audit", Version: 1}
	Stored = rpc.Method[IDs, IDs]{Service: Service, Name: "audit_stored", Version: 1}
	Denied = rpc.Method[Denial, rpc.Empty]{Service: Service, Name: "record_denied", Version: 1}
)
