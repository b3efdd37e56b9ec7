package telemetry

import (
	"encoding/json"
	"time"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/rpc"
)

// MaxWebhooks is how many webhooks a user may have.
const MaxWebhooks = 100

// Formats of a request to a webhook: that of the whole CloudEvent as JSON, or its data with the attributes as headers.
const (
	FormatStructured = "structured"
	FormatBinary     = "binary"
)

// What has become of a delivery.
const (
	DeliveryPending   = "PENDING"   // it waits, for the first or another attempt
	DeliveryDelivered = "DELIVERED" // it was answered with 2xx
	DeliveryFailed    = "FAILED"    // it is given up
)

// DeliveryStatuses gives all of them.
func DeliveryStatuses() []string {
	return []string{DeliveryPending, DeliveryDelivered, DeliveryFailed}
}

// Webhook has events of its user's feed sent to an address. Those of an execution are sent in their order, one after another.
type Webhook struct {
	ID         string   `json:"id" format:"uuid"`
	UserID     string   `json:"userId" format:"uuid"` // whose events it sends
	Name       string   `json:"name"`
	URL        string   `json:"url"`
	EventTypes []string `json:"eventTypes"` // of which an event is one; beginnings of types end in *; none for all
	Filter     string   `json:"filter"`     // an expression over the event that holds; "" for all
	Format     string   `json:"format" enum:"structured,binary"`
	Enabled    bool     `json:"enabled"`

	DisabledReason      *string    `json:"disabledReason"`      // why Turbocat has switched it off; null when it did not
	PreviousSecretUntil *time.Time `json:"previousSecretUntil"` // until when requests are signed with the secret before the last rotation, too
	Pending             int        `json:"pending"`             // deliveries that wait
	FailingSince        *time.Time `json:"failingSince"`        // when the first attempt failed since the last that did not
	PausedUntil         *time.Time `json:"pausedUntil"`         // nothing is sent before, because too many attempts have failed
	LastDeliveredAt     *time.Time `json:"lastDeliveredAt"`
	LastError           *string    `json:"lastError"`   // of the last attempt, when it failed
	FilterError         *string    `json:"filterError"` // of the last event that the filter could not be computed for; it is not sent
	Skipped             uint64     `json:"skipped"`     // events that were not kept any more when their turn came
	CreatedAt           time.Time  `json:"createdAt"`
	UpdatedAt           time.Time  `json:"updatedAt"`
}

// IssuedWebhook is a webhook with a new secret, which is shown this once.
type IssuedWebhook struct {
	Webhook
	Secret string `json:"secret"` // as Standard Webhooks writes it: whsec_ and base64
}

// Delivery is an event on its way to a webhook.
type Delivery struct {
	ID            string     `json:"id" format:"uuid"`
	WebhookID     string     `json:"webhookId" format:"uuid"`
	EventID       string     `json:"eventId" format:"uuid"` // the webhook-id of its requests, the same when it is sent again
	EventType     string     `json:"eventType"`
	Subject       string     `json:"subject"` // of the event: the execution
	Status        string     `json:"status" enum:"PENDING,DELIVERED,FAILED"`
	Attempts      int        `json:"attempts"`      // that were begun
	NextAttemptAt *time.Time `json:"nextAttemptAt"` // the earliest; null when there is none, or another delivery of the execution is before it
	ReplayOf      *string    `json:"replayOf" format:"uuid"`
	CreatedAt     time.Time  `json:"createdAt"`
	FinishedAt    *time.Time `json:"finishedAt"`

	Event json.RawMessage   `json:"event,omitempty"` // the CloudEvent; not in lists
	Log   []DeliveryAttempt `json:"log,omitempty"`   // the attempts that ended, oldest first; not in lists
}

// DeliveryAttempt is one request to a webhook and what came of it.
type DeliveryAttempt struct {
	At              time.Time         `json:"at"`
	DurationMs      int64             `json:"durationMs"`
	URL             string            `json:"url"`
	RequestHeaders  map[string]string `json:"requestHeaders"`
	Status          int               `json:"status,omitempty"` // of HTTP; absent when there was no answer
	ResponseHeaders map[string]string `json:"responseHeaders,omitempty"`
	ResponseBody    string            `json:"responseBody,omitempty"` // its first 1,024 bytes
	Error           string            `json:"error,omitempty"`        // why it does not count as delivered
}

// WebhookBodyRequest makes a webhook of the caller, or changes the one that it names. Of Body, absent fields stay and null sets defaults.
type WebhookBodyRequest struct {
	ID   string          `json:"id,omitempty"`
	Body json.RawMessage `json:"body"`
}

// WebhookRequest names a webhook.
type WebhookRequest struct {
	ID string `json:"id"`
}

// ListWebhooksRequest asks for a page of the webhooks of the caller; an ADMIN may name another user.
type ListWebhooksRequest struct {
	rpc.Page
	UserID string `json:"userId,omitempty"`
}

// RotateWebhookRequest gives a webhook a new secret; with the one before requests are signed as well for OverlapMs.
type RotateWebhookRequest struct {
	ID        string `json:"id"`
	OverlapMs int64  `json:"overlapMs"`
}

// ReplayWebhookRequest has a webhook sent what is in its user's feed again, as far as it takes it now: behind the cursor After, or of the time From
// and later; up to the cursor Until, and of what happened before the time To.
type ReplayWebhookRequest struct {
	ID    string     `json:"id"`
	After *uint64    `json:"after,omitempty"`
	From  *time.Time `json:"from,omitempty"`
	Until *uint64    `json:"until,omitempty"` // 0 or absent: up to what was sent or is to be
	To    *time.Time `json:"to,omitempty"`
}

// ReplayedEvents tells what ReplayWebhookRequest has made.
type ReplayedEvents struct {
	Deliveries int    `json:"deliveries"` // that it has made
	Cursor     uint64 `json:"cursor"`     // up to which it looked: after of the next request
	More       bool   `json:"more"`       // there is more, for which there was no room
}

// ListDeliveriesRequest asks for a page of the deliveries of a webhook.
type ListDeliveriesRequest struct {
	rpc.Page
	WebhookID string `json:"webhookId"`
	Status    string `json:"status,omitempty"`
}

// DeliveryRequest names a delivery.
type DeliveryRequest struct {
	WebhookID string `json:"webhookId"`
	ID        string `json:"id"`
}

// EncodeWebhookTest gives the CloudEvent that a test of a webhook sends, and its type. It is in nobody's feed and on no stream.
func EncodeWebhookTest(m event.Meta, webhookID, userID string) (eventType string, body []byte, err error) {
	type data struct {
		WebhookID string `json:"webhookId"`
		UserID    string `json:"userId"`
		Message   string `json:"message"`
	}
	t := event.Type[data]{Entity: "webhook", Name: "test", Version: 1}
	body, err = t.Encode(m, data{WebhookID: webhookID, UserID: userID, Message: "This is a test. Nothing happened."})
	return t.String(), body, err
}

// The methods of webhooks. An ADMIN may use those of all users; for others they do not exist: NOT_FOUND.
var (
	CreateWebhook  = rpc.Method[WebhookBodyRequest, IssuedWebhook]{Service: Service, Name: "create_webhook", Version: 1}
	ListWebhooks   = rpc.Method[ListWebhooksRequest, rpc.List[Webhook]]{Service: Service, Name: "list_webhooks", Version: 1}
	GetWebhook     = rpc.Method[WebhookRequest, Webhook]{Service: Service, Name: "get_webhook", Version: 1}
	PatchWebhook   = rpc.Method[WebhookBodyRequest, Webhook]{Service: Service, Name: "patch_webhook", Version: 1}
	DeleteWebhook  = rpc.Method[WebhookRequest, rpc.Empty]{Service: Service, Name: "delete_webhook", Version: 1}
	RotateWebhook  = rpc.Method[RotateWebhookRequest, IssuedWebhook]{Service: Service, Name: "rotate_webhook", Version: 1}
	TestWebhook    = rpc.Method[WebhookRequest, Delivery]{Service: Service, Name: "test_webhook", Version: 1}
	ReplayWebhook  = rpc.Method[ReplayWebhookRequest, ReplayedEvents]{Service: Service, Name: "replay_webhook", Version: 1}
	ListDeliveries = rpc.Method[ListDeliveriesRequest, rpc.List[Delivery]]{Service: Service, Name: "list_deliveries", Version: 1}
	GetDelivery    = rpc.Method[DeliveryRequest, Delivery]{Service: Service, Name: "get_delivery", Version: 1}
	ReplayDelivery = rpc.Method[DeliveryRequest, Delivery]{Service: Service, Name: "replay_delivery", Version: 1}
)
