package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
)

// What a Store tells beside failures.
var (
	ErrUnknown = errors.New("no such webhook or delivery")
	ErrTooMany = errors.New("the user has as many webhooks as may be")
)

// Store keeps webhooks and what was sent to them.
type Store interface {
	// Insert adds a webhook whose cursor is the end of its user's feed; ErrTooMany when the user has most.
	Insert(ctx context.Context, w Webhook, most int) error
	// Update changes a webhook under a lock, and gives it as it is then; ErrUnknown when there is none. An error of change changes nothing. The
	// audit trail has it as an action, when the user's settings are others. When afresh, what waits may be sent at once.
	Update(ctx context.Context, id string, action audit.Action, change func(w *Webhook) (afresh bool, err error)) (Webhook, error)
	// Delete deletes a webhook and what waits for it, when allow has no error; ErrUnknown when there is none.
	Delete(ctx context.Context, id string, allow func(w Webhook) error) error
	// Webhook gives one, or ErrUnknown.
	Webhook(ctx context.Context, id string) (Webhook, error)
	// List reads a page of the webhooks of a user.
	List(ctx context.Context, userID string, q rpc.Page) (rpc.List[Webhook], error)
	// Deliveries reads a page of the deliveries of a webhook, without their events and logs.
	Deliveries(ctx context.Context, q telemetry.ListDeliveriesRequest) (rpc.List[telemetry.Delivery], error)
	// Delivery gives one with all there is of it, or ErrUnknown.
	Delivery(ctx context.Context, webhookID, id string) (telemetry.Delivery, error)
	// Record keeps a delivery that was made outside of the queue.
	Record(ctx context.Context, d telemetry.Delivery) error
	// Again puts the event of a delivery into the queue once more.
	Again(ctx context.Context, d telemetry.Delivery) (telemetry.Delivery, error)
	// Replay puts what a webhook wants of its user's feed into the queue once more.
	Replay(ctx context.Context, w Webhook, q telemetry.ReplayWebhookRequest) (telemetry.ReplayedEvents, error)

	// SealedBefore gives webhooks with a secret that is sealed under another key than the one given, some of them.
	SealedBefore(ctx context.Context, keyID string) ([]string, error)
	// Notices gives webhooks that were switched off and whose users do not know it yet, some of them; Noticed says that they do.
	Notices(ctx context.Context) ([]Webhook, error)
	Noticed(ctx context.Context, id string) error
}

// Webhooks is what people do with webhooks. It is safe for concurrent use.
type Webhooks struct {
	store   Store
	sender  *Sender
	courier *Courier
	keys    *seal.Keyring
	now     func() time.Time
	log     zerolog.Logger
	notify  func(ctx context.Context, userID, subject, text string) error
}

// New makes Webhooks over a store. notify sends a user a mail; NOT_FOUND says that nobody reads one.
func New(store Store, sender *Sender, courier *Courier, keys *seal.Keyring, now func() time.Time, log zerolog.Logger,
	notify func(ctx context.Context, userID, subject, text string) error,
) *Webhooks {
	return &Webhooks{store: store, sender: sender, courier: courier, keys: keys, now: now, log: log, notify: notify}
}

// Create makes a webhook of the caller, and gives its secret.
func (s *Webhooks) Create(ctx context.Context, caller rpc.Caller, q telemetry.WebhookBodyRequest) (telemetry.IssuedWebhook, error) {
	if caller.UserID == "" {
		return telemetry.IssuedWebhook{}, errs.New(errs.Unauthorized, "a webhook is a user's; sign in")
	}
	now := s.time()
	w := Webhook{UserID: caller.UserID, Events: selection.Events{EventTypes: []string{}}, Format: telemetry.FormatStructured, Enabled: true, CreatedAt: now, UpdatedAt: now}
	if err := w.parse(q.Body, true); err != nil {
		return telemetry.IssuedWebhook{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return telemetry.IssuedWebhook{}, err
	}
	w.ID = id.String()
	text := w.issue(s.keys, newSecret(), 0, now)
	err = s.store.Insert(ctx, w, telemetry.MaxWebhooks)
	if errors.Is(err, ErrTooMany) {
		err = errs.New(errs.Conflict, "there are %d webhooks already; delete one that is not used", telemetry.MaxWebhooks)
	}
	if err != nil {
		return telemetry.IssuedWebhook{}, err
	}
	return telemetry.IssuedWebhook{Webhook: w.View(), Secret: text}, nil
}

func newSecret() []byte {
	b := make([]byte, secretLen)
	_, _ = rand.Read(b) // it never fails
	return b
}

// List reads a page of the caller's webhooks; an ADMIN may ask for another user's.
func (s *Webhooks) List(ctx context.Context, caller rpc.Caller, q telemetry.ListWebhooksRequest) (rpc.List[telemetry.Webhook], error) {
	owner := caller.UserID
	if q.UserID != "" && q.UserID != owner {
		if !caller.IsAdmin() {
			return rpc.List[telemetry.Webhook]{}, errs.New(errs.Forbidden, "only an ADMIN may list the webhooks of others; leave userId out")
		}
		owner = q.UserID
	}
	if uuid.Validate(owner) != nil {
		return rpc.List[telemetry.Webhook]{}, errs.Invalid("query", []errs.Detail{{Field: "userId", Message: "is no id; give that of an account", Code: errs.BadValue}})
	}
	found, err := s.store.List(ctx, owner, q.Page)
	list := rpc.List[telemetry.Webhook]{Items: make([]telemetry.Webhook, len(found.Items)), Pagination: found.Pagination}
	for i, w := range found.Items {
		list.Items[i] = w.View()
	}
	return list, err
}

// Get gives a webhook.
func (s *Webhooks) Get(ctx context.Context, caller rpc.Caller, q telemetry.WebhookRequest) (telemetry.Webhook, error) {
	w, err := s.webhook(ctx, caller, q.ID)
	return w.View(), err
}

// Patch changes a webhook by a JSON object. One that is switched on, or has another address, is tried at once.
func (s *Webhooks) Patch(ctx context.Context, caller rpc.Caller, q telemetry.WebhookBodyRequest) (telemetry.Webhook, error) {
	w, err := s.update(ctx, caller, q.ID, audit.WebhookUpdated, func(w *Webhook) (bool, error) {
		before := *w
		if err := w.parse(q.Body, false); err != nil {
			return false, err
		}
		w.UpdatedAt = s.time()
		afresh := w.URL != before.URL || w.Enabled && !before.Enabled
		if afresh {
			w.Standing = Standing{}
		}
		if w.Enabled {
			w.DisabledReason = ""
		}
		if w.Filter != before.Filter {
			w.FilterError = ""
		}
		return afresh, nil
	})
	s.courier.Wake()
	return w.View(), err
}

// Delete deletes a webhook. What is being sent may arrive still.
func (s *Webhooks) Delete(ctx context.Context, caller rpc.Caller, q telemetry.WebhookRequest) (rpc.Empty, error) {
	if uuid.Validate(q.ID) != nil {
		return rpc.Empty{}, notFound()
	}
	err := s.store.Delete(ctx, q.ID, func(w Webhook) error { return mayUse(caller, w) })
	if errors.Is(err, ErrUnknown) {
		err = notFound()
	}
	return rpc.Empty{}, err
}

// Rotate gives a webhook a new secret. For the overlap, requests are signed with the one before, too.
func (s *Webhooks) Rotate(ctx context.Context, caller rpc.Caller, q telemetry.RotateWebhookRequest) (telemetry.IssuedWebhook, error) {
	if q.OverlapMs < 0 || q.OverlapMs > MaxOverlap.Milliseconds() {
		return telemetry.IssuedWebhook{}, errs.Invalid("request", []errs.Detail{{Field: "overlapMs", Message: "is out of range; give 0 to 604800000, which is a week", Code: errs.OutOfRange}})
	}
	var text string
	w, err := s.update(ctx, caller, q.ID, audit.WebhookRotated, func(w *Webhook) (bool, error) {
		w.UpdatedAt = s.time()
		text = w.issue(s.keys, newSecret(), time.Duration(q.OverlapMs)*time.Millisecond, w.UpdatedAt)
		return false, nil
	})
	return telemetry.IssuedWebhook{Webhook: w.View(), Secret: text}, err
}

// Test sends a webhook an event made for that, at once and once, whether it is enabled or not, and gives what came of it.
func (s *Webhooks) Test(ctx context.Context, caller rpc.Caller, q telemetry.WebhookRequest) (telemetry.Delivery, error) {
	w, err := s.webhook(ctx, caller, q.ID)
	if err != nil {
		return telemetry.Delivery{}, err
	}
	now := s.time()
	id, err := uuid.NewV7()
	if err != nil {
		return telemetry.Delivery{}, err
	}
	d := telemetry.Delivery{
		ID: id.String(), WebhookID: w.ID, EventID: id.String(), Subject: w.ID, Status: telemetry.DeliveryFailed, Attempts: 1, CreatedAt: now,
	}
	meta := event.Meta{ID: d.EventID, Source: telemetry.Service, Subject: w.ID, Time: now, RequestID: caller.RequestID, Traceparent: caller.Traceparent}
	d.EventType, d.Event, err = telemetry.EncodeWebhookTest(meta, w.ID, w.UserID)
	if err != nil {
		return telemetry.Delivery{}, err
	}
	// What was sent is recorded, though who asked may be gone.
	outcome, attempt := s.sender.Send(ctx, w, Message{DeliveryID: d.ID, EventID: d.EventID, EventType: d.EventType, Event: d.Event, Attempt: 1})
	if outcome.Delivered {
		d.Status = telemetry.DeliveryDelivered
	}
	finished := s.time()
	d.Log, d.FinishedAt = []telemetry.DeliveryAttempt{attempt}, &finished
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	return d, s.store.Record(recording, d)
}

// Replay has a webhook sent a part of its user's feed again.
func (s *Webhooks) Replay(ctx context.Context, caller rpc.Caller, q telemetry.ReplayWebhookRequest) (telemetry.ReplayedEvents, error) {
	w, err := s.webhook(ctx, caller, q.ID)
	if err != nil {
		return telemetry.ReplayedEvents{}, err
	}
	if (q.After == nil) == (q.From == nil) {
		return telemetry.ReplayedEvents{}, errs.Invalid("request", []errs.Detail{{Field: "after", Message: "give either after, a cursor, or from, a time: where the replay begins", Code: errs.Required}})
	}
	done, err := s.store.Replay(ctx, w, q)
	s.courier.Wake()
	return done, err
}

// Deliveries reads a page of the deliveries of a webhook.
func (s *Webhooks) Deliveries(ctx context.Context, caller rpc.Caller, q telemetry.ListDeliveriesRequest) (rpc.List[telemetry.Delivery], error) {
	if _, err := s.webhook(ctx, caller, q.WebhookID); err != nil {
		return rpc.List[telemetry.Delivery]{}, err
	}
	return s.store.Deliveries(ctx, q)
}

// Delivery gives a delivery with its event and the log of its attempts.
func (s *Webhooks) Delivery(ctx context.Context, caller rpc.Caller, q telemetry.DeliveryRequest) (telemetry.Delivery, error) {
	_, d, err := s.delivery(ctx, caller, q)
	return d, err
}

// Again has the event of a delivery sent once more, behind those of its execution that wait.
func (s *Webhooks) Again(ctx context.Context, caller rpc.Caller, q telemetry.DeliveryRequest) (telemetry.Delivery, error) {
	w, d, err := s.delivery(ctx, caller, q)
	if err != nil {
		return telemetry.Delivery{}, err
	}
	if w.Pending >= MaxPending {
		return telemetry.Delivery{}, errs.New(errs.RateLimited, "%d deliveries of the webhook wait already; try again when there are fewer", w.Pending)
	}
	again, err := s.store.Again(ctx, d)
	if errors.Is(err, ErrUnknown) {
		err = notFound()
	}
	s.courier.Wake()
	return again, err
}

func (s *Webhooks) delivery(ctx context.Context, caller rpc.Caller, q telemetry.DeliveryRequest) (Webhook, telemetry.Delivery, error) {
	w, err := s.webhook(ctx, caller, q.WebhookID)
	if err != nil {
		return Webhook{}, telemetry.Delivery{}, err
	}
	none := errs.New(errs.NotFound, "the webhook has no such delivery; check the id, or it is not kept any more")
	if uuid.Validate(q.ID) != nil {
		return Webhook{}, telemetry.Delivery{}, none
	}
	d, err := s.store.Delivery(ctx, w.ID, q.ID)
	if errors.Is(err, ErrUnknown) {
		err = none
	}
	return w, d, err
}

// webhook gives one that the caller may use.
func (s *Webhooks) webhook(ctx context.Context, caller rpc.Caller, id string) (Webhook, error) {
	if uuid.Validate(id) != nil {
		return Webhook{}, notFound()
	}
	w, err := s.store.Webhook(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return Webhook{}, notFound()
	}
	if err == nil {
		err = mayUse(caller, w)
	}
	if err != nil {
		return Webhook{}, err
	}
	return w, nil
}

func (s *Webhooks) update(ctx context.Context, caller rpc.Caller, id string, action audit.Action, change func(*Webhook) (bool, error)) (Webhook, error) {
	if uuid.Validate(id) != nil {
		return Webhook{}, notFound()
	}
	w, err := s.store.Update(ctx, id, action, func(w *Webhook) (bool, error) {
		if err := mayUse(caller, *w); err != nil {
			return false, err
		}
		return change(w)
	})
	if errors.Is(err, ErrUnknown) {
		err = notFound()
	}
	return w, err
}

// mayUse has somebody else's webhook not be there.
func mayUse(caller rpc.Caller, w Webhook) error {
	if w.UserID == caller.UserID || caller.IsAdmin() {
		return nil
	}
	return notFound()
}

func notFound() error { return errs.New(errs.NotFound, "there is no such webhook; check the id") }

// time has the precision of the database, so that what is answered is what is stored.
func (s *Webhooks) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// tendEvery is how often it is looked for secrets that are sealed under an old key, and for users to be told.
const tendEvery = 5 * time.Second

// Tend seals secrets anew that are sealed under an old key, and tells users of webhooks that were switched off, until ctx ends.
func (s *Webhooks) Tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		if err := errors.Join(s.reseal(ctx), s.tell(ctx)); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("webhooks are not wholly tended; trying again")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Webhooks) reseal(ctx context.Context) error {
	ids, err := s.store.SealedBefore(ctx, s.keys.Current())
	for _, id := range ids {
		_, err = s.store.Update(ctx, id, audit.WebhookUpdated, func(w *Webhook) (bool, error) {
			_, err := w.Reseal(s.keys, w.UserID, w.ID)
			return false, err
		})
		if err != nil && !errors.Is(err, ErrUnknown) {
			return fmt.Errorf("seal the secret of the webhook %s under the current key: %w", id, err)
		}
	}
	return err
}

func (s *Webhooks) tell(ctx context.Context) error {
	due, err := s.store.Notices(ctx)
	for _, w := range due {
		err := s.notify(ctx, w.UserID, "Your Turbocat webhook was switched off",
			fmt.Sprintf("Hello,\n\nTurbocat does not send events to your webhook %q any more, because %s.\n\n  id       %s\n  address  %s\n  waiting  %d events\n\n"+
				"When the target works again, set its enabled to true (PATCH /api/v1/webhooks/%s). What waits is sent then, in its order.\n",
				w.Name, w.DisabledReason, w.ID, w.URL, w.Pending, w.ID))
		if err != nil && errs.CodeOf(err) != errs.NotFound {
			return fmt.Errorf("tell a user that a webhook was switched off: %w", err)
		}
		if err := s.store.Noticed(ctx, w.ID); err != nil {
			return err
		}
	}
	return err
}
