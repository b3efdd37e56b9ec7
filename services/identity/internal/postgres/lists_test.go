package postgres_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	contract "turbocat.io/contracts/audit"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/postgres"
)

// populate makes n rows of a table: accounts, sessions, API keys or entries of the audit trail. Four fifths of those that somebody has are of user. One in a thousand is rare:
// an ADMIN, inactive, a failure, of a rare action, resource, word or client.
func populate(t testing.TB, db *sqlx.DB, table string, n int, user, other account.UserID) {
	t.Helper()
	const whose = `CASE WHEN i % 5 > 0 THEN '{user}'::uuid ELSE '{other}'::uuid END`
	const of = ` FROM (SELECT i, i % 1000 = 1 AS rare FROM generate_series(1, {n}) i) v`
	rows := map[string]string{
		"users": `INSERT INTO users (id, email, full_name, password_hash, role, active, preferences, created_at) SELECT CASE i WHEN 2 THEN '{user}' WHEN 3 THEN '{other}' ELSE gen_random_uuid() END,
			'user' || i || '@example.com', CASE WHEN rare THEN 'Needle' ELSE 'Smith' END || ' ' || md5(i::text), '', CASE WHEN rare THEN 'ADMIN' ELSE 'USER' END,
			i % 1000 <> 2 OR i = 2, '{}', now() - i * interval '1 s'` + of,
		"sessions": `INSERT INTO sessions (id, user_id, role, current_token, ip, user_agent, created_at, last_accessed_at, expires_at, revoked_at) SELECT gen_random_uuid(), ` + whose + `, 'USER', '',
			'192.0.2.' || i % 256, CASE WHEN rare THEN 'Needle/5.0' ELSE 'Mozilla/5.0 (X11; Linux)' END, now() - i * interval '1 s', now() - (i * 7919::bigint % {n}) * interval '1 s',
			now() + interval '1 d', CASE WHEN i % 3 = 0 THEN now() END` + of,
		"api_keys": `INSERT INTO api_keys (id, user_id, name, prefix, digest, scopes, created_at, updated_at, revoked_at) SELECT gen_random_uuid(), ` + whose + `,
			CASE WHEN rare THEN 'needle ' ELSE 'key ' END || md5(i::text), md5('prefix' || i), '', '{}', now() - i * interval '1 s', now() - (i * 7919::bigint % {n}) * interval '1 s',
			CASE WHEN i % 2 = 0 THEN now() END` + of,
		"audit_log": `INSERT INTO audit_log (seq, id, "time", actor_id, actor_role, via, session_id, api_key_id, action, outcome, resource_type, resource_id, owner_id, changes, ip, user_agent, request_id, hash)
			SELECT i, gen_random_uuid(), now() - i * interval '1 s', ` + whose + `, 'USER', 'SESSION', '', '', CASE WHEN rare THEN 'secret.deleted' WHEN i % 2 = 0 THEN 'agent.updated' ELSE 'agent.created' END,
			CASE WHEN rare THEN 'FAILURE' ELSE 'SUCCESS' END, CASE WHEN rare THEN 'secret' ELSE 'agent' END, CASE WHEN i % 2000 = 1 THEN 'needle' ELSE md5((i / 10)::text) END,
			CASE WHEN i % 7 = 0 THEN '{user}' ELSE '{other}' END, '[{"path":"name","after":"n ' || i || '"}]', '192.0.2.' || i % 256, 'Mozilla/5.0 (X11; Linux)', gen_random_uuid(), ''` + of,
	}[table]
	rows = strings.NewReplacer("{n}", strconv.Itoa(n), "{user}", user.String(), "{other}", other.String()).Replace(rows)
	pgtest.Fill(t, db, []string{table}, `SET session_replication_role = replica`, rows) // without the accounts that others name
}

// list reads a page and gives how many items it has.
type list func(ctx context.Context) (int, rpc.Pagination, error)

// lists gives, by table and name, a list for each thing that it can be narrowed and ordered by, also together.
func lists(db *sqlx.DB, user account.UserID) map[string]map[string]list {
	store, keys, trail := postgres.New(db), postgres.NewKeys(db), postgres.NewAudit(db)
	all := map[string]map[string]list{"users": {}, "sessions": {}, "api_keys": {}, "audit_log": {}}
	yes, no := true, false
	by := func(column, order string) rpc.Page { return rpc.Page{SortBy: column, SortOrder: order} }
	search := func(text string) rpc.Page { return rpc.Page{Search: text} }

	for name, req := range map[string]identity.ListUsersRequest{
		"all": {}, "page 50": {Page: rpc.Page{Page: 50}}, "oldest": {Page: by("", "asc")}, "by email": {Page: by("email", "")}, "by fullName": {Page: by("fullName", "asc")}, "by role": {Page: by("role", "")},
		"USER": {Role: "USER"}, "ADMIN": {Role: "ADMIN"}, "no AGENT": {Role: "AGENT"}, "active": {Active: &yes}, "inactive": {Active: &no}, "inactive USER": {Role: "USER", Active: &no},
		"active ADMIN": {Role: "ADMIN", Active: &yes}, "no inactive ADMIN": {Role: "ADMIN", Active: &no}, "ADMIN by email": {Page: by("email", "asc"), Role: "ADMIN"}, "inactive by fullName": {Page: by("fullName", ""), Active: &no},
		"common word": {Page: search("example")}, "rare word": {Page: search("needl")}, "one address": {Page: search("user777@example.com")}, "no word": {Page: search("haystack")},
		"rare word by fullName": {Page: rpc.Page{Search: "needle", SortBy: "fullName"}}, "rare word, ADMIN": {Page: search("needle"), Role: "ADMIN"},
	} {
		all["users"][name] = func(ctx context.Context) (int, rpc.Pagination, error) {
			l, err := store.List(ctx, req)
			return len(l.Items), l.Pagination, err
		}
	}
	for name, page := range map[string]rpc.Page{
		"all": {}, "oldest": by("", "asc"), "by lastAccessedAt": by("lastAccessedAt", ""), "common word": search("mozilla"), "rare word": search("needle"), "no word": search("haystack"),
		"rare word by lastAccessedAt": {Search: "needle", SortBy: "lastAccessedAt"},
	} {
		all["sessions"][name] = func(ctx context.Context) (int, rpc.Pagination, error) {
			l, err := store.ListSessions(ctx, user, time.Now(), identity.ListSessionsRequest{Page: page})
			return len(l.Items), l.Pagination, err
		}
	}
	for who, id := range map[string]string{"": "", ", of one user": user.String()} {
		for name, req := range map[string]identity.ListAPIKeysRequest{
			"all": {}, "oldest": {Page: by("", "asc")}, "by updatedAt": {Page: by("updatedAt", "")}, "by name": {Page: by("name", "asc")}, "revoked": {Revoked: true},
			"revoked by updatedAt": {Page: by("updatedAt", "asc"), Revoked: true}, "revoked by name": {Page: by("name", ""), Revoked: true},
			"common word": {Page: search("key")}, "rare word": {Page: search("needle")}, "no word": {Page: search("haystack")}, "no rare word, revoked": {Page: search("needle"), Revoked: true},
		} {
			all["api_keys"][name+who] = func(ctx context.Context) (int, rpc.Pagination, error) {
				l, err := keys.List(ctx, id, req)
				return len(l.Items), l.Pagination, err
			}
		}
	}
	hourAgo := time.Now().Add(-time.Hour)
	for who, id := range map[string]string{"": "", ", to a USER": user.String()} {
		for name, req := range map[string]contract.ListRequest{
			"all": {}, "page 50": {Page: rpc.Page{Page: 50}}, "oldest": {Page: by("time", "asc")}, "of an actor": {ActorID: user.String()}, "of no actor": {ActorID: uuid.NewString()},
			"common action": {Action: "agent.updated"}, "rare action": {Action: "secret.deleted"}, "no action": {Action: "secret.created"},
			"common type": {ResourceType: "agent"}, "rare type": {ResourceType: "secret"}, "no type": {ResourceType: "workflow"},
			"a resource": {ResourceID: "needle"}, "a resource of a type": {ResourceID: "needle", ResourceType: "secret"}, "no resource": {ResourceID: uuid.NewString(), ResourceType: "agent"},
			"SUCCESS": {Outcome: contract.Success}, "FAILURE": {Outcome: contract.Failure}, "FAILURE of an actor": {Outcome: contract.Failure, ActorID: user.String()},
			"from": {From: &hourAgo}, "to": {To: &hourAgo}, "a time": {From: new(hourAgo.Add(-time.Hour)), To: &hourAgo},
			"common word": {Page: search("mozilla")}, "rare word": {Page: search("needle")}, "no word": {Page: search("haystack")}, "common words, of one entry": {Page: search("name n 777")},
		} {
			all["audit_log"][name+who] = func(ctx context.Context) (int, rpc.Pagination, error) {
				l, err := trail.List(ctx, id, req)
				return len(l.Items), l.Pagination, err
			}
		}
	}
	return all
}

// TestListsReadLittle holds that a page of a long list is found by an index, not by looking at all.
func TestListsReadLittle(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, identity.Service, migrations.Of(identity.Service))
	user, other := account.UserID{UUID: uuid.New()}, account.UserID{UUID: uuid.New()}
	all := lists(db, user)
	for table := range all {
		populate(t, db, table, 60_000, user, other)
	}
	db.SetMaxOpenConns(1)
	for table, named := range all {
		for name, list := range named {
			t.Run(table+"/"+name, func(t *testing.T) {
				// Beside the page, up to 10,001 rows are counted, in each half of the list, and two read for one of them.
				most := 45_000
				if strings.Contains(name, "word") {
					most = 20_000 // what is searched for is found, or looked for among 4,000
				}
				if n := pgtest.Reads(t, db, table, func(ctx context.Context) {
					n, pagination, err := list(ctx)
					if none := len(name) > 2 && name[:3] == "no " || name == "of no actor" || name == "of no actor, to a USER"; err != nil || none != (n == 0) || pagination.Total < n {
						t.Errorf("lists %d of %+v, %v", n, pagination, err)
					}
				}); n > most {
					t.Errorf("%d rows and entries are read, more than %d", n, most)
				}
			})
		}
	}
}

// BenchmarkLists reads the first page of 20 of 1,000,000 rows of each table, by each filter and in each order. The time is to be below 20 ms at p95.
func BenchmarkLists(b *testing.B) {
	for _, table := range []string{"users", "sessions", "api_keys", "audit_log"} {
		b.Run(table, func(b *testing.B) {
			db := pgtest.New(b, identity.Service, migrations.Of(identity.Service))
			user, other := account.UserID{UUID: uuid.New()}, account.UserID{UUID: uuid.New()}
			populate(b, db, table, 1_000_000, user, other)
			named := lists(db, user)[table]
			for _, name := range slices.Sorted(maps.Keys(named)) {
				b.Run(name, func(b *testing.B) {
					pgtest.P95(b, func(ctx context.Context) {
						if _, _, err := named[name](ctx); err != nil {
							b.Fatal(err)
						}
					})
				})
			}
		})
	}
}
