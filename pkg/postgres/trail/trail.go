// Package trail records for the audit trail what a service changes, in the transaction of the change, and has it carried to
// identity. What was committed is recorded, and nothing else is.
package trail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/outbox"
)

// Deed is what was done. Who did it is the caller of the context: see rpc.CallerOf.
type Deed struct {
	Action     audit.Action
	ResourceID string
	OwnerID    string            // "" when it is nobody's
	Before     any               // the thing as JSON shows it; nil when it was not there
	After      any               // nil when it is not there any more
	Refused    bool              // it was tried and refused
	Actor      *audit.TrailActor // instead of the caller, for those that become known only by what they do; nil for the caller
}

// maxText bounds what is kept of texts that clients choose, in bytes.
const maxText = 512

// Record writes deeds into the outbox of tx's schema.
func Record(ctx context.Context, tx outbox.Execer, deeds ...Deed) error {
	caller := rpc.CallerOf(ctx)
	now := time.Now().UTC().Truncate(time.Microsecond)
	messages := make([]outbox.Message, len(deeds))
	for i, d := range deeds {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		changes, err := Diff(d.Before, d.After)
		if err != nil {
			return fmt.Errorf("what %s changes: %w", d.Action, err)
		}
		resource := d.Action.Resource()
		e := audit.TrailEntry{
			ID: id.String(), Time: now, Actor: actorOf(caller), Action: d.Action, Outcome: audit.Success, ResourceType: resource,
			ResourceID: text(d.ResourceID), OwnerID: d.OwnerID, Changes: changes,
			IP: text(caller.IP), UserAgent: text(caller.UserAgent), RequestID: text(caller.RequestID),
		}
		if d.Actor != nil {
			e.Actor = *d.Actor
		}
		if d.Refused {
			e.Outcome = audit.Failure
		}
		body, err := encode(e)
		if err != nil {
			return err
		}
		messages[i] = outbox.Message{ID: e.ID, Type: audit.TypeRecorded, Subject: resource + "/" + e.ResourceID, RequestID: e.RequestID, Body: body}
	}
	return outbox.Enqueue(ctx, tx, messages...)
}

// actorOf says who a caller is.
func actorOf(c rpc.Caller) audit.TrailActor {
	a := audit.TrailActor{UserID: c.UserID, Role: c.Role, SessionID: c.SessionID, APIKeyID: c.APIKeyID}
	switch {
	case c.APIKeyID != "":
		a.Via = audit.ViaAPIKey
	case c.SessionID != "":
		a.Via = audit.ViaSession
	case c.UserID == "" && !c.IsAdmin():
		a.Via, a.Role = audit.ViaAnonymous, ""
	default:
		a.Via = audit.ViaSystem
	}
	return a
}

// text gives what a text column takes of s.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "")
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// Route carries what a service has recorded to identity.
func Route(conn *bus.Conn, service string) outbox.Route {
	return outbox.Route{
		Type: audit.TypeRecorded, Subject: subject.Audit(service),
		Committed: func(ctx context.Context, entries []outbox.Message) ([]string, error) {
			ids := make([]string, len(entries))
			for i, e := range entries {
				ids[i] = e.ID
			}
			found, err := bus.Call(ctx, conn, audit.Stored, rpc.System(""), audit.IDs{IDs: ids})
			return found.IDs, err
		},
	}
}
