package listing

import (
	"context"
	"fmt"
	"math"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
)

// Key is where a row stands in the list; a row type embeds it.
type Key struct {
	SortValue string `db:"sort_value"`
	SortID    string `db:"sort_id"`
	Found     int    `db:"found"` // how many rows a search's index has found
}

func (k Key) key() Key { return k }

// Row is a row type that embeds a Key.
type Row interface{ key() Key }

// How queries are planned within the transaction.
const (
	// For what is asked for: a plan for anything would have those of a user who has none looked for among all, in their order. To compile a query, or to start others that
	// share it, takes longer than reading a page.
	planned = `SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0`
	// A bitmap has all that is let through, where the page and the count need the first of them. What a scan of the table takes depends on where in it they are.
	// By the costs of pages an index that has many rows as they lie would be preferred to the one that has the list alone.
	inOrder = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL seq_page_cost = 0.01; SET LOCAL random_page_cost = 0.01`
	// The index of a search has bitmaps only.
	bySearches = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = on`
)

// Select reads the page's rows, the given columns of each, and counts the rows that where lets through.
func Select[R Row](ctx context.Context, db *sqlx.DB, p Page, columns string, where Where) ([]R, rpc.Pagination, error) {
	var read part[R]
	err := postgres.InTx(ctx, db, func(tx *sqlx.Tx) (err error) {
		s := selection[R]{ctx: ctx, tx: tx, page: p, columns: columns, where: where}
		if err := s.plan(planned); err != nil {
			return err
		}
		if where.looks == nil {
			read, err = s.ordered()
		} else {
			read, err = s.searched()
		}
		return err
	})
	if err != nil {
		return nil, rpc.Pagination{}, postgres.Translate(err)
	}
	pagination := rpc.Pagination{Page: p.number, PageSize: p.size, Total: read.total, TotalPages: (read.total + p.size - 1) / p.size, TotalIsAtLeast: read.atLeast}
	if read.next != nil {
		next := p.cursorAfter(*read.next, len(read.rows))
		pagination.NextCursor = &next
	}
	return read.rows, pagination, nil
}

// part is what was read of a list for a page.
type part[R Row] struct {
	rows    []R
	next    *Key // behind which the next page begins; nil at the end of the list
	total   int
	atLeast bool
}

// selection reads a page within a transaction.
type selection[R Row] struct {
	ctx     context.Context
	tx      *sqlx.Tx
	page    Page
	columns string
	where   Where
}

func (s selection[R]) plan(how string) error {
	_, err := s.tx.ExecContext(s.ctx, how)
	return err
}

// ordered reads the page of a list that indexes have in its order.
func (s selection[R]) ordered() (part[R], error) {
	if err := s.plan(inOrder); err != nil {
		return part[R]{}, err
	}
	read, err := s.read(s.page.query(s.columns, s.where))
	if err != nil || read.next == nil && s.page.after == nil && (s.page.before() == 0 || len(read.rows) > 0) {
		return read, err // the list ends here
	}
	n, err := s.count(s.where, maxCount)
	read.total, read.atLeast = min(n, maxCount), n > maxCount
	return read, err
}

// searched reads the page of a list in which something is looked for.
func (s selection[R]) searched() (part[R], error) {
	rare, err := s.rare()
	if err != nil {
		return part[R]{}, err
	}
	if rare != nil {
		if read, err := s.found(rare); err != nil || read.total <= maxFound {
			return read, err
		}
	}
	return s.looked()
}

// rare gives the searches that let through so few rows of a sample that their index has them at once.
func (s selection[R]) rare() (rare []look, err error) {
	asked, query, args := s.page.sample(s.where)
	if asked == nil {
		return nil, nil
	}
	var counts pq.Int64Array
	if err := s.tx.GetContext(s.ctx, &counts, query, args...); err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	for i, l := range asked {
		if counts[i+1]*oneIn <= counts[0] {
			rare = append(rare, l)
		}
	}
	return rare, nil
}

// found reads the page from what the indexes of searches find. When that is more than maxFound rows, it is of no use.
func (s selection[R]) found(rare []look) (part[R], error) {
	if err := s.plan(bySearches); err != nil {
		return part[R]{}, err
	}
	where := s.where.found(rare)
	read, err := s.read(s.page.found(s.columns, where))
	if err != nil {
		return read, err
	}
	switch {
	case len(read.rows) > 0:
		read.total = read.rows[0].key().Found
	case s.page.before() > 0: // and the page is behind the last
		read.total, err = s.count(where, maxFound)
	}
	return read, err
}

// looked reads the page from the first rows of the list, in its order.
func (s selection[R]) looked() (part[R], error) {
	if err := s.plan(inOrder); err != nil {
		return part[R]{}, err
	}
	read, err := s.read(s.page.look(s.columns, s.where))
	if err != nil {
		return read, err
	}
	most := maxSearched + 1
	if read.next == nil {
		var last []Key
		query, args := s.page.last(s.where)
		if err := s.tx.SelectContext(s.ctx, &last, query, args...); err != nil {
			return read, fmt.Errorf("look: %w", err)
		}
		if len(last) > 0 {
			read.next, read.atLeast = &last[0], true
		}
		if len(read.rows) > 0 || s.page.offset() == 0 {
			return read, nil
		}
		read.total, most = 0, s.page.most() // the page is behind the last
	}
	var n struct{ Looked, Matched int }
	query, args := s.page.countLooked(s.where, most)
	if err := s.tx.GetContext(s.ctx, &n, query, args...); err != nil {
		return read, fmt.Errorf("count: %w", err)
	}
	read.total, read.atLeast = max(read.total, n.Matched), n.Looked == most
	return read, nil
}

// read reads the page's rows; the one behind them tells that another page follows.
func (s selection[R]) read(query string, args []any) (part[R], error) {
	var rows []R
	if err := s.tx.SelectContext(s.ctx, &rows, query, args...); err != nil {
		return part[R]{}, fmt.Errorf("list: %w", err)
	}
	read := part[R]{rows: rows}
	if len(rows) > s.page.size {
		read.rows = rows[:s.page.size]
		last := rows[s.page.size-1].key()
		read.next = &last
	}
	read.total = s.page.before() + len(read.rows)
	return read, nil
}

// count counts the rows that are let through, up to one more than most.
func (s selection[R]) count(where Where, most int) (n int, err error) {
	if err := s.tx.GetContext(s.ctx, &n, where.count(s.page.table.From, most), where.args...); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// cursorAfter gives the cursor to what stands behind a row, of a page that has n rows.
func (p Page) cursorAfter(last Key, n int) string {
	order := "asc"
	if p.desc {
		order = "desc"
	}
	return cursor{
		Sort: p.sort, Order: order, Value: last.SortValue, ID: last.SortID, Page: min(p.number, math.MaxInt32-1) + 1, Before: min(p.before()+n, math.MaxInt32),
	}.encode()
}
