package listing

import (
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

var things = Table{From: "things t", ID: "t.id", Columns: map[string]Column{
	"createdAt": {SQL: "t.created_at", Kind: Time},
	"name":      {SQL: "t.name", Kind: Text},
	"size":      {SQL: "t.size", Kind: Integer},
}}

const someID = "0193b7f0-0000-7000-8000-000000000001"

func TestParse(t *testing.T) {
	byName := cursor{Sort: "name", Order: "asc", Value: "b", ID: someID, Page: 2}
	with := func(change func(*cursor)) string {
		c := byName
		change(&c)
		return c.encode()
	}
	for _, c := range []struct {
		name string
		page rpc.Page
		want []string // faulty fields
	}{
		{"defaults", rpc.Page{}, nil},
		{"all", rpc.Page{Page: 3, PageSize: 100, Search: "x", SortBy: "name", SortOrder: "asc"}, nil},
		{"negative", rpc.Page{Page: -1, PageSize: -1}, []string{"page", "pageSize"}},
		{"too large", rpc.Page{Page: 1_000_001, PageSize: 101}, []string{"page", "pageSize"}},
		{"unknown", rpc.Page{SortBy: "t.id; DROP TABLE things", SortOrder: "up"}, []string{"sortBy", "sortOrder"}},
		{"search", rpc.Page{Search: "a\x00"}, []string{"search"}},
		{"long search", rpc.Page{Search: strings.Repeat("a", 201)}, []string{"search"}},
		{"cursor", rpc.Page{Cursor: byName.encode()}, nil},
		{"cursor with its sort", rpc.Page{Cursor: byName.encode(), SortBy: "name", SortOrder: "asc"}, nil},
		{"cursor and page", rpc.Page{Cursor: byName.encode(), Page: 2}, []string{"page"}},
		{"cursor of another sort", rpc.Page{Cursor: byName.encode(), SortBy: "createdAt"}, []string{"cursor"}},
		{"cursor of another order", rpc.Page{Cursor: byName.encode(), SortOrder: "desc"}, []string{"cursor"}},
		{"garbage", rpc.Page{Cursor: "garbage"}, []string{"cursor"}},
		{"forged column", rpc.Page{Cursor: with(func(c *cursor) { c.Sort = "password" })}, []string{"cursor"}},
		{"forged order", rpc.Page{Cursor: with(func(c *cursor) { c.Order = "asc; --" })}, []string{"cursor"}},
		{"forged id", rpc.Page{Cursor: with(func(c *cursor) { c.ID = "1" })}, []string{"cursor"}},
		{"forged time", rpc.Page{Cursor: with(func(c *cursor) { c.Sort, c.Value = "createdAt", "yesterday" })}, []string{"cursor"}},
		{"forged number", rpc.Page{Cursor: with(func(c *cursor) { c.Sort, c.Value = "size", "1e3" })}, []string{"cursor"}},
		{"number", rpc.Page{Cursor: with(func(c *cursor) { c.Sort, c.Value = "size", "-3" })}, nil},
		{"NUL in the value", rpc.Page{Cursor: with(func(c *cursor) { c.Value = "\x00" })}, []string{"cursor"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var faults form.Faults
			things.Parse(c.page, &faults)
			if got := faulty(faults); !slices.Equal(got, c.want) {
				t.Errorf("faults at %v, want at %v", got, c.want)
			}
		})
	}
}

func TestEnum(t *testing.T) {
	var faults form.Faults
	Enum("absent", "", []string{"a", "b"}, &faults)
	Enum("good", "b", []string{"a", "b"}, &faults)
	Enum("bad", "c", []string{"a", "b"}, &faults)
	details := errs.From(faults.Err("query")).Details
	if want := (errs.Detail{Field: "bad", Message: `is "c"; give one of a, b`, Code: "bad_enum"}); len(details) != 1 || details[0] != want {
		t.Errorf("faults %+v, want %+v", details, want)
	}
}

// faulty gives the parameters that are at fault.
func faulty(faults form.Faults) []string {
	var parameters []string
	if err := faults.Err("query"); err != nil {
		for _, d := range errs.From(err).Details {
			parameters = append(parameters, d.Field)
		}
	}
	return parameters
}

func TestQuery(t *testing.T) {
	page := things.Parse(rpc.Page{Cursor: cursor{Sort: "createdAt", Order: "desc", Value: "5", ID: someID, Page: 4}.encode(), PageSize: 10}, &form.Faults{})
	var where Where
	where.And("t.a = ? OR t.b = ?", 1, 2)
	where.And("t.c IS NULL")
	query, args := page.query("t.a", where)
	const want = "SELECT t.a, (extract(epoch FROM t.created_at) * 1000000)::bigint::text AS sort_value, t.id AS sort_id FROM (SELECT * FROM things t" +
		" WHERE (t.a = $1 OR t.b = $2) AND (t.c IS NULL) AND ((t.created_at, t.id) < ($3::timestamptz, $4::uuid))" +
		" ORDER BY t.created_at DESC, t.id DESC LIMIT 11 OFFSET 0) t ORDER BY t.created_at DESC, t.id DESC"
	if query != want || len(args) != 4 {
		t.Errorf("%v\n got %s\nwant %s", args, query, want)
	}
	if len(where.args) != 2 {
		t.Errorf("the caller's conditions changed: %v", where)
	}
}

// TestQueryOfAJoin wants the rows of the page to be found before they are joined.
func TestQueryOfAJoin(t *testing.T) {
	joined := Table{From: "things t", Join: "JOIN parts p ON p.id = t.id", ID: "t.id", Sort: "uses", Columns: map[string]Column{"uses": {SQL: "t.uses", Kind: Integer}}}
	var where Where
	where.And("t.a = ?", 1)
	query, args := joined.Parse(rpc.Page{Cursor: cursor{Sort: "uses", Order: "asc", Value: "-5", ID: someID, Page: 4}.encode(), PageSize: 10}, &form.Faults{}).query("t.a, p.b", where)
	const want = "SELECT t.a, p.b, t.uses::text AS sort_value, t.id AS sort_id FROM (SELECT * FROM things t WHERE (t.a = $1) AND ((t.uses, t.id) > ($2::bigint, $3::uuid))" +
		" ORDER BY t.uses ASC, t.id ASC LIMIT 11 OFFSET 0) t JOIN parts p ON p.id = t.id ORDER BY t.uses ASC, t.id ASC"
	if query != want || len(args) != 3 || args[1] != int64(-5) {
		t.Errorf("%v\n got %s\nwant %s", args, query, want)
	}
	if got, want := where.count(joined.From, maxCount), "SELECT count(*) FROM (SELECT 1 FROM things t WHERE (t.a = $1) LIMIT 10001) counted"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestQueryOfASearch wants the first rows to be looked through, and what is rare to be found before it is sorted, for the planner takes any search for a common one.
func TestQueryOfASearch(t *testing.T) {
	joined := Table{From: "things t", Join: "JOIN parts p ON p.id = t.id", ID: "t.id", Columns: things.Columns}
	var where Where
	where.Search("t.words @@ ?", "x", "long")
	where.And("t.a = ?", 1)
	page := joined.Parse(rpc.Page{PageSize: 10, Page: 2, SortBy: "name"}, &form.Faults{})
	const key, order = "t.name AS sort_value, t.id AS sort_id FROM ", " ORDER BY t.name DESC, t.id DESC"
	const page2 = order + " LIMIT 11 OFFSET 10"
	check := func(query string, args []any, want string, wantArgs ...any) {
		t.Helper()
		if query != want || !slices.Equal(args, wantArgs) {
			t.Errorf("%v\n got %s\nwant %s", args, query, want)
		}
	}
	query, args := page.look("p.b", where)
	check(query, args, "SELECT p.b, "+key+"(SELECT * FROM (SELECT * FROM things t WHERE (t.a = $1)"+order+" LIMIT 4020) t WHERE (t.words @@ $2) AND (t.words @@ $3)"+page2+
		") t JOIN parts p ON p.id = t.id"+order, 1, "x", "long")
	query, args = page.last(where)
	check(query, args, "SELECT "+key+"(SELECT * FROM things t WHERE (t.a = $1)"+order+" LIMIT 4020) t"+order+" LIMIT 1 OFFSET 4019", 1)
	asked, query, args := page.sample(where)
	check(query, args, "SELECT ARRAY[count(*), count(*) FILTER (WHERE (t.words @@ $1)), count(*) FILTER (WHERE (t.words @@ $2))] FROM things t"+
		" TABLESAMPLE SYSTEM (least(100, 100.0 * 128 / greatest(1, pg_relation_size('things') / 8192))) REPEATABLE (0)", "long", "x")
	query, args = page.found("p.b", where.found(asked[:1]))
	check(query, args, "WITH found AS MATERIALIZED (SELECT t.name, t.id FROM things t WHERE (t.a = $1) AND (t.words @@ $2) AND ((t.words @@ $3) IS TRUE) AND ((t.words @@ $4) IS TRUE) LIMIT 4001) "+
		"SELECT p.b, (SELECT count(*) FROM found) AS found, "+key+"(SELECT * FROM things t WHERE t.id = ANY (ARRAY(SELECT t.id FROM found t"+page2+"))) t JOIN parts p ON p.id = t.id"+order, 1, "long", "x", "long")
	query, args = page.countLooked(where, 2001)
	check(query, args, "SELECT count(*) AS looked, count(*) FILTER (WHERE (t.words @@ $2) AND (t.words @@ $3)) AS matched FROM (SELECT * FROM things t WHERE (t.a = $1) LIMIT 2001) t", 1, "x", "long")
	where.Either("t.c", "NOT t.c")
	query, args = page.look("p.b", where)
	check(query, args, "SELECT p.b, "+key+"(SELECT * FROM (SELECT * FROM ((SELECT * FROM things t WHERE (t.c) AND (t.a = $1)"+order+" LIMIT 4020) UNION ALL (SELECT * FROM things t WHERE (NOT t.c) AND (t.a = $1)"+order+
		" LIMIT 4020)) t"+order+" LIMIT 4020) t WHERE (t.words @@ $2) AND (t.words @@ $3)"+page2+") t JOIN parts p ON p.id = t.id"+order, 1, "x", "long")
	if found, want := where.found(nil).sql(), " WHERE (t.a = $1) AND ((t.c) OR (NOT t.c)) AND ((t.words @@ $2) IS TRUE) AND ((t.words @@ $3) IS TRUE)"; found != want {
		t.Errorf("\n got %s\nwant %s", found, want)
	}
}

func TestQueryOfEither(t *testing.T) {
	plain := Table{From: "things", ID: "id", Columns: map[string]Column{"createdAt": {SQL: "created_at", Kind: Time}}}
	page := plain.Parse(rpc.Page{Page: 3, PageSize: 10}, &form.Faults{})
	var where Where
	where.And("a = ?", 1)
	where.Either("b = ?", "c = ? AND c <> b", 2)
	query, args := page.query("a, b", where)
	const half = "FROM things WHERE (b = $2) AND (a = $1) ORDER BY created_at DESC, id DESC LIMIT 31)"
	const other = "FROM things WHERE (c = $3 AND c <> b) AND (a = $1) ORDER BY created_at DESC, id DESC LIMIT 31)"
	const want = "SELECT a, b, (extract(epoch FROM created_at) * 1000000)::bigint::text AS sort_value, id AS sort_id FROM (SELECT * FROM ((SELECT * " + half +
		" UNION ALL (SELECT * " + other + ") things ORDER BY created_at DESC, id DESC LIMIT 11 OFFSET 20) things ORDER BY created_at DESC, id DESC"
	if query != want || len(args) != 3 {
		t.Errorf("%v\n got %s\nwant %s", args, query, want)
	}
	const counts = "SELECT count(*) FROM ((SELECT 1 FROM things WHERE (b = $2) AND (a = $1) LIMIT 10001) UNION ALL (SELECT 1 FROM things WHERE (c = $3 AND c <> b) AND (a = $1) LIMIT 10001) LIMIT 10001) counted"
	if got := where.count("things", maxCount); got != counts {
		t.Errorf(" got %s\nwant %s", got, counts)
	}
}

func TestContains(t *testing.T) {
	if got := Contains(`50%_\`); got != `%50\%\_\\%` {
		t.Error(got)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{Sort: "name", Order: "asc", Value: "b", ID: someID, Page: 2}.encode())
	f.Add("eyJzIjoibmFtZSJ9")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := decode(s)
		if !ok {
			return
		}
		if again, ok := decode(c.encode()); !ok || again != c {
			t.Fatalf("%+v reads back as %+v", c, again)
		}
		var faults form.Faults
		page := things.Parse(rpc.Page{Cursor: s}, &faults)
		if faults.Err("query") == nil {
			page.query("t.a", Where{}) // must not panic
		}
	})
}
