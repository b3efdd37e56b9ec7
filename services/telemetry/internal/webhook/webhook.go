// Package webhook has events of users' feeds sent to addresses that the users give, signed, and those of an execution in their order.
//
// An event becomes a delivery when it is behind the cursor of a webhook; that, and where the cursor is then, is one transaction. Whatever
// process dies, each event of a feed becomes one delivery of each webhook that wants it, and each delivery is tried until it is answered with
// 2xx or given up. A target may be told twice: it knows by webhook-id.
package webhook

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"turbocat.io/contracts"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/seal"
)

// Webhook is where a user has events sent, which, and how that goes.
type Webhook struct {
	ID, UserID, Name, URL string
	EventTypes            []string
	Filter, Format        string
	Enabled               bool
	DisabledReason        string

	SecretVersion  int
	Secret         seal.Sealed
	PreviousSecret *seal.Sealed // of the version before, good until PreviousUntil
	PreviousUntil  time.Time

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
	maxTypes  = 50
	maxType   = 200
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
	var types []string
	if o.Strings("eventTypes", &types, maxTypes, 1, maxType); o.Has("eventTypes") && types != nil {
		w.EventTypes = types
		for i, t := range types {
			if !known(t) {
				faults.Add(form.At("eventTypes", i), errs.BadEnum, "is %s, of which no event is; give a type of GET /event-types, or its beginning with * at the end", form.Quote(t))
			}
		}
	}
	if o.String("filter", &w.Filter, "", 0, expr.MaxLength); w.Filter != "" {
		if _, err := expr.CompileEvent(w.Filter); err != nil {
			faults.Add("filter", errs.BadExpression, "%s", err)
		}
	}
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

// known tells whether there are events of a type, or of types that begin so.
func known(wanted string) bool {
	for _, e := range contracts.Events() {
		if matches(wanted, e.Name) {
			return true
		}
	}
	return false
}

// matches tells whether a type is the wanted one, or begins as wanted says.
func matches(wanted, eventType string) bool {
	if beginning, open := strings.CutSuffix(wanted, "*"); open {
		return strings.HasPrefix(eventType, beginning)
	}
	return wanted == eventType
}

// Selector tells which events a webhook wants.
type Selector struct {
	types  []string
	filter *expr.Expression
}

// Selector gives that of a webhook. The filter of one that was saved compiles.
func (w Webhook) Selector() (Selector, error) {
	s := Selector{types: w.EventTypes}
	if w.Filter == "" {
		return s, nil
	}
	var err error
	s.filter, err = expr.CompileEvent(w.Filter)
	return s, err
}

// Wants tells whether an event is wanted; it is not when the filter can not be computed for it.
func (s Selector) Wants(eventType string, event json.RawMessage) (bool, error) {
	wanted := len(s.types) == 0
	for _, t := range s.types {
		wanted = wanted || matches(t, eventType)
	}
	if !wanted || s.filter == nil {
		return wanted, nil
	}
	holds, err := s.filter.Holds(expr.OfEvent(event))
	if err != nil {
		return false, fmt.Errorf("%s: %w", eventType, err)
	}
	return holds, nil
}

// place is what a secret of the webhook is sealed for.
func (w Webhook) place(version int) seal.Place {
	return seal.Place{Owner: w.UserID, Name: w.ID, Version: version}
}

// issue gives the webhook a new secret; with the one before requests are signed, too, for the overlap.
func (w *Webhook) issue(keys *seal.Keyring, secret []byte, overlap time.Duration, now time.Time) (text string) {
	w.PreviousSecret, w.PreviousUntil = nil, time.Time{}
	if overlap > 0 {
		before := w.Secret
		w.PreviousSecret, w.PreviousUntil = &before, now.Add(overlap)
	}
	w.SecretVersion++
	text = SecretPrefix + base64.StdEncoding.EncodeToString(secret)
	w.Secret = keys.Seal(w.place(w.SecretVersion), text)
	return text
}

// secrets opens those that a request is signed with, the current one first.
func (w Webhook) secrets(keys *seal.Keyring, now time.Time) ([]string, error) {
	current, err := keys.Open(w.place(w.SecretVersion), w.Secret)
	if err != nil {
		return nil, err
	}
	if w.PreviousSecret == nil || !now.Before(w.PreviousUntil) {
		return []string{current}, nil
	}
	previous, err := keys.Open(w.place(w.SecretVersion-1), *w.PreviousSecret)
	return []string{current, previous}, err
}

// Reseal seals the secrets under the current key, and tells whether that changed anything.
func (w *Webhook) Reseal(keys *seal.Keyring) (bool, error) {
	changed := false
	for _, s := range []struct {
		sealed  *seal.Sealed
		version int
	}{{&w.Secret, w.SecretVersion}, {w.PreviousSecret, w.SecretVersion - 1}} {
		if s.sealed == nil || s.sealed.KeyID == keys.Current() {
			continue
		}
		text, err := keys.Open(w.place(s.version), *s.sealed)
		if err != nil {
			return false, err
		}
		*s.sealed, changed = keys.Seal(w.place(s.version), text), true
	}
	return changed, nil
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
