// Package webhook has events of users' feeds sent to addresses that the users give, signed, and those of an execution in their order.
//
// An event becomes a delivery when it is behind the cursor of a webhook; that, and where the cursor is then, is one transaction. Whatever
// process dies, each event of a feed becomes one delivery of each webhook that wants it, and each delivery is tried until it is answered with
// 2xx or given up. A target may be told twice: it knows by webhook-id.
package webhook

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"turbocat.io/contracts"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
)

// Webhook is where a user has events sent, which, and how that goes.
type Webhook struct {
	ID, UserID, Name, URL string
	selection.Events
	Format         string
	Enabled        bool
	DisabledReason string

	seal.Rotating // the secret

	Cursor uint64 // up to where in the feed there are deliveries
	Standing
	Pending              int
	LastDeliveredAt      time.Time
	LastError            string
	FilterError          string
	Skipped              uint64
	CreatedAt, UpdatedAt time.Time
}

const (
	maxName   = 200
	maxURL    = 2000
	secretLen = 24 // bytes, as Standard Webhooks advises 24 to 64

	// MaxOverlap is how long a rotated secret may be used on.
	MaxOverlap = 7 * 24 * time.Hour
)

// SecretPrefix begins the text of a secret.
const SecretPrefix = "whsec_"

// readOnly are the fields that a client may send back but not change.
var readOnly = []string{
	"id", "userId", "disabledReason", "previousSecretUntil", "pending", "failingSince", "pausedUntil", "lastDeliveredAt", "lastError", "filterError", "skipped", "createdAt", "updatedAt", "secret",
}

// parse reads the body that makes a webhook, or changes it.
func (w *Webhook) parse(body json.RawMessage, create bool) error {
	var faults form.Faults
	o, ok := form.Read(body, &faults)
	if !ok {
		return faults.Err("webhook")
	}
	o.Only(append([]string{"name", "url", "eventTypes", "filter", "format", "enabled"}, readOnly...)...)
	o.Require(create, "url")
	o.String("name", &w.Name, "", 0, maxName)
	if o.String("url", &w.URL, "", 1, maxURL); o.Has("url") && o.Text("url") != "" {
		if fault := faultOfURL(w.URL); fault != "" {
			faults.Add("url", errs.BadValue, "%s", fault)
		}
	}
	w.Read(o, contracts.CanHappen, &faults)
	o.Enum("format", &w.Format, telemetry.FormatStructured, telemetry.FormatStructured, telemetry.FormatBinary)
	o.Bool("enabled", &w.Enabled, true)
	return faults.Err("webhook")
}

// faultOfURL tells what is wrong with an address; "" when nothing is. Where a name leads to is checked when it is dialled.
func faultOfURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "is no http or https address; give one like https://example.com/turbocat"
	case u.User != nil:
		return "has a user or password in it; leave them out: requests are signed"
	case u.Fragment != "":
		return "has a fragment (#), which is not sent; leave it out"
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "has a space or a control character in it; write it as %20 or leave it out"
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.Zone() != "" {
		return "has a zone in its address; leave it out"
	}
	return ""
}

// issue gives the webhook a new secret; with the one before requests are signed, too, for the overlap.
func (w *Webhook) issue(keys *seal.Keyring, secret []byte, overlap time.Duration, now time.Time) (text string) {
	text = SecretPrefix + base64.StdEncoding.EncodeToString(secret)
	w.Change(keys, w.UserID, w.ID, text, overlap, now)
	return text
}

// secrets opens those that a request is signed with, the current one first.
func (w Webhook) secrets(keys *seal.Keyring, now time.Time) ([]string, error) {
	return w.Open(keys, w.UserID, w.ID, now)
}

// View is the webhook as it is shown.
func (w Webhook) View() telemetry.Webhook {
	return telemetry.Webhook{
		ID: w.ID, UserID: w.UserID, Name: w.Name, URL: w.URL, EventTypes: w.EventTypes, Filter: w.Filter, Format: w.Format, Enabled: w.Enabled,
		DisabledReason: orNull(w.DisabledReason), PreviousSecretUntil: orNull(w.PreviousUntil), Pending: w.Pending, FailingSince: orNull(w.FailingSince),
		PausedUntil: orNull(w.PausedUntil), LastDeliveredAt: orNull(w.LastDeliveredAt), LastError: orNull(w.LastError), FilterError: orNull(w.FilterError),
		Skipped: w.Skipped, CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
	}
}

// Settings are what of the webhook its user decides, for the audit trail.
func (w Webhook) Settings() any {
	return struct {
		Name           string   `json:"name"`
		URL            string   `json:"url"`
		EventTypes     []string `json:"eventTypes"`
		Filter         string   `json:"filter"`
		Format         string   `json:"format"`
		Enabled        bool     `json:"enabled"`
		DisabledReason string   `json:"disabledReason"`
		SecretVersion  int      `json:"secretVersion"`
	}{w.Name, w.URL, w.EventTypes, w.Filter, w.Format, w.Enabled, w.DisabledReason, w.SecretVersion}
}

func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
