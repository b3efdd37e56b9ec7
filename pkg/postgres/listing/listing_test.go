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
	const want = "SELECT t.a, (extract(epoch FROM t.created_at) * 1000000)::bigint::text AS sort_value, t.id AS sort_id FROM things t" +
		" WHERE (t.a = $1 OR t.b = $2) AND (t.c IS NULL) AND ((t.created_at, t.id) < ($3::timestamptz, $4::uuid))" +
		" ORDER BY t.created_at DESC, t.id DESC LIMIT 11 OFFSET 0"
	if query != want || len(args) != 4 {
		t.Errorf("%v\n got %s\nwant %s", args, query, want)
	}
	if len(where.args) != 2 {
		t.Errorf("the caller's conditions changed: %v", where)
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
