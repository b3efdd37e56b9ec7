package identity

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/identity/internal/postgres"
)

// TestAuditRetention has two replicas begin over a trail of which some is over by their setting.
func TestAuditRetention(t *testing.T) {
	environ, db := installation(t)
	chain, ctx := postgres.NewAudit(db), context.Background()
	var entries []audit.TrailEntry
	for range 2500 { // more than one statement deletes
		entries = append(entries, audit.TrailEntry{ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now().UTC().Truncate(time.Microsecond), Action: audit.AgentCreated, Outcome: audit.Success, ResourceType: "agent"})
	}
	if err := chain.Append(ctx, entries); err != nil {
		t.Fatal(err)
	}
	db.MustExec(`ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET stored_at = stored_at - interval '25 hours' WHERE seq <= 2400; ALTER TABLE audit_log ENABLE TRIGGER USER`)
	environ["TURBOCAT_IDENTITY_AUDIT_RETENTION"] = "24h"
	runIdentity(t, environ)
	runIdentity(t, environ)
	var left int
	for deadline := time.Now().Add(20 * time.Second); left != 101; {
		if err := db.Get(&left, `SELECT count(*) FROM audit_log`); err != nil || time.Now().After(deadline) {
			t.Fatalf("%d entries are left, %v", left, err)
		}
	}
	report, err := VerifyAudit(ctx, environ["DATABASE_URL"], "", nil)
	if err != nil || report.Break != nil || report.Trimmed != 2400 || report.Told != 2501 || report.Entries != 101 {
		t.Errorf("found %+v %+v, %v", report, report.Break, err)
	}
}

// TestAuditTrail sends entries as services do, well and badly, more than once and over the loss of the stream.
func TestAuditTrail(t *testing.T) {
	c, ctx := start(t), context.Background()
	send := func(id string, body []byte) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			err := c.Store(ctx, []bus.Message{{Subject: subject.Audit("catalog"), ID: id, Body: body}})
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	var ids []string
	for i := range 5 {
		e := audit.TrailEntry{
			ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now(), Action: audit.AgentCreated, Outcome: audit.Success, ResourceType: "agent", ResourceID: "a",
			Actor: audit.TrailActor{UserID: "u", Role: rpc.RoleUser, Via: audit.ViaSession, SessionID: "s"}, OwnerID: "v", IP: "192.0.2.1",
		}
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		send(e.ID, body)
		send(uuid.NewString(), body) // the stream does not know it for a copy
		send(uuid.NewString(), []byte(`{"id":"no","x`))
		send(uuid.NewString(), []byte(`{"id":"no"}`))
		ids = append(ids, e.ID)
		if i == 2 {
			if err := c.JetStream().DeleteStream(ctx, subject.AuditStream); err != nil {
				t.Fatal(err)
			}
			send(e.ID, body) // what was in it may be lost
			for _, id := range ids {
				e.ID = id
				again, _ := json.Marshal(e)
				send(uuid.NewString(), again)
			}
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		stored, err := bus.Call(ctx, c, audit.Stored, rpc.System(""), audit.IDs{IDs: append([]string{uuid.NewString()}, ids...)})
		if err != nil {
			t.Fatal(err)
		}
		if len(stored.IDs) == len(ids) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are stored", len(stored.IDs), len(ids))
		}
	}
	for _, tt := range []struct {
		caller rpc.Caller
		total  int
		ip     string
	}{
		{rpc.Caller{UserID: "w", Role: rpc.RoleAdmin}, 5, "192.0.2.1"},
		{rpc.Caller{UserID: "u", Role: rpc.RoleUser}, 5, "192.0.2.1"},
		{rpc.Caller{UserID: "v", Role: rpc.RoleUser}, 5, ""}, // it is not told from where others have come
		{rpc.Caller{UserID: "w", Role: rpc.RoleUser}, 0, ""},
	} {
		list, err := bus.Call(ctx, c, audit.List, tt.caller, audit.ListRequest{})
		if err != nil || list.Pagination.Total != tt.total {
			t.Fatalf("%+v: %+v, %v", tt, list, err)
		}
		for _, e := range list.Items {
			if e.IP != tt.ip || (e.Actor.SessionID == "") != (tt.ip == "") || e.Seq == 0 || e.Hash == "" {
				t.Errorf("%+v sees %+v", tt, e)
			}
		}
	}
	_, err := bus.Call(ctx, c, audit.List, rpc.Caller{}, audit.ListRequest{})
	wantCode(t, "list of nobody", err, errs.Unauthorized)
	_, err = bus.Call(ctx, c, audit.Stored, rpc.Caller{UserID: "u", Role: rpc.RoleAdmin}, audit.IDs{IDs: ids})
	wantCode(t, "stored by a user", err, errs.Forbidden)
	_, err = bus.Call(ctx, c, audit.Stored, rpc.System(""), audit.IDs{IDs: make([]string, audit.MaxIDs+1)})
	wantCode(t, "stored of too many", err, errs.Validation)
}
