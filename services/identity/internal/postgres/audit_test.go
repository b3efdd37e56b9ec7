package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	contract "turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/identity/internal/audit"
	"turbocat.io/services/identity/internal/postgres"
)

func entry(t *testing.T, action contract.Action, change func(*contract.TrailEntry)) contract.TrailEntry {
	t.Helper()
	e := contract.TrailEntry{
		ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now(), Action: action, Outcome: contract.Success, ResourceType: "agent", ResourceID: "r",
		Actor: contract.TrailActor{UserID: "u", Role: "USER", Via: contract.ViaSession}, OwnerID: "u",
		Changes:   []contract.TrailChange{{Path: "a.<b>", Before: json.RawMessage(`{"x":1.50}`), After: json.RawMessage("\"\u2028\"")}},
		UserAgent: "a\x00b\xff", IP: "192.0.2.1",
	}
	if change != nil {
		change(&e)
	}
	e, err := audit.Clean(e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// chain gives a trail of n entries in a database of its own.
func chain(t *testing.T, n int) (*sqlx.DB, *postgres.Audit) {
	t.Helper()
	db := pgtest.New(t, "identity", migrations.Of("identity"))
	s := postgres.NewAudit(db)
	for i := range n {
		if err := s.Append(t.Context(), []contract.TrailEntry{entry(t, contract.AgentUpdated, func(e *contract.TrailEntry) { e.ResourceID = fmt.Sprint(i + 1) })}); err != nil {
			t.Fatal(err)
		}
	}
	return db, s
}

func verify(t *testing.T, s *postgres.Audit, anchor audit.Head) audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), s, anchor, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendIsSafeToRepeatAndOneAtATime(t *testing.T) {
	t.Parallel()
	_, s := chain(t, 0)
	var all []contract.TrailEntry
	for range 40 {
		all = append(all, entry(t, contract.AgentCreated, nil))
	}
	var working sync.WaitGroup
	for i := range 8 { // each entry comes from several, in batches that overlap
		working.Go(func() {
			for j := i; j < len(all); j += 3 {
				if err := s.Append(context.Background(), append(slices.Clone(all[j:min(j+7, len(all))]), all[j])); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 40 || r.Seq != 40 {
		t.Errorf("got %+v %+v", r, r.Break)
	}
	ids := []string{uuid.NewString(), "x"}
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	if stored, err := s.Stored(t.Context(), ids); err != nil || len(stored) != 40 {
		t.Errorf("%d are stored, %v", len(stored), err)
	}
}

func TestTheTrailIsNeverChanged(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 2)
	for _, statement := range []string{
		`UPDATE audit_log SET action = 'x' WHERE seq = 1`, `DELETE FROM audit_log WHERE seq = 2`, `DELETE FROM audit_log`, `TRUNCATE audit_log`, `DELETE FROM audit_head`,
		`DELETE FROM audit_start`, `TRUNCATE audit_start`, `UPDATE audit_start SET seq = 1, hash = (SELECT hash FROM audit_log WHERE seq = 1), told = 2`,
	} {
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "the audit trail is never changed") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil || r.Entries != 2 {
		t.Errorf("got %+v", r)
	}
}

// TestTampering does to a trail what somebody could who owns the database, and wants each to be found where it is.
func TestTampering(t *testing.T) {
	t.Parallel()
	const n = 12
	columns := `id, "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id`
	tests := []struct {
		name, do, kind string
		seq            int64
	}{
		{"not touched", ``, "", 0},
		{"removed", `DELETE FROM audit_log WHERE seq = 5`, audit.Missing, 5},
		{"removed and closed up", `DELETE FROM audit_log WHERE seq = 5; UPDATE audit_log SET seq = seq - 1 WHERE seq = 6; UPDATE audit_log SET seq = seq - 1 WHERE seq = 7`, audit.Changed, 5},
		{"the first removed", `DELETE FROM audit_log WHERE seq = 1`, audit.Missing, 1},
		{"swapped", `UPDATE audit_log SET seq = -1 WHERE seq = 3; UPDATE audit_log SET seq = 3 WHERE seq = 7; UPDATE audit_log SET seq = 7 WHERE seq = -1`, audit.Changed, 3},
		{"swapped but for the hashes", `CREATE TEMP TABLE k AS SELECT * FROM audit_log WHERE seq IN (3, 4); UPDATE audit_log SET id = gen_random_uuid() WHERE seq IN (3, 4);
			UPDATE audit_log l SET (` + columns + `) = (SELECT ` + columns + ` FROM k WHERE k.seq = 7 - l.seq) WHERE seq IN (3, 4)`, audit.Changed, 3},
		{"inserted at the end", `INSERT INTO audit_log SELECT 13, gen_random_uuid(), "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash FROM audit_log WHERE seq = 12`, audit.Unknown, 13},
		{"inserted and the head moved", `INSERT INTO audit_log SELECT 13, gen_random_uuid(), "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash FROM audit_log WHERE seq = 12; UPDATE audit_head SET seq = 13`, audit.Changed, 13},
		{"inserted in the midst", `UPDATE audit_log SET seq = -seq WHERE seq > 6; UPDATE audit_log SET seq = 1 - seq WHERE seq < 0; UPDATE audit_head SET seq = 13;
			INSERT INTO audit_log SELECT 7, gen_random_uuid(), "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash FROM audit_log WHERE seq = 6`, audit.Changed, 7},
		{"truncated", `DELETE FROM audit_log WHERE seq > 9`, audit.Truncated, 10},
		{"truncated and grown again behind it", `DELETE FROM audit_log WHERE seq > 9; INSERT INTO audit_log SELECT 13, gen_random_uuid(), "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash FROM audit_log WHERE seq = 9`, audit.Missing, 10},
		{"all gone", `DELETE FROM audit_log`, audit.Truncated, 1},
		{"its hash changed", `UPDATE audit_log SET hash = decode(repeat('ab', 32), 'hex') WHERE seq = 8`, audit.Changed, 8},
		{"its hash cut", `UPDATE audit_log SET hash = '' WHERE seq = 8`, audit.Changed, 8},
		{"the head's hash changed", `UPDATE audit_head SET hash = decode(repeat('ab', 32), 'hex')`, audit.Changed, 12},
	}
	for column, value := range map[string]string{
		"id": "gen_random_uuid()", `"time"`: `"time" + interval '1 microsecond'`, "actor_id": "'v'", "actor_role": "'ADMIN'", "via": "'system'", "session_id": "'s'", "api_key_id": "'k'",
		"action": "'agent.deleted'", "outcome": "'FAILURE'", "resource_type": "'workflow'", "resource_id": "'s'", "owner_id": "''", "changes": "'[]'", "ip": "'192.0.2.2'", "user_agent": "'c'", "request_id": "'q'",
	} {
		tests = append(tests, struct {
			name, do, kind string
			seq            int64
		}{"changed " + column, `UPDATE audit_log SET ` + column + ` = ` + value + ` WHERE seq = 4`, audit.Changed, 4})
	}
	tests = append(tests, tests[0])
	tests[len(tests)-1].name, tests[len(tests)-1].do, tests[len(tests)-1].kind, tests[len(tests)-1].seq = "changes are no JSON", `UPDATE audit_log SET changes = 'x' WHERE seq = 4`, audit.Changed, 4
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, s := chain(t, n)
			db.SetMaxOpenConns(1)
			if _, err := db.Exec(`ALTER TABLE audit_log DISABLE TRIGGER USER; ` + tt.do); err != nil { // no trigger holds who may do that
				t.Fatal(err)
			}
			r := verify(t, s, audit.Head{})
			switch {
			case tt.kind == "":
				if r.Break != nil || r.Entries != n {
					t.Errorf("got %+v %+v", r, r.Break)
				}
			case r.Break == nil || r.Break.Kind != tt.kind || r.Break.Seq != tt.seq || r.Break.Meaning == "":
				t.Errorf("got %+v %+v", r, r.Break)
			}
		})
	}
}

// TestAnchor finds by a head that was kept elsewhere what a chain does not show by itself: that it was made anew.
func TestAnchor(t *testing.T) {
	t.Parallel()
	db, s := chain(t, 6)
	db.SetMaxOpenConns(1)
	first := verify(t, s, audit.Head{})
	hash, err := audit.ParseHash(first.Hash)
	if err != nil {
		t.Fatal(err)
	}
	anchor := audit.Head{Seq: first.Seq, Hash: hash}
	if err := s.Append(t.Context(), []contract.TrailEntry{entry(t, contract.AgentDeleted, nil)}); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s, anchor); r.Break != nil || r.Entries != 1 || r.From != 7 || r.Seq != 7 {
		t.Errorf("got %+v", r)
	}
	if _, err := db.Exec(`ALTER TABLE audit_log DISABLE TRIGGER USER; DELETE FROM audit_log WHERE seq > 4; UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit_log WHERE seq = 4)`); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, s, audit.Head{}); r.Break != nil {
		t.Errorf("without an anchor it can not be seen: %+v", r)
	}
	if r := verify(t, s, anchor); r.Break == nil || r.Break.Kind != audit.Anchor {
		t.Errorf("got %+v", r)
	}
	for range 5 { // grown again
		if err := s.Append(t.Context(), []contract.TrailEntry{entry(t, contract.AgentDeleted, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	if r := verify(t, s, anchor); r.Break == nil || r.Break.Kind != audit.Anchor {
		t.Errorf("got %+v", r)
	}
}

func TestListAudit(t *testing.T) {
	t.Parallel()
	_, s := chain(t, 0)
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	var all []contract.TrailEntry
	for i := range 30 {
		all = append(all, entry(t, contract.AgentUpdated, func(e *contract.TrailEntry) {
			e.Time, e.ResourceID = at.Add(time.Duration(i)*time.Second), fmt.Sprint("r", i)
			switch i % 3 {
			case 1: // what u has done to another's
				e.OwnerID, e.Action, e.ResourceType = "v", contract.WorkflowDeleted, "workflow"
			case 2: // what another has done to u's
				e.Actor.UserID, e.Outcome = "w", contract.Failure
			}
		}))
	}
	if err := s.Append(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	from, to := at.Add(10*time.Second), at.Add(20*time.Second)
	for _, tt := range []struct {
		user string
		req  contract.ListRequest
		want int
	}{
		{"", contract.ListRequest{}, 30},
		{"u", contract.ListRequest{}, 30},
		{"v", contract.ListRequest{}, 10},
		{"w", contract.ListRequest{}, 10},
		{"x", contract.ListRequest{}, 0},
		{"", contract.ListRequest{ActorID: "w"}, 10},
		{"u", contract.ListRequest{Action: "workflow.deleted"}, 10},
		{"", contract.ListRequest{ResourceType: "workflow"}, 10},
		{"", contract.ListRequest{ResourceID: "r7"}, 1},
		{"", contract.ListRequest{Outcome: contract.Failure}, 10},
		{"u", contract.ListRequest{From: &from, To: &to}, 10},
		{"", contract.ListRequest{Page: rpc.Page{Search: "R2"}}, 11},
		{"", contract.ListRequest{Page: rpc.Page{Search: "192.0.2"}}, 30},
	} {
		list, err := s.List(t.Context(), tt.user, tt.req)
		if err != nil || list.Pagination.Total != tt.want {
			t.Errorf("%+v: %d, %v; want %d", tt, list.Pagination.Total, err, tt.want)
		}
	}
	var walked []string
	for req := (contract.ListRequest{Page: rpc.Page{PageSize: 7}}); ; {
		list, err := s.List(t.Context(), "u", req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Items {
			walked = append(walked, e.ResourceID)
		}
		if list.Pagination.NextCursor == nil {
			break
		}
		req.Cursor = *list.Pagination.NextCursor
	}
	if len(walked) != 30 || walked[0] != "r29" || walked[29] != "r0" {
		t.Errorf("walked %v", walked)
	}
	_, err := s.List(t.Context(), "", contract.ListRequest{Action: "x", Outcome: "y", ResourceID: "a\x00", From: &to, To: &from, Page: rpc.Page{SortBy: "z", PageSize: 101}})
	if e := errs.From(err); e.Code != errs.Validation || len(e.Details) != 6 {
		t.Errorf("got %+v", e)
	}
}
