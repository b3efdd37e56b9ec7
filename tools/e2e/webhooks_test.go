//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/telemetry"
)

// TestWebhooksTellWhatStreamsTell has events sent to a target that refuses each first, and compares what it takes with the feed: the same
// events to the byte, those of an execution in the same order.
func TestWebhooksTellWhatStreamsTell(t *testing.T) {
	t.Parallel()
	c := user(t)
	var mu sync.Mutex
	var secret string
	refused, told := map[string]bool{}, map[string][]string{}
	taken := 0
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		if err != nil {
			t.Errorf("a request is not signed: %v", err)
		}
		var e struct{ ID, Type, Subject string }
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if e.Type == orchestrator.EventStarted.String() && !refused[e.ID] {
			refused[e.ID] = true
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		told[e.Subject] = append(told[e.Subject], string(body))
		taken++
	}))
	t.Cleanup(target.Close)
	hook := data[telemetry.IssuedWebhook](t, c.do(t, "POST", "/webhooks", object{"url": target.URL, "filter": `type startsWith "io.turbocat.execution."`}), 201)
	mu.Lock()
	secret = hook.Secret
	mu.Unlock()
	workflow := c.workflow(t, []object{step("a", c.code(t, `function handler() { return 1 }`)), {"stepKey": "b", "stepType": "WAIT", "config": object{"durationMs": 50}, "dependsOn": []string{"a"}}})
	var ids []string
	for range 3 {
		ids = append(ids, c.begin(t, workflow).ID)
	}
	for _, id := range ids {
		c.awaitEnd(t, id)
	}
	eventually(t, readyWithin, func() error {
		got := data[telemetry.Webhook](t, c.do(t, "GET", "/webhooks/"+hook.ID, nil), 200)
		mu.Lock()
		defer mu.Unlock()
		if got.Pending > 0 || taken < 3*8 {
			return fmt.Errorf("%d events are taken, and %+v", taken, got)
		}
		return nil
	})
	want := map[string][]string{}
	for _, e := range c.poll(t, 100) {
		var said struct{ Subject string }
		if err := json.Unmarshal([]byte(e), &said); err != nil {
			t.Fatal(err)
		}
		want[said.Subject] = append(want[said.Subject], e)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids {
		if !slices.Equal(told[id], want[id]) {
			t.Errorf("of %s the webhook tells %v, the feed %v", id, told[id], want[id])
		}
	}
	deliveries, _ := page[telemetry.Delivery](t, c.do(t, "GET", "/webhooks/"+hook.ID+"/deliveries?pageSize=100&status=DELIVERED", nil))
	if len(deliveries) != 3*8 {
		t.Errorf("%d deliveries", len(deliveries))
	}
}
