package orchestrator

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Types of a trigger.
const (
	TriggerTypeSchedule = "SCHEDULE"
	TriggerTypeWebhook  = "WEBHOOK"
	TriggerTypeEvent    = "EVENT"
)

// What a schedule does at a time at which an execution of it has not ended.
const (
	OverlapSkip  = "SKIP"  // records a skip
	OverlapQueue = "QUEUE" // waits for the end, within the catch-up window
	OverlapAllow = "ALLOW" // runs both
)

// Why a schedule has skipped a time.
const (
	SkipOverlap       = "OVERLAP"         // an execution of it had not ended
	SkipCatchUpWindow = "CATCH_UP_WINDOW" // it could not fire in time
	SkipDisabled      = "DISABLED"        // it was off
	SkipChanged       = "CHANGED"         // its cron or timeZone was changed when the time was due and had not fired
	SkipRefused       = "REFUSED"         // the execution could not be accepted
)

// How a WEBHOOK knows that a request is of who has its secret.
const (
	PresetStandardWebhooks = "STANDARD_WEBHOOKS" // standardwebhooks.com
	PresetGitHub           = "GITHUB"
	PresetStripe           = "STRIPE"
	PresetSlack            = "SLACK"
	PresetHMAC             = "HMAC"  // the HMAC of the body, as Signature says
	PresetToken            = "TOKEN" // the secret itself in a header, as Signature says
)

// Presets gives all of them, the default first.
func Presets() []string {
	return []string{PresetStandardWebhooks, PresetGitHub, PresetStripe, PresetSlack, PresetHMAC, PresetToken}
}

// What has become of what came in for a trigger of type WEBHOOK or EVENT.
const (
	ReceivedAccepted = "ACCEPTED" // it has an execution
	ReceivedFiltered = "FILTERED" // the filter did not hold, or it asks for no execution; of an event that did not hold nothing is kept
	ReceivedRefused  = "REFUSED"  // the execution could not be accepted
)

// ReceivedStatuses gives all of them.
func ReceivedStatuses() []string {
	return []string{ReceivedAccepted, ReceivedFiltered, ReceivedRefused}
}

// Trigger starts executions of a workflow by itself. Fields of other types than its own are absent.
type Trigger struct {
	ID          string          `json:"id" format:"uuid"`
	WorkflowID  string          `json:"workflowId" format:"uuid"`
	UserID      string          `json:"userId" format:"uuid"` // who made it, and as whom its executions run
	Type        string          `json:"type" enum:"SCHEDULE,WEBHOOK,EVENT"`
	Name        string          `json:"name"`
	Enabled     bool            `json:"enabled"`
	Inputs      json.RawMessage `json:"inputs"`      // of a SCHEDULE data; else a template of what comes in
	Priority    *int            `json:"priority"`    // null for that of the workflow
	LastFiredAt *time.Time      `json:"lastFiredAt"` // of a SCHEDULE the scheduled time of its last execution; else when the last one was accepted
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"`

	// SCHEDULE
	Cron            string      `json:"cron,omitempty"`
	TimeZone        string      `json:"timeZone,omitempty"`
	Overlap         string      `json:"overlap,omitempty" enum:"SKIP,QUEUE,ALLOW"`
	CatchUpWindowMs int64       `json:"catchUpWindowMs,omitempty"`
	JitterMs        *int64      `json:"jitterMs,omitempty"`
	NextFireTimes   []time.Time `json:"nextFireTimes,omitzero"` // the next scheduled times, jitter not added; none while it is off

	// WEBHOOK and EVENT
	Filter       *string `json:"filter,omitempty"` // an expression over what comes in that holds; "" for all
	MaxPerMinute int64   `json:"maxPerMinute,omitempty"`

	// WEBHOOK
	Path                string            `json:"path,omitempty"` // of its URL, on the gateway
	Preset              string            `json:"preset,omitempty" enum:"STANDARD_WEBHOOKS,GITHUB,STRIPE,SLACK,HMAC,TOKEN"`
	Signature           *TriggerSignature `json:"signature,omitempty"`           // of HMAC and TOKEN
	PreviousSecretUntil *time.Time        `json:"previousSecretUntil,omitempty"` // until when the secret before the last rotation is taken, too
	LastRejectedAt      *time.Time        `json:"lastRejectedAt,omitempty"`      // when a request was turned away because of its signature, of late
	LastRejection       string            `json:"lastRejection,omitempty"`       // and why

	// EVENT
	EventTypes []string `json:"eventTypes,omitempty"` // of which an event is one; beginnings of types end in *
	LastError  string   `json:"lastError,omitempty"`  // why it waits with what came in, or what a filter could not be computed for
	Skipped    uint64   `json:"skipped,omitempty"`    // events that were not kept any more when their turn came
}

// TriggerSignature says where requests of the presets HMAC and TOKEN have what proves them.
type TriggerSignature struct {
	Header          string `json:"header"`           // that has the signature, or the token
	Prefix          string `json:"prefix,omitempty"` // that stands before it
	Algorithm       string `json:"algorithm,omitempty" enum:"SHA256,SHA1,SHA512"`
	Encoding        string `json:"encoding,omitempty" enum:"HEX,BASE64"`
	TimestampHeader string `json:"timestampHeader,omitempty"` // that has seconds of Unix, which are signed before the body, with a dot between
	IDHeader        string `json:"idHeader,omitempty"`        // that tells deliveries apart; without it Idempotency-Key does or, of a request with a time, the signature
}

// HookTolerance is by how much the time of a signed request may differ from ours.
const HookTolerance = 5 * time.Minute

// MaxHookBody bounds the body of a request to a WEBHOOK, in bytes.
const MaxHookBody = 1 << 20

// IssuedTrigger is a trigger, with a new secret if it is a WEBHOOK, which is shown this once.
type IssuedTrigger struct {
	Trigger
	Secret string `json:"secret,omitempty"`
}

// RotateTriggerRequest gives a WEBHOOK a new secret; the one before is taken as well for OverlapMs.
type RotateTriggerRequest struct {
	WorkflowID string `json:"workflowId"`
	ID         string `json:"id"`
	Secret     string `json:"secret,omitempty"` // one that its sender has made; else Turbocat makes one
	OverlapMs  int64  `json:"overlapMs"`
}

// HookRequest is a request that came to the path of a WEBHOOK. The gateway asks, for whoever it came from.
type HookRequest struct {
	ID      string            `json:"id"`
	Headers map[string]string `json:"headers"` // by their names in lower case; of several the values with a comma and a space between
	Query   map[string]string `json:"query"`
	Body    []byte            `json:"body"`
}

// HookReceipt tells what has become of a request.
type HookReceipt struct {
	DeliveryID  string `json:"deliveryId,omitempty"`
	Status      string `json:"status" enum:"ACCEPTED,FILTERED,REFUSED"`
	Repeated    bool   `json:"repeated,omitempty"` // the delivery had come before; nothing was started anew
	ExecutionID string `json:"executionId,omitempty"`
	UserID      string `json:"userId,omitempty"`    // as whom the execution runs
	Challenge   string `json:"challenge,omitempty"` // that proves to Slack whose the URL is: the body of the answer
}

// TriggerDelivery is what came in for a WEBHOOK or an EVENT, and what has become of it.
type TriggerDelivery struct {
	ID          string    `json:"id" format:"uuid"`
	DeliveryID  string    `json:"deliveryId"` // that its sender gave it; of an event its source and its id with a space between
	Status      string    `json:"status" enum:"ACCEPTED,FILTERED,REFUSED"`
	ExecutionID *string   `json:"executionId" format:"uuid"`
	Reason      string    `json:"reason,omitempty"` // why it has no execution
	ReceivedAt  time.Time `json:"receivedAt"`
}

// ListTriggerDeliveriesRequest asks for a page of what came in for a trigger.
type ListTriggerDeliveriesRequest struct {
	rpc.Page
	WorkflowID string `json:"workflowId"`
	ID         string `json:"id"`
	Status     string `json:"status,omitempty"`
}

// NextFireTimes is how many next times of a schedule are shown.
const NextFireTimes = 5

// NewTriggerRequest makes a trigger of a workflow. Body is what a client sends.
type NewTriggerRequest struct {
	WorkflowID string          `json:"workflowId"`
	Body       json.RawMessage `json:"body"`
}

// TriggerRequest names a trigger of a workflow.
type TriggerRequest struct {
	WorkflowID string `json:"workflowId"`
	ID         string `json:"id"`
}

// PatchTriggerRequest changes a trigger. Of Body, absent fields stay and null sets defaults.
type PatchTriggerRequest struct {
	WorkflowID string          `json:"workflowId"`
	ID         string          `json:"id"`
	Body       json.RawMessage `json:"body"`
}

// ListTriggersRequest asks for a page of the triggers of a workflow.
type ListTriggersRequest struct {
	rpc.Page
	WorkflowID string `json:"workflowId"`
}

// ListSkipsRequest asks for a page of the skips of a trigger.
type ListSkipsRequest struct {
	rpc.Page
	WorkflowID string `json:"workflowId"`
	ID         string `json:"id"`
	Reason     string `json:"reason,omitempty"`
}

// Skip is one scheduled time, or several in a row, without an execution.
type Skip struct {
	ScheduledFor time.Time `json:"scheduledFor"` // the first of them
	Until        time.Time `json:"until"`        // the first time after the last of them
	Reason       string    `json:"reason" enum:"OVERLAP,CATCH_UP_WINDOW,DISABLED,CHANGED,REFUSED"`
	Message      string    `json:"message"`
	CreatedAt    time.Time `json:"createdAt"` // when the first of them was recorded
}

// SchedulePreview tells when a schedule would be due.
type SchedulePreview struct {
	NextFireTimes []time.Time `json:"nextFireTimes"`
}

// The methods of triggers. Who may change the workflow may use them; for others it does not exist: NOT_FOUND.
var (
	CreateTrigger   = rpc.Method[NewTriggerRequest, IssuedTrigger]{Service: Service, Name: "create_trigger", Version: 1}
	GetTrigger      = rpc.Method[TriggerRequest, Trigger]{Service: Service, Name: "get_trigger", Version: 1}
	ListTriggers    = rpc.Method[ListTriggersRequest, rpc.List[Trigger]]{Service: Service, Name: "list_triggers", Version: 1}
	PatchTrigger    = rpc.Method[PatchTriggerRequest, Trigger]{Service: Service, Name: "patch_trigger", Version: 1}
	DeleteTrigger   = rpc.Method[TriggerRequest, rpc.Empty]{Service: Service, Name: "delete_trigger", Version: 1}
	PreviewSchedule = rpc.Method[NewTriggerRequest, SchedulePreview]{Service: Service, Name: "preview_schedule", Version: 1}
	RotateTrigger   = rpc.Method[RotateTriggerRequest, IssuedTrigger]{Service: Service, Name: "rotate_trigger", Version: 1}
	ListSkips       = rpc.Method[ListSkipsRequest, rpc.List[Skip]]{Service: Service, Name: "list_skips", Version: 1}

	ListTriggerDeliveries = rpc.Method[ListTriggerDeliveriesRequest, rpc.List[TriggerDelivery]]{Service: Service, Name: "list_trigger_deliveries", Version: 1}
	// ReceiveHook is safe to repeat as far as its deliveries can be told apart: each is accepted once. It is UNAUTHORIZED without a good signature.
	ReceiveHook = rpc.Method[HookRequest, HookReceipt]{Service: Service, Name: "receive_hook", Version: 1}
)
