package orchestrator_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

// push is a request that GitHub would send.
func push(hook contract.IssuedTrigger, id, body string) contract.HookRequest {
	mac := hmac.New(sha256.New, []byte(hook.Secret))
	mac.Write([]byte(body))
	return contract.HookRequest{ID: hook.ID, Body: []byte(body), Headers: map[string]string{
		"content-type": "application/json", "x-hub-signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)), "x-github-delivery": id, "x-github-event": "push",
	}}
}

func (in *installation) receive(r contract.HookRequest) (contract.HookReceipt, error) {
	return bus.Call(context.Background(), in.conn, contract.ReceiveHook, rpc.Caller{RequestID: "r"}, r)
}

func (in *installation) inbound(workflow, body string) contract.IssuedTrigger {
	in.t.Helper()
	t, err := bus.Call(in.t.Context(), in.conn, contract.CreateTrigger, in.owner, contract.NewTriggerRequest{WorkflowID: workflow, Body: json.RawMessage(body)})
	if err != nil {
		in.t.Fatalf("%s: %v", body, err)
	}
	return t
}

// startedBy counts the executions of a trigger.
func (in *installation) startedBy(trigger string) int {
	in.t.Helper()
	list, err := bus.Call(in.t.Context(), in.conn, contract.ListExecution, in.owner, contract.ListRequest{TriggerID: trigger})
	if err != nil {
		in.t.Fatal(err)
	}
	return list.Pagination.Total
}

// TestADeliveryHasOneExecution sends a delivery again: at once, after a refusal, and when the service has begun anew.
func TestADeliveryHasOneExecution(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	stop := in.start()
	workflow := in.workflow(waitStep("w", `{"signal":"go"}`))
	hook := in.inbound(workflow, `{"name":"h","type":"WEBHOOK","preset":"GITHUB","maxPerMinute":3}`)
	var sending sync.WaitGroup
	receipts := [8]contract.HookReceipt{}
	for i := range receipts {
		sending.Go(func() {
			var err error
			if receipts[i], err = in.receive(push(hook, "one", `{"n":1}`)); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	fresh := 0
	for _, r := range receipts {
		if !r.Repeated {
			fresh++
		}
		if r.ExecutionID == "" || r.ExecutionID != receipts[0].ExecutionID {
			t.Errorf("%+v and %+v", r, receipts[0])
		}
	}
	if fresh != 1 || in.startedBy(hook.ID) != 1 {
		t.Errorf("%d are told to be the first, %d executions", fresh, in.startedBy(hook.ID))
	}
	if _, err := in.receive(push(hook, "two", `[1]`)); errs.CodeOf(err) != errs.Validation || !strings.Contains(err.Error(), "no object") {
		t.Errorf("what makes no inputs: %v", err)
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.PatchTrigger, in.owner, contract.PatchTriggerRequest{WorkflowID: workflow, ID: hook.ID, Body: json.RawMessage(`{"inputs":{"list":"{{body}}"}}`)}); err != nil {
		t.Fatal(err)
	}
	stop()
	in.start()
	if r, err := in.receive(push(hook, "one", `{"n":1}`)); err != nil || !r.Repeated || r.ExecutionID != receipts[0].ExecutionID {
		t.Errorf("after a restart: %+v, %v", r, err)
	}
	if r, err := in.receive(push(hook, "two", `[1]`)); err != nil || r.Repeated {
		t.Errorf("refused before: %+v, %v", r, err)
	}
	if _, err := in.receive(push(hook, "three", `[1]`)); err != nil {
		t.Error(err)
	}
	if _, err := in.receive(push(hook, "four", `[1]`)); errs.CodeOf(err) != errs.RateLimited {
		t.Errorf("beyond maxPerMinute: %v", err)
	}
	forged := push(hook, "five", `[1]`)
	forged.Body = []byte(`[2]`)
	if _, err := in.receive(forged); errs.CodeOf(err) != errs.Unauthorized {
		t.Errorf("forged: %v", err)
	}
	if _, err := in.receive(contract.HookRequest{ID: workflow}); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("of no trigger: %v", err)
	}
	list, err := bus.Call(t.Context(), in.conn, contract.ListTriggerDeliveries, in.owner, contract.ListTriggerDeliveriesRequest{WorkflowID: workflow, ID: hook.ID})
	if err != nil || len(list.Items) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
}

// feeds answers for telemetry with a feed to which a test adds.
type feeds struct {
	mu     sync.Mutex
	events []telemetry.FeedEvent
}

func (f *feeds) read(_ context.Context, _ rpc.Caller, req telemetry.FeedRequest) (telemetry.FeedResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := uint64(len(f.events))
	out := telemetry.FeedResponse{Events: []telemetry.FeedEvent{}, Cursor: end}
	if !req.Latest {
		upTo := min(req.After+30, end)
		out.Events, out.Cursor, out.More = f.events[req.After:upTo], upTo, upTo < end
	}
	return out, nil
}

func (f *feeds) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		i := len(f.events) + 1
		f.events = append(f.events, telemetry.FeedEvent{Cursor: uint64(i), Type: "x", Body: fmt.Appendf(nil, `{"specversion":"1.0","id":"%d","source":"/s","type":"x","data":{"n":%d}}`, i, i)})
	}
}

// TestAnEventHasOneExecution has orchestrators come and go while a trigger works through a feed.
func TestAnEventHasOneExecution(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	f := &feeds{}
	server := bus.NewServer(telemetry.Service, zerolog.Nop())
	bus.Handle(server, telemetry.ReadFeed, f.read)
	bustest.Serve(t, in.conn, server)
	stop := in.start()
	workflow := in.workflow(waitStep("w", `{"signal":"go"}`))
	f.add(7) // before the trigger is there
	listener := in.inbound(workflow, `{"name":"e","type":"EVENT","eventTypes":["x"],"filter":"data.n % 2 == 0","maxPerMinute":60000}`)
	slow := in.inbound(workflow, `{"name":"s","type":"EVENT","eventTypes":["x"],"maxPerMinute":4}`)
	const events = 400
	f.add(events)
	for range 3 {
		before := in.startedBy(listener.ID)
		in.eventually(time.Minute, "the trigger starts more", func() bool { return in.startedBy(listener.ID) >= min(before+20, events/2) })
		stop()
		stop = in.start()
	}
	in.eventually(time.Minute, "all that is wanted has an execution", func() bool { return in.startedBy(listener.ID) >= events/2 })
	in.eventually(time.Minute, "the slow trigger says why it waits", func() bool {
		got, err := bus.Call(t.Context(), in.conn, contract.GetTrigger, in.owner, contract.TriggerRequest{WorkflowID: workflow, ID: slow.ID})
		return err == nil && strings.Contains(got.LastError, "maxPerMinute")
	})
	if n := in.startedBy(listener.ID); n != events/2 {
		t.Errorf("%d executions, want %d", n, events/2)
	}
	if n := in.startedBy(slow.ID); n != 4 {
		t.Errorf("%d executions within a minute, want 4", n)
	}
}
