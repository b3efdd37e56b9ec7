//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"turbocat.io/contracts/orchestrator"
)

// feedPage is what GET /events answers.
type feedPage struct {
	Events []json.RawMessage
	Cursor string
	More   bool
}

// poll reads all of a user's feed, some events at a time.
func (c *client) poll(t *testing.T, limit int) (events []string) {
	t.Helper()
	for after := "0"; ; {
		page := data[feedPage](t, c.do(t, "GET", fmt.Sprintf("/events?after=%s&limit=%d", after, limit), nil), 200)
		for _, e := range page.Events {
			events = append(events, string(e))
		}
		if after = page.Cursor; !page.More {
			return events
		}
	}
}

// agrees wants the feed to have the events of executions that have ended, each once and in the order in which their own streams tell them.
func (c *client) agrees(t *testing.T, ids []string) {
	t.Helper()
	want := map[string][]string{}
	for _, id := range ids {
		told, err := c.stream(t.Context(), id, "", -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range told {
			want[id] = append(want[id], e.data)
		}
	}
	eventually(t, readyWithin, func() error { // what was committed last is on its way
		got := map[string][]string{}
		for _, e := range c.poll(t, 100) {
			var said struct{ Subject string }
			if err := json.Unmarshal([]byte(e), &said); err != nil {
				return err
			}
			got[said.Subject] = append(got[said.Subject], e)
		}
		for _, id := range ids {
			if !slices.Equal(got[id], want[id]) {
				return fmt.Errorf("of %s its own stream tells %v, the feed %v", id, want[id], got[id])
			}
		}
		return nil
	})
}

// TestFeed reads the events of several executions by polling, over the stream, and over the streams of the executions: all tell the same, in the same order.
func TestFeed(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.workflow(t, []object{step("a", c.code(t, `function handler() { return 1 }`)), {"stepKey": "b", "stepType": "WAIT", "config": object{"durationMs": 50}, "dependsOn": []string{"a"}}})
	followed := make(chan []sent, 1)
	const executions, each = 5, 7 // created, started, a started and completed, b started, waits and completed; and the end
	go func() {
		got, err := c.streamAt(context.WithoutCancel(t.Context()), "/events/stream?since=0", "", executions*(each+1))
		if err != nil {
			t.Error(err)
		}
		followed <- got
	}()
	var ids []string
	for range executions {
		ids = append(ids, c.begin(t, workflow).ID)
	}
	for _, id := range ids {
		c.awaitEnd(t, id)
	}
	live := <-followed
	polled := c.poll(t, 7)
	if len(live) != executions*(each+1) || len(polled) != len(live) {
		t.Fatalf("the stream tells %d events, polling %d", len(live), len(polled))
	}
	for i, e := range live {
		if e.id != strconv.Itoa(i+1) || e.data != polled[i] {
			t.Errorf("the event %d of the stream has the id %s and is %s, polled %s", i+1, e.id, e.data, polled[i])
		}
	}
	c.agrees(t, ids)
	rest, err := c.streamAt(t.Context(), "/events/stream", live[9].id, len(live)-10)
	if err != nil || len(rest) != len(live)-10 || rest[0] != live[10] {
		t.Errorf("behind the tenth the stream tells %d events, %v", len(rest), err)
	}
	ends := data[feedPage](t, c.do(t, "GET", "/events?types="+orchestrator.EventCompleted.String(), nil), 200)
	if len(ends.Events) != executions || ends.Cursor != live[len(live)-1].id {
		t.Errorf("%d have completed, up to %s", len(ends.Events), ends.Cursor)
	}
	if other := user(t).poll(t, 100); len(other) != 0 {
		t.Errorf("somebody else is told of %d events", len(other))
	}
}
