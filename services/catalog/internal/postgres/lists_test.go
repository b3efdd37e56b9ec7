package postgres_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/catalog/internal/postgres"
)

// populate makes n rows of a table: agents, workflows or templates, or versions of one thing. Four of five are of user; of templates as many are public, and user has 1,000,
// which is the most, all private. One of twenty is of a less common type and category, and the worst rated. One in a thousand is of a rare type or category, has a rare status, tag and word, and of agents and workflows is public, or has a schedule.
func populate(t testing.TB, db *sqlx.DB, table string, n int, user, other, thing string) {
	t.Helper()
	const whose = `CASE WHEN i % 5 > 0 THEN '{user}'::uuid ELSE '{other}'::uuid END`
	const of = ` FROM (SELECT i, i % 1000 = 1 AS rare FROM generate_series(1, {n}) i) v`
	const head = ` SELECT CASE i WHEN 1 THEN '{thing}'::uuid ELSE md5(i::text)::uuid END, ` + whose + `, 'thing ' || md5(i::text), CASE WHEN rare THEN 'Needle-like: ' ELSE '' END || 'does things with ' || i,
		CASE WHEN rare THEN 'ARCHIVED' WHEN i % 3 = 0 THEN 'DRAFT' ELSE 'ACTIVE' END, CASE WHEN rare THEN '{common,rare}'::text[] ELSE '{common}' END, rare, 1, 1,
		now() - i * interval '1 s', now() - (i::bigint * 7919 % {n}) * interval '1 s', `
	const columns = `id, user_id, name, description, status, tags, is_public, version, revision, created_at, updated_at, `
	const agentVersions = `INSERT INTO agent_versions (agent_id, version, type, config, input_schema, output_schema, created_at) `
	const workflowVersions = `INSERT INTO workflow_versions (workflow_id, version, input_schema, outputs, timeout_ms, concurrency, priority, strict_templates, steps, created_at) `
	const noKeys = `SET session_replication_role = replica`
	statements := map[string][]string{
		"agents": {
			noKeys, `INSERT INTO agents (` + columns + `type)` + head + `CASE WHEN rare THEN 'WORKFLOW' WHEN i % 2 = 0 THEN 'CODE' ELSE 'API' END` + of,
			agentVersions + `SELECT id, 1, type, '{}', 'null', 'null', created_at FROM agents`,
		},
		"agent_versions": {noKeys, agentVersions + `SELECT '{thing}', i + 1, 'API', '{}', 'null', 'null', now()` + of},
		"workflows": {
			noKeys, `INSERT INTO workflows (` + columns + `schedule_enabled)` + head + `rare` + of,
			workflowVersions + `SELECT id, 1, 'null', 'null', 1, 'null', 5, false, '[]', created_at FROM workflows`,
		},
		"workflow_versions": {noKeys, workflowVersions + `SELECT '{thing}', i + 1, 'null', 'null', 1, 'null', 5, false, '[]', now()` + of},
		"templates": {`INSERT INTO templates (id, user_id, name, description, type, category, tags, content, is_public, is_official, version, usage_count, rating_sum, rating_count, created_at, updated_at)
			SELECT md5(i::text)::uuid, CASE WHEN i % ({n} / 1000) = 0 THEN '{user}'::uuid ELSE md5('user' || i % 1000)::uuid END, 'template ' || md5(i::text), CASE WHEN rare THEN 'Needle-like: ' ELSE '' END || 'makes things of ' || i,
				CASE WHEN rare THEN 'STEP' WHEN i % 20 = 2 THEN 'WORKFLOW' ELSE 'AGENT' END, CASE WHEN rare THEN 'odd' WHEN i % 20 = 2 THEN 'uncommon' ELSE 'common' END, CASE WHEN rare THEN '{common,rare}'::text[] ELSE '{common}' END, '{}', i % 5 > 0,
				rare, 1, i::bigint * 7919 % 1000, CASE WHEN i % 20 = 2 THEN 1 ELSE i % 4 + 2 END, 1, now() - i * interval '1 s', now()` + of},
	}[table]
	for i, s := range statements {
		statements[i] = strings.NewReplacer("{n}", strconv.Itoa(n), "{user}", user, "{other}", other, "{thing}", thing).Replace(s)
	}
	filled := []string{table}
	if !strings.HasSuffix(table, "_versions") && table != "templates" {
		filled = append(filled, strings.TrimSuffix(table, "s")+"_versions")
	}
	pgtest.Fill(t, db, filled, statements...)
}

// list reads a page and gives how many items it has.
type list func(ctx context.Context) (int, rpc.Pagination, error)

// lists gives, by table and name, a list for each thing that it can be narrowed and ordered by, also together; each as the user who has most sees it, as an ADMIN, and as somebody who has none.
func lists(db *sqlx.DB, user, thing string) map[string]map[string]list {
	agents, workflows := postgres.NewAgents(db), postgres.NewWorkflows(db)
	templates := postgres.NewTemplates(db, agents, workflows)
	all := map[string]map[string]list{"agents": {}, "workflows": {}, "templates": {}, "agent_versions": {}, "workflow_versions": {}}
	yes, no := true, false
	of := func(p rpc.Page) catalog.ListRequest { return catalog.ListRequest{Page: p} }
	for who, id := range map[string]string{"user": user, "ADMIN": "", "nobody": uuid.NewString()} {
		for name, req := range map[string]catalog.ListRequest{
			"all": {}, "page 50": of(rpc.Page{Page: 50}), "oldest": of(rpc.Page{SortOrder: "asc"}), "by name": of(rpc.Page{SortBy: "name"}), "by updatedAt": of(rpc.Page{SortBy: "updatedAt"}),
			"by status": of(rpc.Page{SortBy: "status"}), "DRAFT": {Status: "DRAFT"}, "ARCHIVED": {Status: "ARCHIVED"}, "no INACTIVE": {Status: "INACTIVE"},
			"CODE": {Type: "CODE"}, "WORKFLOW": {Type: "WORKFLOW"}, "no LLM": {Type: "LLM"}, "public": {IsPublic: &yes}, "private": {IsPublic: &no},
			"scheduled": {ScheduleEnabled: &yes}, "unscheduled": {ScheduleEnabled: &no},
			"common tag": {Tags: []string{"common"}}, "rare tag": {Tags: []string{"rare"}}, "no tag": {Tags: []string{"none"}},
			"common word": of(rpc.Page{Search: "things"}), "rare word": of(rpc.Page{Search: "needl"}), "no word": of(rpc.Page{Search: "haystack"}), "two words": of(rpc.Page{Search: "does: NEEDLE"}),
			"rare by name": {Page: rpc.Page{SortBy: "name"}, Status: "ARCHIVED"}, "rare tag by updatedAt": {Page: rpc.Page{SortBy: "updatedAt"}, Tags: []string{"rare"}},
			"common word in DRAFT": {Page: rpc.Page{Search: "things"}, Status: "DRAFT"}, "rare word, public": {Page: rpc.Page{Search: "needle"}, IsPublic: &yes},
		} {
			if req.ScheduleEnabled == nil {
				all["agents"][who+"/"+name] = func(ctx context.Context) (int, rpc.Pagination, error) {
					l, err := agents.List(ctx, id, req)
					return len(l.Items), l.Pagination, err
				}
			}
			if req.Type == "" {
				all["workflows"][who+"/"+name] = func(ctx context.Context) (int, rpc.Pagination, error) {
					l, err := workflows.List(ctx, id, req)
					return len(l.Items), l.Pagination, err
				}
			}
		}
		for name, req := range map[string]catalog.ListTemplatesRequest{
			"all": {}, "page 50": {Page: rpc.Page{Page: 50}}, "oldest": {Page: rpc.Page{SortOrder: "asc"}}, "by name": {Page: rpc.Page{SortBy: "name"}}, "by usageCount": {Page: rpc.Page{SortBy: "usageCount"}},
			"by rating": {Page: rpc.Page{SortBy: "rating", SortOrder: "asc"}}, "AGENT": {Type: "AGENT"}, "STEP": {Type: "STEP"}, "common category": {Category: "common"}, "rare category": {Category: "odd"}, "no category": {Category: "none"},
			"official": {IsOfficial: &yes}, "not official": {IsOfficial: &no}, "official by rating": {Page: rpc.Page{SortBy: "rating"}, IsOfficial: &yes}, "public": {IsPublic: &yes}, "private": {IsPublic: &no},
			"private by name": {Page: rpc.Page{SortBy: "name"}, IsPublic: &no}, "common tag": {Tags: []string{"common"}}, "rare tag": {Tags: []string{"rare"}}, "no tag": {Tags: []string{"none"}},
			"common word": {Page: rpc.Page{Search: "things"}}, "rare word": {Page: rpc.Page{Search: "needle"}}, "no word": {Page: rpc.Page{Search: "haystack"}},
			"rare word by usageCount": {Page: rpc.Page{Search: "needle", SortBy: "usageCount"}}, "STEP by rating": {Page: rpc.Page{SortBy: "rating"}, Type: "STEP"},
			"STEP by usageCount": {Page: rpc.Page{SortBy: "usageCount"}, Type: "STEP"}, "STEP by name": {Page: rpc.Page{SortBy: "name", SortOrder: "asc"}, Type: "STEP"},
			"rare category by rating": {Page: rpc.Page{SortBy: "rating"}, Category: "odd"}, "rare category by usageCount": {Page: rpc.Page{SortBy: "usageCount", SortOrder: "asc"}, Category: "odd"},
			"WORKFLOW by rating": {Page: rpc.Page{SortBy: "rating"}, Type: "WORKFLOW"}, "uncommon category by rating": {Page: rpc.Page{SortBy: "rating"}, Category: "uncommon"},
			"rare category by name": {Page: rpc.Page{SortBy: "name"}, Category: "odd"},
		} {
			all["templates"][who+"/"+name] = func(ctx context.Context) (int, rpc.Pagination, error) {
				l, err := templates.List(ctx, id, who == "ADMIN", req)
				return len(l.Items), l.Pagination, err
			}
		}
		all["templates"][who+"/categories"] = func(ctx context.Context) (int, rpc.Pagination, error) {
			l, err := templates.Categories(ctx, id, who == "ADMIN")
			return len(l), rpc.Pagination{Total: len(l)}, err
		}
	}
	for name, page := range map[string]rpc.Page{"all": {}, "page 50": {Page: 50}} {
		all["agent_versions"]["user/"+name] = func(ctx context.Context) (int, rpc.Pagination, error) {
			l, err := agents.Versions(ctx, thing, page)
			return len(l.Items), l.Pagination, err
		}
		all["workflow_versions"]["user/"+name] = func(ctx context.Context) (int, rpc.Pagination, error) {
			l, err := workflows.Versions(ctx, thing, page)
			return len(l.Items), l.Pagination, err
		}
	}
	return all
}

// TestListsReadLittle holds that a page of a long list is found by an index, not by looking at all.
func TestListsReadLittle(t *testing.T) {
	db := open(t)
	user, thing := uuid.NewString(), uuid.NewString()
	all := lists(db, user, thing)
	for _, table := range slices.Sorted(maps.Keys(all)) { // the versions first, of a thing that is not there
		populate(t, db, table, 60_000, user, uuid.NewString(), thing)
	}
	db.SetMaxOpenConns(1)
	for table, named := range all {
		for name, list := range named {
			t.Run(table+"/"+name, func(t *testing.T) {
				// Beside the page, up to 10,001 rows are counted, in each half of the list, and up to three read for one of them.
				most := 45_000
				if strings.Contains(name, "word") || strings.Contains(name, "tag") {
					most = 20_000 // what is searched for is found, or looked for among 4,000
				}
				if table == "templates" && strings.HasPrefix(name, "user/private") {
					most = 1_500 // all are counted, not read
				}
				if n := pgtest.Reads(t, db, table, func(ctx context.Context) {
					n, pagination, err := list(ctx)
					none := strings.Contains(name, "/no ") || strings.HasPrefix(name, "nobody/") && (table != "templates" || strings.HasPrefix(name, "nobody/private"))
					if err != nil || none != (n == 0) || pagination.Total < n {
						t.Errorf("lists %d of %+v, %v", n, pagination, err)
					}
				}); n > most {
					t.Errorf("%d rows and entries are read, more than %d", n, most)
				}
			})
		}
	}
}

func TestSearchIsForTheBeginningsOfWords(t *testing.T) {
	db := open(t)
	agents, owner := postgres.NewAgents(db), uuid.NewString()
	for _, name := range []string{"Order-Intake v2", "Größe prüfen", "日本語、テスト", "it's 100% \\ fine"} {
		if err := agents.Insert(t.Context(), newAgent(owner, func(a *catalog.Agent) { a.Name, a.Description = name, "a_b.c" })); err != nil {
			t.Fatal(err)
		}
	}
	for search, want := range map[string]int{
		"order": 1, "INTAKE ord": 1, "rder": 0, "v2": 1, "größe": 1, "prüf": 1, "日本": 1, "テスト": 1, "c": 4, "b.c": 4, "it's": 1, "100%": 1, "'": 0, "\\": 0, "order fine": 0, ":*": 0, "&": 0,
	} {
		list, err := agents.List(t.Context(), owner, catalog.ListRequest{Page: rpc.Page{Search: search}})
		if err != nil || len(list.Items) != want {
			t.Errorf("%q finds %d, want %d, %v", search, len(list.Items), want, err)
		}
	}
}

// TestWordsAreThoseOfTheSchema holds that a search is cut into the words that are looked up.
func TestWordsAreThoseOfTheSchema(t *testing.T) {
	db := open(t)
	var texts []string
	for r := rune(1); r < 0x3100; r++ {
		texts = append(texts, "a"+string(r)+"Z")
	}
	texts = append(texts, "", " ", "Order-Intake v2", "日本語、テスト", "x\U0001F600y")
	var cut []int64
	if err := db.Select(&cut, `SELECT cardinality(search_words(t)) FROM unnest($1::text[]) WITH ORDINALITY AS texts (t, n) ORDER BY n`, pq.StringArray(texts)); err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if words := listing.Words(text); int64(len(words)) != cut[i] {
			t.Errorf("%q has %d words, and here %q", text, cut[i], words)
		}
	}
}

// TestASearchForWordsThatHardlyMeet looks for two words, which half of the agents each have: their index would have all of these read. It goes on from page to page.
// A word that is rare is found at once, whatever else is asked for.
func TestASearchForWordsThatHardlyMeet(t *testing.T) {
	db := open(t)
	owner := uuid.NewString()
	pgtest.Fill(t, db, []string{"agents", "agent_versions"}, `INSERT INTO agents (id, user_id, name, description, status, tags, is_public, version, revision, created_at, updated_at, type)
		SELECT gen_random_uuid(), '`+owner+`', CASE WHEN i = 9000 THEN 'red blue purple' WHEN i % 2 = 0 THEN 'red' ELSE 'blue' END, '', 'ACTIVE', '{}', false, 1, 1, now() - i * interval '1 s', now(), 'API'
		FROM generate_series(1, 12000) i`, `INSERT INTO agent_versions (agent_id, version, type, config, input_schema, output_schema, created_at) SELECT id, 1, type, '{}', 'null', 'null', now() FROM agents`)
	agents := postgres.NewAgents(db)
	for search, want := range map[string][]int{"red blue": {0, 0, 1, 0}, "red purple": {1}, "red green": {0}} {
		var got []int
		for req := (catalog.ListRequest{Page: rpc.Page{Search: search}}); ; {
			list, err := agents.List(t.Context(), owner, req)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(list.Items))
			if list.Pagination.TotalIsAtLeast != (list.Pagination.NextCursor != nil) {
				t.Errorf("%q: page %d of %+v", search, len(got), list.Pagination)
			}
			if list.Pagination.NextCursor == nil {
				if list.Pagination.Total != slices.Max(want) {
					t.Errorf("%q: %d in all", search, list.Pagination.Total)
				}
				break
			}
			req.Page.Cursor = *list.Pagination.NextCursor
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q has pages of %v, want %v", search, got, want)
		}
	}
}

// BenchmarkLists reads the first page of 20 of 1,000,000 rows of each table, by each filter and in each order. The time is to be below 20 ms at p95.
func BenchmarkLists(b *testing.B) {
	for _, table := range []string{"agents", "workflows", "templates", "agent_versions", "workflow_versions"} {
		b.Run(table, func(b *testing.B) {
			db := pgtest.New(b, catalog.Service, migrations.Of(catalog.Service))
			user, thing := uuid.NewString(), uuid.NewString()
			populate(b, db, table, 1_000_000, user, uuid.NewString(), thing)
			named := lists(db, user, thing)[table]
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

// TestVersionsAreBounded has an agent of large configs: the list of its versions has the newest of them.
func TestVersionsAreBounded(t *testing.T) {
	db := open(t)
	agents, ctx, some := postgres.NewAgents(db), t.Context(), newAgent(uuid.NewString(), nil)
	if err := agents.Insert(ctx, some); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DELETE FROM agent_versions`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO agent_versions (agent_id, version, type, config, input_schema, output_schema, created_at)
		SELECT $1, v, 'API', to_json(repeat('x', 3 << 20)), 'null', 'null', now() FROM generate_series(1, 4) v`, some.ID); err != nil {
		t.Fatal(err)
	}
	for page, want := range map[rpc.Page][]bool{{}: {true, true, false, false}, {PageSize: 3, Page: 2}: {true}} {
		list, err := agents.Versions(ctx, some.ID, page)
		if err != nil || len(list.Items) != len(want) {
			t.Fatalf("%d versions, %v", len(list.Items), err)
		}
		for i, a := range list.Items {
			if (a.Config != nil) != want[i] || a.Config != nil && len(a.Config) != 3<<20+2 {
				t.Errorf("version %d has a config of %d bytes", a.Version, len(a.Config))
			}
		}
	}
}

func TestTemplatesOfAUserAreBounded(t *testing.T) {
	db := open(t)
	agents := postgres.NewAgents(db)
	templates, ctx, owner := postgres.NewTemplates(db, agents, postgres.NewWorkflows(db)), t.Context(), uuid.NewString()
	made := func() catalog.Template {
		return catalog.Template{ID: uuid.NewString(), UserID: &owner, Name: "t", Type: "AGENT", Category: "c", Tags: []string{}, Content: json.RawMessage(`{}`), Version: 1, CreatedAt: start, UpdatedAt: start}
	}
	var together sync.WaitGroup
	failures := make(chan error, 5)
	for range 5 {
		together.Go(func() { failures <- templates.Insert(ctx, made(), 3) })
	}
	together.Wait()
	refused := 0
	for range 5 {
		if err := <-failures; err != nil {
			wantCode(t, err, errs.Conflict)
			refused++
		}
	}
	list, err := templates.List(ctx, owner, false, catalog.ListTemplatesRequest{})
	if err != nil || refused != 2 || len(list.Items) != 3 {
		t.Fatalf("%d refused, %d there, %v", refused, len(list.Items), err)
	}
	if err := templates.Delete(ctx, list.Items[0].ID, owner, start); err != nil {
		t.Fatal(err)
	}
	if err := templates.Insert(ctx, made(), 3); err != nil {
		t.Error(err)
	}
}

// TestCategoriesAreCounted holds that the counts that are kept are those of the templates, whatever becomes of these.
func TestCategoriesAreCounted(t *testing.T) {
	db := open(t)
	agents := postgres.NewAgents(db)
	templates, ctx, owner := postgres.NewTemplates(db, agents, postgres.NewWorkflows(db)), t.Context(), uuid.NewString()
	var ids []string
	for i, category := range []string{"a", "a", "b", "b"} {
		made := catalog.Template{
			ID: uuid.NewString(), UserID: &owner, Name: "t", Type: "AGENT", Category: category, Tags: []string{}, Content: json.RawMessage(`{}`), IsPublic: i%2 == 0, Version: 1, CreatedAt: start, UpdatedAt: start,
		}
		ids = append(ids, made.ID)
		if err := templates.Insert(ctx, made, 10); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when, public, own string) {
		t.Helper()
		for who, want := range map[string]string{"": public, uuid.NewString(): public, owner: own, "ADMIN": own} {
			got, err := templates.Categories(ctx, strings.TrimPrefix(who, "ADMIN"), who == "ADMIN")
			if err != nil || asJSON(t, got) != want {
				t.Errorf("%s, %q sees %s, %v", when, who, asJSON(t, got), err)
			}
		}
	}
	check("at first", `[{"category":"a","count":1},{"category":"b","count":1}]`, `[{"category":"a","count":2},{"category":"b","count":2}]`)
	if _, err := templates.Update(ctx, ids[0], func(made catalog.Template) (catalog.Template, error) {
		made.Category, made.IsPublic = "c", false
		return made, nil
	}); err != nil {
		t.Fatal(err)
	}
	check("changed", `[{"category":"b","count":1}]`, `[{"category":"a","count":1},{"category":"b","count":2},{"category":"c","count":1}]`)
	if err := templates.Delete(ctx, ids[2], owner, start); err != nil {
		t.Fatal(err)
	}
	if err := templates.Rate(ctx, ids[1], owner, 5); err != nil {
		t.Fatal(err)
	}
	check("deleted", `[]`, `[{"category":"a","count":1},{"category":"b","count":1},{"category":"c","count":1}]`)
	if _, err := db.Exec(`DELETE FROM template_ratings; DELETE FROM templates`); err != nil {
		t.Fatal(err)
	}
	check("gone", `[]`, `[]`)
}
