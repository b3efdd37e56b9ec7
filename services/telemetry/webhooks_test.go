package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	contract "turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

// target is where webhooks lead to. It keeps what it has answered with 2xx.
type target struct {
	t      *testing.T
	url    string
	mu     sync.Mutex
	secret string
	answer func(r *http.Request, n int) int // the status of the n-th request
	asked  int
	took   []received
}

// received is a request that a target has taken.
type received struct {
	header http.Header
	body   []byte
	at     time.Time
}

func newTarget(t *testing.T, answer func(r *http.Request, n int) int) *target {
	t.Helper()
	g := &target{t: t, answer: answer}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.url = server.URL + "/hook"
	return g
}

// ServeHTTP implements http.Handler.
func (g *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.asked++
	n, secret := g.asked, g.secret
	g.mu.Unlock()
	status := http.StatusOK
	if g.answer != nil {
		status = g.answer(r, n)
	}
	if secret != "" {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = signer.Verify(body, r.Header)
		}
		if err != nil {
			g.t.Errorf("a request is not signed: %v", err)
		}
	}
	if status/100 == 2 {
		g.mu.Lock()
		g.took = append(g.took, received{r.Header.Clone(), body, time.Now()})
		g.mu.Unlock()
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "answer %d", n)
}

func (g *target) taken() []received {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.took)
}

func (g *target) requests() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func as(user string) rpc.Caller { return rpc.Caller{UserID: user, Role: rpc.RoleUser} }

func ask[Req, Resp any](w world, caller rpc.Caller, m rpc.Method[Req, Resp], req Req) (Resp, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return bus.Call(ctx, w.conn, m, caller, req)
}

// webhook makes one that leads to a target, which knows its secret.
func (w world) webhook(user string, g *target, more string) contract.IssuedWebhook {
	w.t.Helper()
	made, err := ask(w, as(user), contract.CreateWebhook, contract.WebhookBodyRequest{Body: json.RawMessage(`{"url":"` + g.url + `"` + more + `}`)})
	if err != nil {
		w.t.Fatal(err)
	}
	g.mu.Lock()
	g.secret = made.Secret
	g.mu.Unlock()
	return made
}

// TestWebhooksTellWhatTheFeedDoes has two processes send the events of many executions to a target that refuses one request in four: it takes
// each event that is wanted once, those of an execution in their order, and to the byte as the feed has it.
func TestWebhooksTellWhatTheFeedDoes(t *testing.T) {
	w := newWorld(t)
	w.another()
	l := newLedger(t, w.conn)
	user := uuid.NewString()
	g := newTarget(t, func(*http.Request, int) int {
		if rand.IntN(4) == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	l.happen(user, newID(), orchestrator.EventCreated) // before there is a webhook
	w.awaitFeed(user, 1)
	hook := w.webhook(user, g, `,"filter":"data.seq != 3"`)
	other := newTarget(t, nil)
	w.webhook(user, other, `,"eventTypes":["io.turbocat.execution.completed.v1"],"format":"binary"`)
	kinds := []event.Type[orchestrator.ExecutionEvent]{orchestrator.EventCreated, orchestrator.EventStarted, orchestrator.EventStepStarted, orchestrator.EventStepCompleted, orchestrator.EventCompleted}
	const executions = 8
	for range executions {
		x := newID()
		for _, kind := range kinds {
			l.publish(x, l.happen(user, x, kind))
		}
	}
	all := w.awaitFeed(user, 1+executions*len(kinds))[1:]
	wanted := map[string][]string{} // the bodies by execution
	for _, e := range all {
		var named struct {
			Subject string `json:"subject"`
			Data    struct {
				Seq int `json:"seq"`
			} `json:"data"`
		}
		if err := json.Unmarshal(e.Body, &named); err != nil {
			t.Fatal(err)
		}
		if named.Data.Seq != 3 {
			wanted[named.Subject] = append(wanted[named.Subject], string(e.Body))
		}
	}
	await(t, "all is delivered", time.Minute, func() bool {
		got, err := ask(w, as(user), contract.GetWebhook, contract.WebhookRequest{ID: hook.ID})
		return err == nil && got.Pending == 0 && len(g.taken()) >= executions*(len(kinds)-1)
	})
	got := map[string][]string{}
	for _, r := range g.taken() {
		var named struct{ ID, Subject string }
		if err := json.Unmarshal(r.body, &named); err != nil {
			t.Fatal(err)
		}
		if r.header.Get("webhook-id") != named.ID || r.header.Get("Content-Type") != event.ContentType {
			t.Errorf("headers %v of the event %s", r.header, named.ID)
		}
		got[named.Subject] = append(got[named.Subject], string(r.body))
	}
	for execution, bodies := range wanted {
		if !slices.Equal(got[execution], bodies) {
			t.Errorf("of %s came\n%s\nwanted\n%s", execution, strings.Join(got[execution], "\n"), strings.Join(bodies, "\n"))
		}
	}
	await(t, "the other webhook has its events", time.Minute, func() bool { return len(other.taken()) == executions })
	for _, r := range other.taken() {
		var data orchestrator.ExecutionEvent
		if err := json.Unmarshal(r.body, &data); err != nil || data.Seq != 5 || r.header.Get("ce-type") != orchestrator.EventCompleted.String() ||
			r.header.Get("ce-subject") != data.ExecutionID || r.header.Get("ce-id") != r.header.Get("webhook-id") || r.header.Get("Content-Type") != "application/json" || r.header.Get("ce-n") == "" {
			t.Errorf("in binary mode %v %s", r.header, r.body)
		}
	}
	list, err := ask(w, as(user), contract.ListDeliveries, contract.ListDeliveriesRequest{WebhookID: hook.ID, Status: contract.DeliveryDelivered, Page: rpc.Page{PageSize: 100}})
	if err != nil || list.Pagination.Total != executions*(len(kinds)-1) {
		t.Fatalf("%+v, %v", list.Pagination, err)
	}
	for _, d := range list.Items {
		shown, err := ask(w, as(user), contract.GetDelivery, contract.DeliveryRequest{WebhookID: hook.ID, ID: d.ID})
		if err != nil || len(shown.Log) != shown.Attempts || shown.Log[len(shown.Log)-1].Status != http.StatusNoContent || shown.FinishedAt == nil ||
			shown.Log[0].RequestHeaders["webhook-id"] != shown.EventID || len(shown.Event) == 0 {
			t.Errorf("%+v, %v", shown, err)
		}
	}
}

func await(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestWebhooksBelongToTheirUsers(t *testing.T) {
	w := newWorld(t)
	ann, ben, admin := uuid.NewString(), uuid.NewString(), rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}
	g := newTarget(t, nil)
	hook := w.webhook(ann, g, `,"name":"of Ann"`)
	g.mu.Lock()
	g.secret = "" // it is rotated
	g.mu.Unlock()
	if hook.Secret == "" || hook.UserID != ann || !hook.Enabled || hook.Format != "structured" || hook.EventTypes == nil {
		t.Errorf("%+v", hook)
	}
	for what, try := range map[string]func(rpc.Caller) error{
		"get": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.GetWebhook, contract.WebhookRequest{ID: hook.ID})
			return err
		},
		"patch": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.PatchWebhook, contract.WebhookBodyRequest{ID: hook.ID, Body: []byte(`{"name":"x"}`)})
			return err
		},
		"rotate": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.RotateWebhook, contract.RotateWebhookRequest{ID: hook.ID})
			return err
		},
		"test": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.TestWebhook, contract.WebhookRequest{ID: hook.ID})
			return err
		},
		"replay": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.ReplayWebhook, contract.ReplayWebhookRequest{ID: hook.ID, After: new(uint64)})
			return err
		},
		"deliveries": func(c rpc.Caller) error {
			_, err := ask(w, c, contract.ListDeliveries, contract.ListDeliveriesRequest{WebhookID: hook.ID})
			return err
		},
	} {
		if err := try(as(ben)); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("%s by somebody else: %v", what, err)
		}
		if err := try(admin); err != nil {
			t.Errorf("%s by an ADMIN: %v", what, err)
		}
	}
	if _, err := ask(w, as(ben), contract.ListWebhooks, contract.ListWebhooksRequest{UserID: ann}); errs.CodeOf(err) != errs.Forbidden {
		t.Errorf("the list of another: %v", err)
	}
	for _, c := range []rpc.Caller{as(ann), admin} {
		list, err := ask(w, c, contract.ListWebhooks, contract.ListWebhooksRequest{UserID: ann, Page: rpc.Page{Search: "127.0.0.1"}})
		if err != nil || len(list.Items) != 1 || list.Items[0].ID != hook.ID {
			t.Errorf("%+v, %v", list, err)
		}
	}
	if list, err := ask(w, as(ben), contract.ListWebhooks, contract.ListWebhooksRequest{}); err != nil || len(list.Items) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := ask(w, as(ben), contract.DeleteWebhook, contract.WebhookRequest{ID: hook.ID}); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("deleted by somebody else: %v", err)
	}
	if _, err := ask(w, as(ann), contract.DeleteWebhook, contract.WebhookRequest{ID: hook.ID}); err != nil {
		t.Error(err)
	}
	for i := range contract.MaxWebhooks + 1 {
		_, err := ask(w, as(ben), contract.CreateWebhook, contract.WebhookBodyRequest{Body: []byte(`{"url":"https://example.com"}`)})
		if want := i == contract.MaxWebhooks; (errs.CodeOf(err) == errs.Conflict) != want || !want && err != nil {
			t.Fatalf("webhook %d: %v", i+1, err)
		}
	}
	var deeds []string
	if err := w.db.Select(&deeds, `SELECT body::json->>'action' FROM outbox WHERE subject = 'webhook/`+hook.ID+`' ORDER BY created_at`); err != nil {
		t.Fatal(err)
	}
	for _, action := range []audit.Action{audit.WebhookCreated, audit.WebhookUpdated, audit.WebhookRotated, audit.WebhookTested, audit.WebhookReplayed, audit.WebhookDeleted} {
		if !slices.Contains(deeds, string(action)) {
			t.Errorf("%s is not recorded among %v", action, deeds)
		}
	}
}

func TestASecretIsShownOnceAndRotated(t *testing.T) {
	w := newWorld(t)
	user := uuid.NewString()
	caller := as(user)
	caller.IdempotencyKey = "once"
	body := contract.WebhookBodyRequest{Body: []byte(`{"url":"https://example.com"}`)}
	first, err := ask(w, caller, contract.CreateWebhook, body)
	if err != nil || !strings.HasPrefix(first.Secret, "whsec_") {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := ask(w, caller, contract.CreateWebhook, body); errs.CodeOf(err) != errs.Conflict || !strings.Contains(err.Error(), first.ID) {
		t.Errorf("the same once more: %v", err)
	}
	var kept int
	if err := w.db.Get(&kept, `SELECT count(*) FROM idempotent_answers WHERE answer LIKE '%whsec%'`); err != nil || kept != 0 {
		t.Errorf("%d answers with a secret, %v", kept, err)
	}
	var both []string
	g := newTarget(t, nil)
	hook := w.webhook(user, g, ``)
	before := hook.Secret
	rotated, err := ask(w, as(user), contract.RotateWebhook, contract.RotateWebhookRequest{ID: hook.ID, OverlapMs: 3_600_000})
	if err != nil || rotated.Secret == before || rotated.PreviousSecretUntil == nil {
		t.Fatalf("%+v, %v", rotated, err)
	}
	for _, secret := range []string{before, rotated.Secret} {
		g.mu.Lock()
		g.secret = secret // either verifies what comes
		g.mu.Unlock()
		if d, err := ask(w, as(user), contract.TestWebhook, contract.WebhookRequest{ID: hook.ID}); err != nil || d.Status != contract.DeliveryDelivered {
			t.Errorf("%+v, %v", d, err)
		}
	}
	for _, r := range g.taken() {
		both = strings.Fields(r.header.Get("webhook-signature"))
	}
	if len(both) != 2 {
		t.Errorf("signatures %v", both)
	}
	for _, overlap := range []int64{-1, 7*24*3600*1000 + 1} {
		if _, err := ask(w, as(user), contract.RotateWebhook, contract.RotateWebhookRequest{ID: hook.ID, OverlapMs: overlap}); errs.CodeOf(err) != errs.Validation {
			t.Errorf("an overlap of %d: %v", overlap, err)
		}
	}
}

func TestTestShowsWhatComesOfIt(t *testing.T) {
	w := newWorld(t)
	user := uuid.NewString()
	for _, c := range []struct {
		url    func() string
		status string
		says   string
	}{
		{func() string { return newTarget(t, nil).url }, contract.DeliveryDelivered, ""},
		{func() string { return newTarget(t, func(*http.Request, int) int { return 418 }).url }, contract.DeliveryFailed, "answered 418"},
		{func() string { return newTarget(t, func(*http.Request, int) int { return 302 }).url }, contract.DeliveryFailed, "redirects are not followed"},
		{func() string { return "http://10.1.2.3/x" }, contract.DeliveryFailed, "TURBOCAT_TELEMETRY_ALLOW_ADDRESSES"},
		{func() string { return "http://127.0.0.1:1/x" }, contract.DeliveryFailed, "refused"},
	} {
		hook, err := ask(w, as(user), contract.CreateWebhook, contract.WebhookBodyRequest{Body: []byte(`{"url":"` + c.url() + `","enabled":false}`)})
		if err != nil {
			t.Fatal(err)
		}
		d, err := ask(w, as(user), contract.TestWebhook, contract.WebhookRequest{ID: hook.ID})
		if err != nil || d.Status != c.status || len(d.Log) != 1 || !strings.Contains(d.Log[0].Error, c.says) || d.EventType != "io.turbocat.webhook.test.v1" {
			t.Errorf("%s: %+v, %v", hook.URL, d, err)
		}
		if kept, err := ask(w, as(user), contract.GetDelivery, contract.DeliveryRequest{WebhookID: hook.ID, ID: d.ID}); err != nil || kept.Status != c.status || len(kept.Log) != 1 {
			t.Errorf("kept is %+v, %v", kept, err)
		}
	}
}

// TestATargetThatIsGoneIsSwitchedOff has a target say so: its user is told, nothing is sent any more, and once it is switched on what waits is sent
// in its order.
func TestATargetThatIsGoneIsSwitchedOff(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	mails := make(chan identity.NotifyUserRequest, 10)
	server := bus.NewServer(identity.Service, zerolog.Nop())
	bus.Handle(server, identity.NotifyUser, func(_ context.Context, _ rpc.Caller, req identity.NotifyUserRequest) (rpc.Empty, error) {
		mails <- req
		return rpc.Empty{}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, w.conn) }()
	defer func() {
		cancel()
		<-done
	}()
	user, gone := uuid.NewString(), true
	var mu sync.Mutex
	g := newTarget(t, func(*http.Request, int) int {
		mu.Lock()
		defer mu.Unlock()
		if gone {
			return http.StatusGone
		}
		return http.StatusOK
	})
	hook := w.webhook(user, g, ``)
	x := newID()
	for _, kind := range []event.Type[orchestrator.ExecutionEvent]{orchestrator.EventCreated, orchestrator.EventStarted, orchestrator.EventCompleted} {
		l.publish(x, l.happen(user, x, kind))
	}
	var off contract.Webhook
	eventually(t, "it is switched off", func() bool {
		var err error
		off, err = ask(w, as(user), contract.GetWebhook, contract.WebhookRequest{ID: hook.ID})
		return err == nil && !off.Enabled
	})
	if off.DisabledReason == nil || !strings.Contains(*off.DisabledReason, "410") || off.Pending == 0 {
		t.Errorf("%+v", off)
	}
	select {
	case mail := <-mails:
		if mail.UserID != user || !strings.Contains(mail.Text, hook.ID) || !strings.Contains(mail.Text, "410") {
			t.Errorf("%+v", mail)
		}
	case <-time.After(patience):
		t.Fatal("the user is not told")
	}
	var deeds int
	if err := w.db.Get(&deeds, `SELECT count(*) FROM outbox WHERE body::json->>'action' = 'webhook.disabled' AND subject = $1`, "webhook/"+hook.ID); err != nil || deeds != 1 {
		t.Errorf("%d entries, %v", deeds, err)
	}
	asked := g.requests()
	l.publish(x, l.happen(user, x, orchestrator.EventFailed))
	w.awaitFeed(user, 4)
	mu.Lock()
	gone = false
	mu.Unlock()
	if on, err := ask(w, as(user), contract.PatchWebhook, contract.WebhookBodyRequest{ID: hook.ID, Body: []byte(`{"enabled":true}`)}); err != nil || on.DisabledReason != nil || !on.Enabled {
		t.Fatalf("%+v, %v", on, err)
	}
	eventually(t, "what waited is delivered", func() bool { return len(g.taken()) == 4 })
	for i, r := range g.taken() {
		var e struct {
			Data orchestrator.ExecutionEvent `json:"data"`
		}
		if err := json.Unmarshal(r.body, &e); err != nil || e.Data.Seq != uint64(i+1) {
			t.Errorf("%d is %s, %v", i+1, r.body, err)
		}
	}
	if asked != 1 {
		t.Errorf("%d requests to a target that is gone", asked)
	}
}

// TestWhatWasSentIsSentAgain by one delivery, by cursor and by time.
func TestWhatWasSentIsSentAgain(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	user, g := uuid.NewString(), newTarget(t, nil)
	hook := w.webhook(user, g, `,"eventTypes":["io.turbocat.execution.created.v1"]`)
	began := time.Now().Add(-time.Second)
	for range 6 {
		x := newID()
		l.publish(x, l.happen(user, x, orchestrator.EventCreated), l.happen(user, x, orchestrator.EventStarted))
	}
	all := w.awaitFeed(user, 12)
	eventually(t, "they are delivered", func() bool { return len(g.taken()) == 6 })
	list, err := ask(w, as(user), contract.ListDeliveries, contract.ListDeliveriesRequest{WebhookID: hook.ID})
	if err != nil || len(list.Items) != 6 {
		t.Fatalf("%+v, %v", list, err)
	}
	again, err := ask(w, as(user), contract.ReplayDelivery, contract.DeliveryRequest{WebhookID: hook.ID, ID: list.Items[2].ID})
	if err != nil || again.ReplayOf == nil || *again.ReplayOf != list.Items[2].ID || again.EventID != list.Items[2].EventID || again.ID == list.Items[2].ID {
		t.Fatalf("%+v, %v", again, err)
	}
	eventually(t, "it is delivered again", func() bool { return len(g.taken()) == 7 })
	if id := g.taken()[6].header.Get("webhook-id"); id != again.EventID {
		t.Errorf("sent again it is the event %s", id)
	}
	// Events of several executions may be in the feed in any order.
	created, to := 0, time.Now()
	var times []time.Time
	after, until := uint64(2), all[7].Cursor
	for _, e := range all {
		if e.Type != orchestrator.EventCreated.String() {
			continue
		}
		var said struct{ Time time.Time }
		if err := json.Unmarshal(e.Body, &said); err != nil {
			t.Fatal(err)
		}
		if times = append(times, said.Time); e.Cursor > after && e.Cursor <= until {
			created++
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	delivered := 7
	replay := func(what string, req contract.ReplayWebhookRequest, want int) {
		t.Helper()
		req.ID = hook.ID
		done, err := ask(w, as(user), contract.ReplayWebhook, req)
		if err != nil || done.Deliveries != want || done.More || req.Until != nil && done.Cursor != *req.Until {
			t.Fatalf("%s: %+v, %v, want %d deliveries", what, done, err, want)
		}
		delivered += want
		eventually(t, what, func() bool { return len(g.taken()) == delivered })
	}
	replay("a part is delivered again", contract.ReplayWebhookRequest{After: &after, Until: &until}, created)
	replay("all is delivered again", contract.ReplayWebhookRequest{From: &began, To: &to}, 6)
	replay("what happened before the third", contract.ReplayWebhookRequest{From: &began, To: &times[2]}, 2)
	if _, err := ask(w, as(user), contract.ReplayWebhook, contract.ReplayWebhookRequest{ID: hook.ID}); errs.CodeOf(err) != errs.Validation {
		t.Errorf("without a beginning: %v", err)
	}
}

// TestAStopDoesNotWaitForATargetThatHangs stops a process while a target holds a request. The attempt counts for nothing, and is made again by
// another process once the lease is over.
func TestAStopDoesNotWaitForATargetThatHangs(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	user, begun, over := uuid.NewString(), make(chan struct{}, 10), make(chan struct{})
	g := newTarget(t, func(*http.Request, int) int {
		begun <- struct{}{}
		<-over
		return http.StatusOK
	})
	t.Cleanup(func() { close(over) }) // before the server is closed
	hook := w.webhook(user, g, ``)
	x := newID()
	l.publish(x, l.happen(user, x, orchestrator.EventCreated))
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("nothing is sent")
	}
	asked := time.Now()
	w.stop()
	if took := time.Since(asked); took > 10*time.Second {
		t.Errorf("it stops after %s", took)
	}
	var left struct{ Pending, Streak, Attempts int }
	if err := w.db.Get(&left, `SELECT w.pending, w.streak, d.attempts FROM webhooks w JOIN webhook_deliveries d ON d.webhook_id = w.id WHERE w.id = $1`, hook.ID); err != nil ||
		left.Pending != 1 || left.Streak != 0 || left.Attempts != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}
