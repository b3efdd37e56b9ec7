// Package listing reads pages of a table: by number or by an opaque cursor, sorted by one of
// a table's allowed columns, newest first unless asked otherwise.
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

	defaultSort  = "createdAt"
	defaultOrder = "desc"
)

// Kind is the type of a column that a list can be sorted by.
type Kind int

// The kinds of columns.
const (
	Text Kind = iota
	Time
)

// Column is a column, never null, that a list can be sorted by.
type Column struct {
	SQL  string
	Kind Kind
}

// Table says how a table is listed. Its texts become part of the SQL, so they are constants.
type Table struct {
	From    string            // the table, with its joins
	ID      string            // the uuid column that orders what sorts equal
	Columns map[string]Column // by the name a client gives; createdAt must be there
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
	page.sort = either(p.SortBy, defaultSort)
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
}

// And adds a condition in which each ? stands for one of args.
func (w *Where) And(condition string, args ...any) {
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
	w.conditions = append(w.conditions, "("+b.String()+")")
}

func (w Where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
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

// Select reads the page's rows, the given columns of each, and counts all rows that where lets through.
func Select[R Row](ctx context.Context, db sqlx.QueryerContext, p Page, columns string, where Where) ([]R, rpc.Pagination, error) {
	var total int
	if err := sqlx.GetContext(ctx, db, &total, "SELECT count(*) FROM "+p.table.From+where.sql(), where.args...); err != nil {
		return nil, rpc.Pagination{}, postgres.Translate(fmt.Errorf("count: %w", err))
	}
	query, args := p.query(columns, where)
	var rows []R
	if err := sqlx.SelectContext(ctx, db, &rows, query, args...); err != nil {
		return nil, rpc.Pagination{}, postgres.Translate(fmt.Errorf("list: %w", err))
	}
	pagination := rpc.Pagination{
		Page: p.number, PageSize: p.size, Total: total, TotalPages: (total + p.size - 1) / p.size,
	}
	if len(rows) > p.size {
		rows = rows[:p.size]
		next := p.cursorAfter(rows[p.size-1].key())
		pagination.NextCursor = &next
	}
	return rows, pagination, nil
}

// query selects one row more than the page holds, to know whether another page follows.
func (p Page) query(columns string, where Where) (string, []any) {
	column := p.table.Columns[p.sort]
	direction, compare := "ASC", ">"
	if p.desc {
		direction, compare = "DESC", "<"
	}
	where = Where{conditions: slices.Clone(where.conditions), args: slices.Clone(where.args)}
	value := column.SQL
	cast := "text"
	if column.Kind == Time {
		value = "(extract(epoch FROM " + column.SQL + ") * 1000000)::bigint::text"
		cast = "timestamptz"
	}
	offset := (p.number - 1) * p.size
	if p.after != nil {
		offset = 0
		where.And("("+column.SQL+", "+p.table.ID+") "+compare+" (?::"+cast+", ?::uuid)", p.after.arg(column.Kind), p.after.ID)
	}
	return "SELECT " + columns + ", " + value + " AS sort_value, " + p.table.ID + " AS sort_id" +
		" FROM " + p.table.From + where.sql() +
		" ORDER BY " + column.SQL + " " + direction + ", " + p.table.ID + " " + direction +
		" LIMIT " + strconv.Itoa(p.size+1) + " OFFSET " + strconv.Itoa(offset), where.args
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
	if kind == Text {
		return c.Value
	}
	us, _ := strconv.ParseInt(c.Value, 10, 64) // fits has checked it
	return time.UnixMicro(us).UTC()
}
