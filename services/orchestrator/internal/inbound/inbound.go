// Package inbound starts executions because of what comes in: requests to the URLs of triggers of type WEBHOOK, and events of users' feeds that
// triggers of type EVENT want.
//
// What came in has a name that its sender gave it. That it has an execution is a row under that name, written in the transaction that accepts the
// execution; so whatever is sent again, and whatever process dies, there is one execution for it.
package inbound

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/pkg/template"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/trigger"
)

const (
	// mostPerMinute bounds what a trigger may be allowed to start.
	mostPerMinute = 60_000
	// maxTemplate bounds the template of the inputs, in bytes.
	maxTemplate = 64 << 10
	// maxName bounds the name that a sender gives a delivery, in bytes; a longer one is known by its hash.
	maxName = 500
	// maxReason bounds what is told of why something has no execution, in bytes.
	maxReason = 1000
)

// Delivery is what came in for a trigger and what has become of it.
type Delivery struct {
	ID, TriggerID string
	Name          string // that its sender gave it
	Status        string
	ExecutionID   string // "" for none
	Reason        string
	ReceivedAt    time.Time
}

// DeliveryStore keeps deliveries. One that is ACCEPTED stays so.
type DeliveryStore interface {
	// Delivered gives the execution of a delivery; "" when it has none.
	Delivered(ctx context.Context, triggerID, name string) (executionID string, err error)
	// StartedSince counts executions that a trigger has started within a time, at most so many.
	StartedSince(ctx context.Context, triggerID string, within time.Duration, most int64) (int64, error)
	// Record keeps what has become of a delivery that has no execution.
	Record(ctx context.Context, d Delivery) error
}

// readPerMinute reads how many executions a trigger may start in a minute.
func readPerMinute(o form.Object, dst *int64, otherwise int64) {
	o.Int("maxPerMinute", dst, otherwise, 1, mostPerMinute)
}

// readInputs reads a template of inputs: an object, or a text that one template makes an object of. fault tells what is wrong with a root of it.
func readInputs(o form.Object, dst *[]byte, otherwise string, fault func(root string) string, faults *form.Faults) {
	inputs := json.RawMessage(*dst)
	o.Any("inputs", &inputs, json.RawMessage(otherwise))
	*dst = inputs
	switch trimmed := bytes.TrimSpace(inputs); {
	case len(trimmed) > maxTemplate:
		faults.Add("inputs", errs.OutOfRange, "have %d bytes; give at most %d", len(trimmed), maxTemplate)
		return
	case len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '"':
		faults.Add("inputs", errs.BadType, "are neither an object nor a template; give an object, or a text like %s", otherwise)
		return
	}
	parsed, problems := template.Parse(inputs)
	for _, p := range problems {
		faults.Add(strings.TrimSuffix("inputs."+p.Field, "."), errs.BadExpression, "%s", p.Message)
	}
	if parsed == nil {
		return
	}
	for _, r := range parsed.References() {
		if text := fault(r.Path.Root()); text != "" {
			faults.Add(strings.TrimSuffix("inputs."+r.Field, "."), errs.NotApplicable, "%s", text)
		}
	}
}

// render makes the inputs of an execution. What is not there is null.
func render(inputs []byte, lookup template.Lookup) ([]byte, error) {
	parsed, _ := template.Parse(inputs)
	if parsed == nil {
		return nil, errs.New(errs.Validation, "the inputs of the trigger are no JSON; save them anew")
	}
	out, _, err := parsed.RenderWithin(orchestrator.MaxHookBody, func(p template.Path) (json.RawMessage, bool) {
		if value, found := lookup(p); found {
			return value, true
		}
		return json.RawMessage("null"), true
	})
	if err != nil {
		return nil, errs.New(errs.PayloadTooLarge, "the inputs that the trigger makes of it have more than %d bytes; take fewer fields", orchestrator.MaxHookBody)
	}
	if trimmed := bytes.TrimSpace(out); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, errs.New(errs.Validation, `what the trigger's inputs make of it is no object; give inputs like {"value": %s}`, bytes.TrimSpace(inputs))
	}
	return out, nil
}

// causation is what tells how many executions stand before an event: of Turbocat's own its data, of others an attribute.
type causation struct {
	Type  string          `json:"type"`
	Depth json.RawMessage `json:"causationdepth"`
	Data  json.RawMessage `json:"data"`
}

// depthAfter gives the depth of an execution that an event starts; 0 when it does not tell of any before.
func depthAfter(body []byte) int {
	var c causation
	if json.Unmarshal(body, &c) != nil {
		return 0
	}
	if event.Ours(c.Type) {
		var data struct {
			Depth int `json:"depth"`
		}
		_ = json.Unmarshal(c.Data, &data) // what does not tell is the first
		return max(data.Depth, 0) + 1
	}
	if len(c.Depth) == 0 {
		return 0
	}
	before, err := strconv.Atoi(strings.Trim(string(c.Depth), `"`))
	if err != nil {
		return 0
	}
	return min(max(before, 0), catalog.MaxDepth) + 1
}

// tooDeep refuses what would go on for ever; nil when it does not.
func tooDeep(depth int) error {
	if depth <= catalog.MaxDepth {
		return nil
	}
	return errs.New(errs.Conflict, "%d executions stand before it, each of which made the next one begin, and that is the most: it goes in a circle; have the filter leave out what the workflow itself brings about", catalog.MaxDepth)
}

// start accepts the execution of a delivery, for which there is room. A refusal that stands as things are is recorded.
func start(ctx context.Context, acceptor *execution.Acceptor, store DeliveryStore, b *trigger.Base, triggerType, name string, inputs []byte, depth int) (execution.Outcome, error) {
	outcome := execution.Outcome{}
	err := tooDeep(depth)
	if err == nil {
		caller := rpc.CallerOf(ctx)
		outcome, err = acceptor.Receive(ctx, rpc.Caller{
			UserID: b.UserID, Role: rpc.RoleUser, RequestID: requestID(caller), Traceparent: caller.Traceparent,
		}, b.WorkflowID, inputs, b.Priority, execution.Received{TriggerID: b.ID, TriggerType: triggerType, Name: name, Depth: depth})
	}
	if err != nil && execution.Refused(err) {
		if unrecorded := record(ctx, store, b.ID, name, orchestrator.ReceivedRefused, execution.ReasonOf(err)); unrecorded != nil {
			return outcome, unrecorded
		}
	}
	return outcome, err
}

func requestID(caller rpc.Caller) string {
	if caller.RequestID != "" {
		return caller.RequestID
	}
	return uuid.Must(uuid.NewV7()).String()
}

func record(ctx context.Context, store DeliveryStore, triggerID, name, status, reason string) error {
	return store.Record(ctx, Delivery{ID: uuid.Must(uuid.NewV7()).String(), TriggerID: triggerID, Name: name, Status: status, Reason: clip(reason)})
}

func clip(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// named gives a delivery's name as it is kept.
func named(name string) string {
	if len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// checkJSON refuses JSON that parsers further in would.
func checkJSON(body []byte) error {
	if !json.Valid(body) {
		return fmt.Errorf("is not valid JSON")
	}
	if rawjson.Depth(body) > form.MaxDepth {
		return fmt.Errorf("nests deeper than %d levels", form.MaxDepth)
	}
	return nil
}
