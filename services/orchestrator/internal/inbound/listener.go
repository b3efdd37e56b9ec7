package inbound

import (
	"context"
	"encoding/json"
	"regexp"
	"time"

	"turbocat.io/contracts"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/selection"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Listener is a trigger of type EVENT.
type Listener struct {
	trigger.Base
	selection.Events
	MaxPerMinute int64

	Revision  int64
	Cursor    uint64 // up to where in its user's feed it has looked
	Skipped   uint64
	LastError string
	LastFired time.Time
}

const (
	listenerInputs    = `"{{data}}"`
	listenerPerMinute = 600
)

// Feeds reads the feeds of users.
type Feeds interface {
	Read(ctx context.Context, userID string, req telemetry.FeedRequest) (telemetry.FeedResponse, error)
}

// Listeners makes and changes triggers of type EVENT; it implements trigger.Kind.
type Listeners struct{ feeds Feeds }

// NewListeners makes Listeners to feeds.
func NewListeners(feeds Feeds) Listeners { return Listeners{feeds} }

// New implements trigger.Kind. The listener hears what happens from now on.
func (k Listeners) New(ctx context.Context, b trigger.Base, body json.RawMessage) (trigger.Trigger, string, error) {
	var faults form.Faults
	l := Listener{Base: b, MaxPerMinute: listenerPerMinute}
	l.Inputs = []byte(listenerInputs)
	if o, ok := form.Read(body, &faults); ok {
		o.Require(true, "name", "type", "eventTypes")
		l.read(o, &faults)
	}
	if err := faults.Err("trigger"); err != nil {
		return nil, "", err
	}
	err := k.begin(ctx, &l)
	return &l, "", err
}

// begin has a listener hear what happens from now on.
func (k Listeners) begin(ctx context.Context, l *Listener) error {
	now, err := k.feeds.Read(ctx, l.UserID, telemetry.FeedRequest{Latest: true})
	l.Cursor, l.LastError = now.Cursor, ""
	return err
}

// Patched implements trigger.Kind. A listener that was off hears what happens from now on.
func (k Listeners) Patched(ctx context.Context, was trigger.Trigger, body json.RawMessage) (trigger.Trigger, error) {
	var faults form.Faults
	before := was.(*Listener)
	l := *before
	if o, ok := form.Read(body, &faults); ok {
		o.Require(false, "name", "type", "eventTypes")
		l.read(o, &faults)
	}
	if err := faults.Err("trigger"); err != nil {
		return was, err
	}
	if l.Enabled && !before.Enabled {
		return &l, k.begin(ctx, &l)
	}
	return &l, nil
}

func (l *Listener) read(o form.Object, faults *form.Faults) {
	o.Only(append([]string{"inputs", "eventTypes", "filter", "maxPerMinute", "lastError", "skipped"}, trigger.CommonFields...)...)
	l.Base.Read(o)
	l.Events.Read(o, contracts.CanHappen, faults)
	readInputs(o, &l.Inputs, listenerInputs, faultOfAttribute, faults)
	readPerMinute(o, &l.MaxPerMinute, listenerPerMinute)
}

// attribute is what a name of an attribute of a CloudEvent may be.
var attribute = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// faultOfAttribute tells what is wrong with reading a root of an event; "" for nothing.
func faultOfAttribute(root string) string {
	switch {
	case root == "secrets":
		return "secrets are not for what a trigger reads; name them in the agent's config or the step's inputs"
	case !attribute.MatchString(root):
		return "there is no " + root + "; read type, source, subject or another attribute of the event, or data"
	}
	return ""
}

// View implements trigger.Trigger.
func (l *Listener) View() orchestrator.Trigger {
	out := l.Base.View()
	out.Filter, out.MaxPerMinute, out.EventTypes, out.LastError, out.Skipped = &l.Filter, l.MaxPerMinute, l.EventTypes, l.LastError, l.Skipped
	if !l.LastFired.IsZero() {
		out.LastFiredAt = &l.LastFired
	}
	return out
}
