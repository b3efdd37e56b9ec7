package httpapi_test

import (
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// receiveHook gives the receipt that the test wants; of another trigger there is none.
func (w *world) receiveHook(c rpc.Caller, r orchestrator.HookRequest) (orchestrator.HookReceipt, error) {
	if r.ID != thingID || c.UserID != "" {
		return orchestrator.HookReceipt{}, errs.New(errs.NotFound, "trigger not found")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooked = r
	return w.receipt, nil
}

func TestHooks(t *testing.T) {
	w := start(t, setup{})
	path := "/hooks/" + thingID
	send := func(receipt orchestrator.HookReceipt, query string, header map[string]string, body string) response {
		t.Helper()
		w.mu.Lock()
		w.receipt = receipt
		w.mu.Unlock()
		return w.do(request{method: "POST", path: path + query, header: header, body: body})
	}
	accepted := orchestrator.HookReceipt{DeliveryID: "d", Status: "ACCEPTED", ExecutionID: thingID, UserID: alice.UserID}
	got := send(accepted, "?a=1&b=2", map[string]string{"Content-Type": "application/x-www-form-urlencoded", "X-GitHub-Event": "push"}, "x=1&y=%20")
	if got.status != 202 || !strings.Contains(got.text, `"executionId":"`+thingID+`"`) || strings.Contains(got.text, alice.UserID) {
		t.Errorf("%d %s", got.status, got.text)
	}
	w.mu.Lock()
	heard := w.hooked
	w.mu.Unlock()
	if string(heard.Body) != "x=1&y=%20" || heard.Headers["x-github-event"] != "push" || heard.Query["a"] != "1" || heard.Query["b"] != "2" {
		t.Errorf("the service gets %+v", heard)
	}
	for _, c := range []struct {
		receipt orchestrator.HookReceipt
		query   string
		body    string
		status  int
		holds   string
	}{
		{orchestrator.HookReceipt{DeliveryID: "d", Status: "ACCEPTED", ExecutionID: thingID, Repeated: true}, "", "{}", 200, `"repeated":true`},
		{orchestrator.HookReceipt{DeliveryID: "d", Status: "FILTERED"}, "", "", 200, `"status":"FILTERED"`},
		{orchestrator.HookReceipt{Challenge: "3eZbrw1aB"}, "", "{}", 200, "3eZbrw1aB"},
		{accepted, "?wait=0s", "{}", 400, `"field":"wait"`},
		{accepted, "", strings.Repeat("x", orchestrator.MaxHookBody), 202, "ACCEPTED"},
		{accepted, "", strings.Repeat("x", orchestrator.MaxHookBody+1), 413, "1 MiB"},
	} {
		if got := send(c.receipt, c.query, nil, c.body); got.status != c.status || !strings.Contains(got.text, c.holds) {
			t.Errorf("%+v %s: %d %.300s", c.receipt, c.query, got.status, got.text)
		}
	}
	if got := send(accepted, "", map[string]string{"Content-Encoding": "gzip"}, "x"); got.status != 415 {
		t.Errorf("compressed: %d %s", got.status, got.text)
	}
	if got := w.do(request{method: "POST", path: "/hooks/x"}); got.status != 404 {
		t.Errorf("of no trigger: %d %s", got.status, got.text)
	}
}

// TestEventsComeIn sends events in the three modes of CloudEvents over HTTP.
func TestEventsComeIn(t *testing.T) {
	w := start(t, setup{})
	event := `{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","data":{"total":12}}`
	headers := func(pairs ...string) map[string]string {
		all := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		return all
	}
	attributes := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/shop", "Ce-Type", "order.placed"}
	for name, c := range map[string]struct {
		header map[string]string
		body   string
		status int
		holds  string // of the answer
		told   string // the events that the service gets
	}{
		"structured":               {headers("Content-Type", "application/cloudevents+json; charset=utf-8"), event, 202, `"accepted":1`, event},
		"structured, said as JSON": {headers("Content-Type", "application/json"), event, 202, `"accepted":1`, event},
		"batch":                    {headers("Content-Type", "application/cloudevents-batch+json"), "[" + event + "," + event + "]", 202, `"accepted":2`, event + event},
		"binary":                   {headers(append(attributes, "Content-Type", "application/json")...), `{"total":12}`, 202, `"accepted":1`, `{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","datacontenttype":"application/json","data":{"total":12}}`},
		"binary text":              {headers(append(attributes, "Content-Type", "text/plain")...), "hello", 202, `"accepted":1`, `{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","datacontenttype":"text/plain","data":"hello"}`},
		"binary without data":      {headers(attributes...), "", 202, `"accepted":1`, `{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed"}`},
		"binary, no JSON":          {headers(append(attributes, "Content-Type", "application/json")...), `{"total"`, 400, "is not valid JSON", ""},
		"no JSON":                  {headers("Content-Type", "application/cloudevents+json"), "{", 400, "not valid JSON", ""},
		"nothing":                  {headers("Content-Type", "application/cloudevents+json"), "", 400, "not valid JSON", ""},
		"no batch":                 {headers("Content-Type", "application/cloudevents-batch+json"), "{}", 400, "no JSON array", ""},
		"another type":             {headers("Content-Type", "text/plain"), event, 415, "ce- headers", ""},
		"too much":                 {headers("Content-Type", "application/json"), `"` + strings.Repeat("x", 1<<20) + `"`, 413, "1 MiB", ""},
	} {
		w.mu.Lock()
		w.ingested = nil
		w.mu.Unlock()
		got := w.do(request{method: "POST", path: "/api/v1/events", token: aliceToken, header: c.header, body: c.body})
		w.mu.Lock()
		told := ""
		for _, e := range w.ingested {
			told += string(e)
		}
		w.mu.Unlock()
		if got.status != c.status || !strings.Contains(got.text, c.holds) || told != c.told {
			t.Errorf("%s: %d %.300s\n%s", name, got.status, got.text, told)
		}
	}
	if got := w.do(request{method: "POST", path: "/api/v1/events", body: event}); got.status != 401 {
		t.Errorf("without a token: %d %s", got.status, got.text)
	}
}
