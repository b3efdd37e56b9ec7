package inbound

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/template"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// HookStore keeps hooks and what came in for them.
type HookStore interface {
	DeliveryStore
	// Trigger reads a trigger; NOT_FOUND when there is none.
	Trigger(ctx context.Context, id string) (trigger.Trigger, error)
	// Reject keeps why a request for a hook was turned away, the first in a while.
	Reject(ctx context.Context, id, reason string) error
	// Deliveries reads a page of what came in for a trigger.
	Deliveries(ctx context.Context, req orchestrator.ListTriggerDeliveriesRequest) ([]Delivery, rpc.Pagination, error)
	// Reseal seals secrets under the current key that are under another; some at a time.
	Reseal(ctx context.Context, keys *seal.Keyring) error
}

// Receiver takes requests to hooks, and answers what callers ask about them beyond what they ask about all triggers. It is safe for concurrent use.
type Receiver struct {
	store    HookStore
	triggers *trigger.Triggers
	acceptor *execution.Acceptor
	keys     *seal.Keyring
	log      zerolog.Logger
	requests *prometheus.CounterVec
}

// NewReceiver makes a receiver; keys open the secrets of hooks.
func NewReceiver(store HookStore, triggers *trigger.Triggers, acceptor *execution.Acceptor, keys *seal.Keyring, log zerolog.Logger, metrics prometheus.Registerer) *Receiver {
	return &Receiver{store: store, triggers: triggers, acceptor: acceptor, keys: keys, log: log, requests: promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "hook_requests_total", Help: "Requests to URLs of triggers, by outcome: accepted, repeated, filtered, refused, rejected (no good signature), limited or failed.",
	}, []string{"outcome"})}
}

// Receive takes a request. What is answered without an error needs not be sent again.
func (s *Receiver) Receive(ctx context.Context, _ rpc.Caller, r orchestrator.HookRequest) (orchestrator.HookReceipt, error) {
	receipt, outcome, err := s.receive(ctx, r)
	if err != nil && outcome == "" {
		outcome = "failed"
	}
	s.requests.WithLabelValues(outcome).Inc()
	return receipt, err
}

func (s *Receiver) receive(ctx context.Context, r orchestrator.HookRequest) (receipt orchestrator.HookReceipt, outcome string, err error) {
	found, err := s.store.Trigger(ctx, r.ID)
	if err != nil {
		return receipt, "", err
	}
	h, is := found.(*Hook)
	if !is {
		return receipt, "", errs.New(errs.NotFound, "trigger not found")
	}
	secrets, err := h.Open(s.keys, h.UserID, h.ID, h.Now)
	if err != nil {
		return receipt, "", err
	}
	name, fault := verify(h.Preset, h.Signature, secrets, r, time.Now())
	if fault != nil {
		if err := s.store.Reject(ctx, h.ID, clip(fault.Error())); err != nil {
			s.log.Warn().Err(err).Str("triggerId", h.ID).Msg("it is not kept why a request was turned away")
		}
		return receipt, "rejected", errs.New(errs.Unauthorized, "the request is not taken: %s", fault)
	}
	if name == "" {
		name = uuid.Must(uuid.NewV7()).String()
	}
	receipt.DeliveryID = named(name)
	if !h.Enabled {
		return receipt, "refused", errs.New(errs.Conflict, "the trigger is off; switch it on, and have it sent again")
	}
	return s.deliver(ctx, h, r, receipt)
}

// deliver does with a request of a good sender what its hook says.
func (s *Receiver) deliver(ctx context.Context, h *Hook, r orchestrator.HookRequest, receipt orchestrator.HookReceipt) (_ orchestrator.HookReceipt, outcome string, err error) {
	if receipt.ExecutionID, err = s.store.Delivered(ctx, h.ID, receipt.DeliveryID); err != nil {
		return receipt, "", err
	}
	receipt.Status, receipt.UserID = orchestrator.ReceivedAccepted, h.UserID
	if receipt.ExecutionID != "" {
		receipt.Repeated = true
		return receipt, "repeated", nil
	}
	filtered := func(reason string) (orchestrator.HookReceipt, string, error) {
		receipt.Status = orchestrator.ReceivedFiltered
		return receipt, "filtered", record(ctx, s.store, h.ID, receipt.DeliveryID, receipt.Status, reason)
	}
	refused := func(err error) (orchestrator.HookReceipt, string, error) {
		if unrecorded := record(ctx, s.store, h.ID, receipt.DeliveryID, orchestrator.ReceivedRefused, execution.ReasonOf(err)); unrecorded != nil {
			return receipt, "", unrecorded
		}
		return receipt, "refused", err
	}
	document, err := documentOf(h, r)
	if err != nil {
		return refused(err)
	}
	if receipt.Challenge = challengeOf(h.Preset, r.Body); receipt.Challenge != "" {
		return filtered("Slack asked whose the URL is")
	}
	if h.Preset == orchestrator.PresetGitHub && r.Headers["x-github-event"] == "ping" {
		return filtered("GitHub's ping, which says that the webhook is there")
	}
	lookup := func(p template.Path) (json.RawMessage, bool) { return template.Walk(document, p) }
	if h.Filter != "" {
		holds, err := filterHolds(h.Filter, lookup)
		if err != nil {
			return refused(errs.New(errs.Validation, "the filter of the trigger can not be computed: %s", err))
		}
		if !holds {
			return filtered("the filter did not hold")
		}
	}
	started, err := s.store.StartedSince(ctx, h.ID, time.Minute, h.MaxPerMinute)
	if err != nil {
		return receipt, "", err
	}
	if started >= h.MaxPerMinute {
		return receipt, "limited", errs.New(errs.RateLimited, "the trigger has started %d executions within a minute, which is its maxPerMinute; send it again in a minute", started)
	}
	inputs, err := render(h.Inputs, lookup)
	if err != nil {
		return refused(err)
	}
	accepted, err := start(ctx, s.acceptor, s.store, &h.Base, orchestrator.TriggerWebhook, receipt.DeliveryID, inputs, depthAfter(eventOf(r)))
	if err != nil {
		if execution.Refused(err) {
			outcome = "refused"
		}
		return receipt, outcome, err
	}
	receipt.ExecutionID, receipt.Repeated = accepted.ID, accepted.Replayed
	if receipt.Repeated {
		return receipt, "repeated", nil
	}
	return receipt, "accepted", nil
}

func filterHolds(source string, lookup template.Lookup) (bool, error) {
	filter, err := expr.Compile(source)
	if err != nil {
		return false, err
	}
	return filter.Holds(lookup)
}

// hidden are the headers that no workflow sees.
var hidden = []string{"authorization", "cookie", "proxy-authorization"}

// documentOf is what the filter and the inputs of a hook read: the body, the headers by their names in lower case, and the query.
func documentOf(h *Hook, r orchestrator.HookRequest) (json.RawMessage, error) {
	headers := make(map[string]string, len(r.Headers))
	for name, value := range r.Headers {
		headers[name] = value
	}
	for _, name := range append([]string{strings.ToLower(h.Signature.Header)}, hidden...) {
		delete(headers, name)
	}
	body, err := bodyOf(r)
	if err != nil {
		return nil, errs.New(errs.Validation, "the body %s; correct it", err)
	}
	return json.Marshal(map[string]any{"body": body, "headers": headers, "query": r.Query})
}

// bodyOf gives a body as JSON: as it is, of a form its fields, of a text that, of anything else its base64.
func bodyOf(r orchestrator.HookRequest) (any, error) {
	if len(r.Body) == 0 {
		return nil, nil
	}
	media, _, _ := mime.ParseMediaType(r.Headers["content-type"])
	if media == "application/x-www-form-urlencoded" {
		values, err := url.ParseQuery(string(r.Body))
		if err != nil {
			return nil, errors.New("is no form, although its Content-Type says so")
		}
		fields := make(map[string]any, len(values))
		for name, all := range values {
			fields[name] = all[0]
			if len(all) > 1 {
				fields[name] = all
			}
		}
		if payload := values.Get("payload"); strings.HasPrefix(payload, "{") && checkJSON([]byte(payload)) == nil {
			fields["payload"] = json.RawMessage(payload) // as Slack and GitHub put JSON into forms
		}
		return fields, nil
	}
	err := checkJSON(r.Body)
	switch {
	case err == nil:
		return json.RawMessage(r.Body), nil
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		return nil, err
	case utf8.Valid(r.Body):
		return string(r.Body), nil
	}
	return base64.StdEncoding.EncodeToString(r.Body), nil
}

// eventOf gives the CloudEvent that a request is, as far as depthAfter reads it; nil when it is none.
func eventOf(r orchestrator.HookRequest) []byte {
	if strings.HasPrefix(r.Headers["content-type"], "application/cloudevents+json") {
		return r.Body
	}
	kind := r.Headers["ce-type"]
	if kind == "" || !json.Valid(r.Body) {
		return nil
	}
	event, err := json.Marshal(map[string]any{"type": kind, "causationdepth": r.Headers["ce-causationdepth"], "data": json.RawMessage(r.Body)})
	if err != nil {
		return nil
	}
	return event
}

// challengeOf gives what Slack wants to see before it sends anything to a URL; "" when the request is something else.
func challengeOf(preset string, body []byte) string {
	if preset != orchestrator.PresetSlack || field(body, "type") != "url_verification" {
		return ""
	}
	return field(body, "challenge")
}

// Rotate gives a hook a new secret; the one before is taken, too, for the overlap. Without an Idempotency-Key it is not safe to repeat.
func (s *Receiver) Rotate(ctx context.Context, caller rpc.Caller, req orchestrator.RotateTriggerRequest) (orchestrator.IssuedTrigger, error) {
	secret := ""
	t, err := s.triggers.Change(ctx, caller, req.WorkflowID, req.ID, func(was trigger.Trigger) (t trigger.Trigger, err error) {
		t, secret, err = Hooks{s.keys}.Rotated(was, req.Secret, time.Duration(req.OverlapMs)*time.Millisecond)
		return t, err
	})
	if err != nil {
		return orchestrator.IssuedTrigger{}, err
	}
	return orchestrator.IssuedTrigger{Trigger: t.View(), Secret: secret}, nil
}

// Deliveries reads a page of what came in for a trigger, newest first.
func (s *Receiver) Deliveries(ctx context.Context, caller rpc.Caller, req orchestrator.ListTriggerDeliveriesRequest) (rpc.List[orchestrator.TriggerDelivery], error) {
	if _, err := s.triggers.Find(ctx, caller, req.WorkflowID, req.ID); err != nil {
		return rpc.List[orchestrator.TriggerDelivery]{}, err
	}
	found, pagination, err := s.store.Deliveries(ctx, req)
	if err != nil {
		return rpc.List[orchestrator.TriggerDelivery]{}, err
	}
	items := make([]orchestrator.TriggerDelivery, len(found))
	for i, d := range found {
		items[i] = orchestrator.TriggerDelivery{ID: d.ID, DeliveryID: d.Name, Status: d.Status, Reason: d.Reason, ReceivedAt: d.ReceivedAt}
		if d.ExecutionID != "" {
			items[i].ExecutionID = &d.ExecutionID
		}
	}
	return rpc.List[orchestrator.TriggerDelivery]{Items: items, Pagination: pagination}, nil
}

// resealEvery is how often it is looked for secrets that are sealed under an old key.
const resealEvery = time.Minute

// Tend seals secrets anew that are sealed under an old key, until ctx ends.
func (s *Receiver) Tend(ctx context.Context) {
	ticker := time.NewTicker(resealEvery)
	defer ticker.Stop()
	for {
		if err := s.store.Reseal(ctx, s.keys); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("secrets of triggers are not sealed under the current key yet; trying again")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
