// Package listing reads pages of a table: by number or by an opaque cursor, sorted by one of
// a table's allowed columns, newest first unless asked otherwise.
//
// A page costs what an index finds it for, however large the table is: rows beyond maxCount are
// not counted, and what is joined is joined to the rows of the page alone. Of what is searched for
// nobody can tell beforehand how common it is: the first maxWalked rows of the list are looked
// through, and only what is rarer than a page of them is looked up in the index of the search.
package listing

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100
	maxPage         = 1_000_000
	maxSearch       = 200
	// maxCount is up to where rows are counted.
	maxCount = 10_000
	// maxWalked is how many rows a search looks through, beside twice those that a page by its number leaves out, before it asks its index.
	maxWalked = 4000
	// maxSorted is how many rows that a search's index has found are sorted; more are so common that walking all in order meets them soon.
	maxSorted = 5000
	// maxSearched is among how many rows those are counted that a search lets through.
	maxSearched = 5000

	defaultSort  = "createdAt"
	defaultOrder = "desc"
)

// Kind is the type of a column that a list can be sorted by.
type Kind int

// The kinds of columns.
const (
	Text Kind = iota
	Time
	Integer
)

// Column is a column, never null, that a list can be sorted by.
type Column struct {
	SQL  string
	Kind Kind
}

// Table says how a table is listed. Its texts become part of the SQL, so they are constants.
type Table struct {
	From    string            // the table, and its alias if it has one
	Join    string            // what its rows are joined to, one to one; conditions and Columns can not name it
	ID      string            // the uuid column that orders what sorts equal
	Columns map[string]Column // by the name a client gives
	Sort    string            // the one that is the default; "" for createdAt
}

// Page is a checked request for a part of a list.
type Page struct {
	table  Table
	number int
	size   int
	sort   string
	desc   bool
	after  *cursor
}

// Parse checks what the client asks for and notes every fault by its parameter; only without
// any may the page be used.
func (t Table) Parse(p rpc.Page, faults *form.Faults) Page {
	page := Page{table: t, number: max(p.Page, 1), size: p.PageSize}
	if p.Page < 0 || p.Page > maxPage {
		faults.Add("page", errs.OutOfRange, "is %d; give 1 to %d", p.Page, maxPage)
	}
	if page.size == 0 {
		page.size = defaultPageSize
	}
	if page.size < 1 || page.size > maxPageSize {
		faults.Add("pageSize", errs.OutOfRange, "is %d; give 1 to %d", p.PageSize, maxPageSize)
	}
	if utf8.RuneCountInString(p.Search) > maxSearch || strings.ContainsRune(p.Search, 0) || !utf8.ValidString(p.Search) {
		faults.Add("search", errs.BadValue, "must be at most %d characters of text, without NUL", maxSearch)
	}
	Enum("sortBy", p.SortBy, slices.Sorted(maps.Keys(t.Columns)), faults)
	Enum("sortOrder", p.SortOrder, []string{"asc", "desc"}, faults)
	order := either(p.SortOrder, defaultOrder)
	page.sort = either(p.SortBy, either(t.Sort, defaultSort))
	if p.Cursor != "" {
		if p.Page != 0 {
			faults.Add("page", errs.BadValue, "can not be given with cursor; remove one of them")
		}
		c, ok := decode(p.Cursor)
		_, known := t.Columns[c.Sort]
		switch {
		case !ok || !known || !c.fits(t.Columns[c.Sort].Kind):
			faults.Add("cursor", errs.BadValue, "is none that this list gave; begin again without it")
		case p.SortBy != "" && p.SortBy != c.Sort || p.SortOrder != "" && p.SortOrder != c.Order:
			faults.Add("cursor", errs.BadValue, "belongs to a list sorted by %s %s; keep sortBy and sortOrder, or begin again without it", c.Sort, c.Order)
		default:
			page.after, page.sort, order, page.number = &c, c.Sort, c.Order, c.Page
		}
	}
	page.desc = order == "desc"
	return page
}

// Enum notes a fault of a parameter that is given and is none of the allowed texts.
func Enum(parameter, value string, allowed []string, faults *form.Faults) {
	if value != "" && !slices.Contains(allowed, value) {
		faults.Add(parameter, errs.BadEnum, "is %s; give one of %s", form.Quote(value), strings.Join(allowed, ", "))
	}
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Where collects the conditions of a list.
type Where struct {
	conditions []string
	args       []any
	either     []string
	searches   []search
}

type search struct {
	condition string
	args      []any
}

// And adds a condition in which each ? stands for one of args.
func (w *Where) And(condition string, args ...any) {
	w.conditions = append(w.conditions, w.bind(condition, args))
}

// Search adds a condition of which nobody can tell beforehand how many rows it lets through, and for which there is an index.
func (w *Where) Search(condition string, args ...any) {
	w.searches = append(w.searches, search{condition, args})
}

// clone gives a copy that can be added to.
func (w Where) clone() Where {
	return Where{conditions: slices.Clone(w.conditions), args: slices.Clone(w.args), either: w.either, searches: w.searches}
}

// searched binds the searches: to the other conditions, and alone.
func (w Where) searched() (all, alone Where) {
	all = w.clone()
	all.searches = nil
	before := len(all.conditions)
	for _, s := range w.searches {
		all.And(s.condition, s.args...)
	}
	return all, Where{conditions: all.conditions[before:]}
}

// Either lets through the rows for which the one or the other condition holds; never do both. In each, every ? stands for one of args. Such a list is made of two,
// each in its order by an index of its own, where an OR would have all rows of both sorted; of four when it is said twice.
func (w *Where) Either(one, other string, args ...any) {
	var halves []string
	for _, condition := range []string{one, other} {
		bound := w.bind(condition, args)
		for _, half := range w.either {
			halves = append(halves, half+" AND "+bound)
		}
		if w.either == nil {
			halves = append(halves, bound)
		}
	}
	w.either = halves
}

func (w *Where) bind(condition string, args []any) string {
	var b strings.Builder
	for _, part := range strings.SplitAfter(condition, "?") {
		before, placeholder := strings.CutSuffix(part, "?")
		b.WriteString(before)
		if placeholder {
			w.args = append(w.args, args[0])
			args = args[1:]
			b.WriteString("$" + strconv.Itoa(len(w.args)))
		}
	}
	return "(" + b.String() + ")"
}

func (w Where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// union selects from a table what either condition lets through; end follows each of the two.
func (w Where) union(columns, table, end string) string {
	halves := make([]string, len(w.either))
	for i, condition := range w.either {
		half := Where{conditions: append([]string{condition}, w.conditions...)}
		halves[i] = "(SELECT " + columns + " FROM " + table + half.sql() + end + ")"
	}
	return strings.Join(halves, " UNION ALL ")
}

// rows selects some of the rows that are let through, not regarding what is searched for.
func (w Where) rows(columns, table string, most int) string {
	limit := " LIMIT " + strconv.Itoa(most)
	if w.either == nil {
		return "SELECT " + columns + " FROM " + table + w.sql() + limit
	}
	return w.union(columns, table, limit) + limit
}

// count counts what is let through, up to one more than maxCount.
func (w Where) count(table string, most int) string {
	return "SELECT count(*) FROM (" + w.rows("1", table, most+1) + ") counted"
}

// Contains gives the ILIKE pattern for texts that contain s.
func Contains(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}

// Key is where a row stands in the list; a row type embeds it.
type Key struct {
	SortValue string `db:"sort_value"`
	SortID    string `db:"sort_id"`
}

func (k Key) key() Key { return k }

// Row is a row type that embeds a Key.
type Row interface{ key() Key }

// Select reads the page's rows, the given columns of each, and counts the rows that where lets through.
//
// All is planned for what is asked for: a plan for anything would have those of a user who has none looked for among all, in their order.
func Select[R Row](ctx context.Context, db *sqlx.DB, p Page, columns string, where Where) ([]R, rpc.Pagination, error) {
	var rows []R
	pagination := rpc.Pagination{Page: p.number, PageSize: p.size}
	err := postgres.InTx(ctx, db, func(tx *sqlx.Tx) error {
		// A bitmap has all that is let through, where the page and the count need the first of them. What a scan of the table takes depends on where in it they are.
		// For lists that are made of two the planner has found what is better of these. To compile a query, or to start others that share it, takes longer than reading a page.
		all := where.either != nil
		if _, err := tx.ExecContext(ctx, `SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
			set_config('enable_seqscan', $1::boolean::text, true), set_config('enable_bitmapscan', $1::boolean::text, true)`, all); err != nil {
			return err
		}
		read := func(query string, args []any) error {
			rows = nil
			if err := tx.SelectContext(ctx, &rows, query, args...); err != nil {
				return fmt.Errorf("list: %w", err)
			}
			return nil
		}
		count := func(counts any, query string, args []any) error {
			if err := tx.GetContext(ctx, counts, query, args...); err != nil {
				return fmt.Errorf("count: %w", err)
			}
			return nil
		}
		total := func() (n int, more bool, err error) {
			err = count(&n, where.count(p.table.From, maxCount), where.args)
			return min(n, maxCount), n > maxCount, err
		}
		if where.searches == nil {
			if err := read(p.query(columns, where)); err != nil {
				return err
			}
		} else {
			total = func() (int, bool, error) {
				var n struct{ Looked, Matched int }
				query, args := p.countSearched(where)
				err := count(&n, query, args)
				matched := min(n.Matched, maxSearched)
				if len(rows) > 0 { // and not behind the end
					matched = max(matched, p.before()+len(rows))
				}
				return matched, n.Looked > maxSearched, err
			}
			if err := read(p.walk(columns, where)); err != nil {
				return err
			}
			walked := 0
			if len(rows) <= p.size { // else it is common
				behind := p.behind(where)
				if err := count(&walked, behind.count(p.table.From, p.walked()), behind.args); err != nil {
					return err
				}
			}
			if walked > p.walked() {
				if _, err := tx.ExecContext(ctx, `SET LOCAL enable_bitmapscan = on`); err != nil {
					return err
				}
				looked, _ := where.searched()
				var n int
				if err := count(&n, looked.count(p.table.From, maxCount), looked.args); err != nil {
					return err
				}
				total = func() (int, bool, error) { return min(n, maxCount), n > maxCount, nil }
				query := p.query
				if n <= maxSorted {
					query = p.found
				}
				if err := read(query(columns, looked)); err != nil {
					return err
				}
			}
		}
		if len(rows) > p.size {
			rows = rows[:p.size]
			next := p.cursorAfter(rows[p.size-1].key())
			pagination.NextCursor = &next
		}
		if p.after == nil && pagination.NextCursor == nil && (p.before() == 0 || len(rows) > 0) {
			pagination.Total = p.before() + len(rows) // the list ends here
			return nil
		}
		var err error
		pagination.Total, pagination.TotalIsAtLeast, err = total()
		return err
	})
	if err != nil {
		return nil, rpc.Pagination{}, postgres.Translate(err)
	}
	pagination.TotalPages = (pagination.Total + p.size - 1) / p.size
	return rows, pagination, nil
}

// before is how many rows the pages before this one have, when it is asked for by its number.
func (p Page) before() int { return (p.number - 1) * p.size }

// offset is how many rows are left out: those before the page, unless a cursor says where it begins.
func (p Page) offset() int {
	if p.after != nil {
		return 0
	}
	return p.before()
}

// walked is how many rows a search looks through.
func (p Page) walked() int { return maxWalked + 2*p.offset() }

// behind adds that a row stands behind the cursor.
func (p Page) behind(where Where) Where {
	if p.after == nil {
		return where
	}
	compare := ">"
	if p.desc {
		compare = "<"
	}
	column := p.table.Columns[p.sort]
	cast := map[Kind]string{Text: "text", Time: "timestamptz", Integer: "bigint"}[column.Kind]
	where = where.clone()
	where.And("("+column.SQL+", "+p.table.ID+") "+compare+" (?::"+cast+", ?::uuid)", p.after.arg(column.Kind), p.after.ID)
	return where
}

func (p Page) order() string {
	direction := "ASC"
	if p.desc {
		direction = "DESC"
	}
	return " ORDER BY " + p.table.Columns[p.sort].SQL + " " + direction + ", " + p.table.ID + " " + direction
}

// limit has one row more than the page holds, to know whether another page follows.
func (p Page) limit() string {
	return " LIMIT " + strconv.Itoa(p.size+1) + " OFFSET " + strconv.Itoa(p.offset())
}

// inOrder selects the first rows of the list, in its order.
func (p Page) inOrder(where Where, most int) string {
	limit := " LIMIT " + strconv.Itoa(most)
	if where.either == nil {
		return "SELECT * FROM " + p.table.From + where.sql() + p.order() + limit
	}
	return "SELECT * FROM (" + where.union("*", p.table.From, p.order()+limit) + ") " + p.table.alias() + p.order() + limit
}

// query selects the page's rows from those that are let through, in their order.
func (p Page) query(columns string, where Where) (string, []any) {
	where = p.behind(where)
	from := p.table.From + where.sql()
	if where.either != nil {
		from = "(" + where.union("*", p.table.From, p.order()+" LIMIT "+strconv.Itoa(p.offset()+p.size+1)) + ") " + p.table.alias()
	}
	return p.columns(columns, "(SELECT * FROM "+from+p.order()+p.limit()+") "), where.args
}

// found selects the page's rows from all that are let through, which are found first and sorted then, whatever the planner takes a search for.
func (p Page) found(columns string, where Where) (string, []any) {
	where = p.behind(where)
	all := "SELECT * FROM " + p.table.From + where.sql()
	if where.either != nil {
		all = where.union("*", p.table.From, "")
	}
	return p.columns(columns, "(WITH found AS MATERIALIZED ("+all+") SELECT * FROM found "+p.table.alias()+p.order()+p.limit()+") "), where.args
}

// walk selects the page's rows from the first rows of the list, those that a search looks through.
func (p Page) walk(columns string, where Where) (string, []any) {
	where = p.behind(where)
	all, searches := where.searched()
	return p.columns(columns, "(SELECT * FROM ("+p.inOrder(where, p.walked())+") "+p.table.alias()+searches.sql()+p.order()+p.limit()+") "), all.args
}

// countSearched counts some rows, and those of them that a search lets through.
func (p Page) countSearched(where Where) (string, []any) {
	all, searches := where.searched()
	return "SELECT count(*) AS looked, count(*) FILTER (" + strings.TrimSpace(searches.sql()) + ") AS matched FROM (" + where.rows("*", p.table.From, maxSearched+1) + ") " + p.table.alias(), all.args
}

// columns selects the columns of rows, which are worked out for them alone.
func (p Page) columns(columns, rows string) string {
	return "SELECT " + columns + p.sortKey() + " FROM " + rows + p.table.alias() + p.table.join() + p.order()
}

func (p Page) sortKey() string {
	column := p.table.Columns[p.sort]
	value := column.SQL
	switch column.Kind {
	case Time:
		value = "(extract(epoch FROM " + column.SQL + ") * 1000000)::bigint::text"
	case Integer:
		value = column.SQL + "::text"
	}
	return ", " + value + " AS sort_value, " + p.table.ID + " AS sort_id"
}

// alias is the name by which columns know the rows.
func (t Table) alias() string {
	words := strings.Fields(t.From)
	return words[len(words)-1]
}

func (t Table) join() string {
	if t.Join == "" {
		return ""
	}
	return " " + t.Join
}

func (p Page) cursorAfter(last Key) string {
	order := "asc"
	if p.desc {
		order = "desc"
	}
	return cursor{Sort: p.sort, Order: order, Value: last.SortValue, ID: last.SortID, Page: min(p.number, math.MaxInt32-1) + 1}.encode()
}

// arg gives the cursor's value as the database takes it.
func (c cursor) arg(kind Kind) any {
	n, _ := strconv.ParseInt(c.Value, 10, 64) // fits has checked it
	switch kind {
	case Time:
		return time.UnixMicro(n).UTC()
	case Integer:
		return n
	}
	return c.Value
}
