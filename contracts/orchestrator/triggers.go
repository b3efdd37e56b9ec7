package orchestrator

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/rpc"
)

// Types of a trigger. WEBHOOK and EVENT are not available yet.
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

// Trigger starts executions of a workflow by itself. The fields from cron on are those of a SCHEDULE.
type Trigger struct {
	ID         string          `json:"id" format:"uuid"`
	WorkflowID string          `json:"workflowId" format:"uuid"`
	UserID     string          `json:"userId" format:"uuid"` // who made it, and as whom its executions run
	Type       string          `json:"type" enum:"SCHEDULE"`
	Name       string          `json:"name"`
	Enabled    bool            `json:"enabled"`
	Inputs     json.RawMessage `json:"inputs"`
	Priority   *int            `json:"priority"` // null for that of the workflow
	CreatedAt  time.Time       `json:"createdAt"`
	UpdatedAt  time.Time       `json:"updatedAt"`

	Cron            string      `json:"cron"`
	TimeZone        string      `json:"timeZone"`
	Overlap         string      `json:"overlap" enum:"SKIP,QUEUE,ALLOW"`
	CatchUpWindowMs int64       `json:"catchUpWindowMs"`
	JitterMs        int64       `json:"jitterMs"`
	NextFireTimes   []time.Time `json:"nextFireTimes"` // the next scheduled times, jitter not added; none while it is off
	LastFiredAt     *time.Time  `json:"lastFiredAt"`   // the scheduled time of its last execution
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
	CreateTrigger   = rpc.Method[NewTriggerRequest, Trigger]{Service: Service, Name: "create_trigger", Version: 1}
	GetTrigger      = rpc.Method[TriggerRequest, Trigger]{Service: Service, Name: "get_trigger", Version: 1}
	ListTriggers    = rpc.Method[ListTriggersRequest, rpc.List[Trigger]]{Service: Service, Name: "list_triggers", Version: 1}
	PatchTrigger    = rpc.Method[PatchTriggerRequest, Trigger]{Service: Service, Name: "patch_trigger", Version: 1}
	DeleteTrigger   = rpc.Method[TriggerRequest, rpc.Empty]{Service: Service, Name: "delete_trigger", Version: 1}
	PreviewSchedule = rpc.Method[NewTriggerRequest, SchedulePreview]{Service: Service, Name: "preview_schedule", Version: 1}
	ListSkips       = rpc.Method[ListSkipsRequest, rpc.List[Skip]]{Service: Service, Name: "list_skips", Version: 1}
)
