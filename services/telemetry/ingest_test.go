package telemetry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	contract "turbocat.io/contracts/telemetry"
)

func outside(id string, more string) json.RawMessage {
	return json.RawMessage(`{"specversion":"1.0","id":"` + id + `","source":"/shop","type":"com.example.order.placed"` + more + `}`)
}

// TestEventsFromOutsideAreInTheFeedOnce has them sent several times at once, while the service takes its own events in, and to a webhook.
func TestEventsFromOutsideAreInTheFeedOnce(t *testing.T) {
	w := newWorld(t)
	l := newLedger(t, w.conn)
	user := uuid.NewString()
	g := newTarget(t, func(*http.Request, int) int { return http.StatusNoContent })
	w.webhook(user, g, `,"eventTypes":["com.example.*"],"format":"binary"`)
	var sending sync.WaitGroup
	var mu sync.Mutex
	accepted, repeated := 0, 0
	const events, times = 40, 4
	for range times {
		sending.Go(func() {
			for i := 0; i < events; i += 10 {
				var batch []json.RawMessage
				for n := range 10 {
					batch = append(batch, outside(fmt.Sprint("o-", i+n), `,"data":{"n":1}`))
				}
				batch = append(batch, batch[0])
				got, err := ask(w, as(user), contract.IngestEvents, contract.IngestRequest{Events: batch})
				mu.Lock()
				accepted, repeated = accepted+got.Accepted, repeated+got.Repeated
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	execution := newID()
	for range 20 {
		l.publish(execution, l.happen(user, execution, orchestrator.EventStepStarted))
	}
	sending.Wait()
	if accepted != events || repeated != times*events*11/10-events {
		t.Errorf("%d are accepted, %d repeated", accepted, repeated)
	}
	seen := map[string]int{}
	for _, e := range w.awaitFeed(user, events+20) {
		if e.Type == "com.example.order.placed" {
			var body struct{ ID, Time string }
			if err := json.Unmarshal(e.Body, &body); err != nil || body.Time == "" {
				t.Errorf("%s: %v", e.Body, err)
			}
			seen[body.ID]++
		}
	}
	if len(seen) != events {
		t.Errorf("%d different events", len(seen))
	}
	eventually(t, "all are sent", func() bool { return len(g.taken()) == events })
	ids := map[string]bool{}
	for _, r := range g.taken() {
		ids[r.header.Get("webhook-id")] = true
		if r.header.Get("ce-source") != "/shop" || string(r.body) != `{"n":1}` {
			t.Errorf("%v %s", r.header, r.body)
		}
	}
	if len(ids) != events {
		t.Errorf("%d different webhook-ids", len(ids))
	}
	other := uuid.NewString() // for whom the same event is another one
	if got, err := ask(w, as(other), contract.IngestEvents, contract.IngestRequest{Events: []json.RawMessage{outside("o-1", "")}}); err != nil || got.Accepted != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	w := newWorld(t)
	user := uuid.NewString()
	long := strings.Repeat("x", 600)
	for name, c := range map[string]struct {
		events []json.RawMessage
		want   []string
	}{
		"none":                 {nil, []string{"events out_of_range"}},
		"too many":             {slices.Repeat([]json.RawMessage{outside("1", "")}, contract.MaxIngested+1), []string{"events out_of_range"}},
		"several faults":       {[]json.RawMessage{outside("1", ""), json.RawMessage(`7`), json.RawMessage(`{"id":"1"}`), outside(long, "")}, []string{"events[1] bad_type", "events[2] bad_value", "events[3].id out_of_range"}},
		"one of ours":          {[]json.RawMessage{json.RawMessage(`{"specversion":"1.0","id":"1","source":"/s","type":"io.turbocat.execution.failed.v1"}`)}, []string{"events[0].type bad_value"}},
		"an old version":       {[]json.RawMessage{json.RawMessage(`{"specversion":"0.3","id":"1","source":"/s","type":"x"}`)}, []string{"events[0] bad_value"}},
		"a time that is none":  {[]json.RawMessage{outside("1", `,"time":"yesterday"`)}, []string{"events[0] bad_value"}},
		"a wrong attribute":    {[]json.RawMessage{outside("1", `,"Big":"x"`)}, []string{"events[0] bad_value"}},
		"a long attribute":     {[]json.RawMessage{outside("1", `,"ext":"`+long+long+`"`)}, []string{"events[0].ext out_of_range"}},
		"a line break in type": {[]json.RawMessage{json.RawMessage(`{"specversion":"1.0","id":"1","source":"/s","type":"x\ny"}`)}, []string{"events[0].type out_of_range"}},
		"too large":            {[]json.RawMessage{outside("1", `,"data":"`+strings.Repeat("x", contract.MaxIngestedEvent)+`"`)}, []string{"events[0] out_of_range"}},
		"too deep":             {[]json.RawMessage{outside("1", `,"data":`+strings.Repeat("[", 300)+strings.Repeat("]", 300))}, []string{"events[0] out_of_range"}},
	} {
		_, err := ask(w, as(user), contract.IngestEvents, contract.IngestRequest{Events: c.events})
		var e *errs.Error
		var faults []string
		if errors.As(err, &e) {
			for _, d := range e.Details {
				faults = append(faults, d.Field+" "+string(d.Code))
			}
		}
		if slices.Sort(faults); !slices.Equal(faults, c.want) {
			t.Errorf("%s: %v, %v", name, faults, err)
		}
	}
	if got := w.feed(user, contract.FeedRequest{}); len(got.Events) > 0 {
		t.Errorf("the feed has %v", got.Events)
	}
	edge := outside("1", `,"data":"`+strings.Repeat("x", contract.MaxIngestedEvent-len(outside("1", `,"data":""`)))+`"`)
	if got, err := ask(w, as(user), contract.IngestEvents, contract.IngestRequest{Events: []json.RawMessage{edge}}); err != nil || got.Accepted != 1 {
		t.Errorf("the largest: %+v, %v", got, err)
	}
}
