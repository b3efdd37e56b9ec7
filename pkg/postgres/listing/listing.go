// Package listing reads pages of a table: by number or by an opaque cursor, sorted by one of
// a table's allowed columns, newest first unless asked otherwise.
//
// A page costs what an index finds it for, however large the table is: rows beyond maxCount are
// not counted, and what is joined is joined to the rows of the page alone. Of what is searched for
// nobody can tell beforehand how common it is. A sample of the table tells: what is rare is looked up
// in the index of the search and sorted; for anything else the rows of the list are looked through in
// their order, maxLooked for a page. Such a page may have fewer rows than it could, even none, and its
// cursor goes on where they end.
package listing

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100
	maxPage         = 1_000_000
	maxSearch       = 200
	// maxCount is up to where rows are counted.
	maxCount = 10_000
	// maxLooked is how many rows are looked through for a page, beside twice those that a page by its number leaves out.
	maxLooked = 4000
	// maxFound is how many rows that a search's index has found are sorted.
	maxFound = 4000
	// maxSearched is among how many rows those are counted that are looked for.
	maxSearched = 2000
	// What one in so many rows of a sample has at most is rare; sampledPages are the pages of the sample.
	oneIn        = 200
	sampledPages = 128

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
