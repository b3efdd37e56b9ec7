package listing

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSampled is of how many texts that are searched for a sample tells how common they are: of the longest, which are the rarest as a rule.
const maxSampled = 8

// before is how many rows the pages before this one have.
func (p Page) before() int {
	if p.after != nil {
		return p.after.Before
	}
	return (p.number - 1) * p.size
}

// offset is how many rows are left out: those before the page, unless a cursor says where it begins.
func (p Page) offset() int {
	if p.after != nil {
		return 0
	}
	return p.before()
}

// most is how many rows are looked through.
func (p Page) most() int { return maxLooked + 2*p.offset() }

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

// sample counts some rows of the table, and how many of them each of the searches lets through that are asked about.
func (p Page) sample(where Where) (asked []look, query string, args []any) {
	for _, l := range where.looks {
		if l.indexed {
			asked = append(asked, l)
		}
	}
	slices.SortStableFunc(asked, func(a, b look) int { return cmp.Compare(len(b.args[0].(string)), len(a.args[0].(string))) })
	asked = asked[:min(len(asked), maxSampled)]
	var bound Where
	counts := "count(*)"
	for _, l := range asked {
		counts += ", count(*) FILTER (WHERE " + bound.bind(l.condition, l.args) + ")"
	}
	name, _, _ := strings.Cut(p.table.From, " ")
	// Whole pages of the table, always the same ones.
	return asked, "SELECT ARRAY[" + counts + "] FROM " + p.table.From + " TABLESAMPLE SYSTEM (least(100, 100.0 * " + strconv.Itoa(sampledPages) +
		" / greatest(1, pg_relation_size('" + name + "') / 8192))) REPEATABLE (0)", bound.args
}

// found selects the page's rows from all that are let through, which are found first and sorted then, whatever the planner takes a search for, and counts these.
func (p Page) found(columns string, where Where) (string, []any) {
	behind := p.behind(Where{args: where.args})
	found := "WITH found AS MATERIALIZED (" + where.rows(p.table.Columns[p.sort].SQL+", "+p.table.ID, p.table.From, maxFound+1) + ") "
	ids := "SELECT " + p.table.ID + " FROM found " + p.table.alias() + behind.sql() + p.order() + p.limit()
	return found + p.columns(columns+", (SELECT count(*) FROM found) AS found", "(SELECT * FROM "+p.table.From+" WHERE "+p.table.ID+" = ANY (ARRAY("+ids+"))) "), behind.args
}

// look selects the page's rows from the first rows of the list, those that are looked through.
func (p Page) look(columns string, where Where) (string, []any) {
	all, alone := p.behind(where).looked()
	return p.columns(columns, "(SELECT * FROM ("+p.inOrder(p.behind(where), p.most())+") "+p.table.alias()+alone.sql()+p.order()+p.limit()+") "), all.args
}

// last selects where the last row stands that is looked through; none when the list ends before.
func (p Page) last(where Where) (string, []any) {
	where = p.behind(where)
	return "SELECT " + p.key() + " FROM (" + p.inOrder(where, p.most()) + ") " + p.table.alias() + p.order() + " LIMIT 1 OFFSET " + strconv.Itoa(p.most()-1), where.args
}

// countLooked counts some rows, and those of them that have what is looked for.
func (p Page) countLooked(where Where, most int) (string, []any) {
	all, alone := where.looked()
	return "SELECT count(*) AS looked, count(*) FILTER (" + strings.TrimSpace(alone.sql()) + ") AS matched FROM (" + where.rows("*", p.table.From, most) + ") " + p.table.alias(), all.args
}

// columns selects the columns of rows, which are worked out for them alone.
func (p Page) columns(columns, rows string) string {
	return "SELECT " + columns + ", " + p.key() + " FROM " + rows + p.table.alias() + p.table.join() + p.order()
}

// key has the columns of a Key.
func (p Page) key() string {
	column := p.table.Columns[p.sort]
	value := column.SQL
	switch column.Kind {
	case Time:
		value = "(extract(epoch FROM " + column.SQL + ") * 1000000)::bigint::text"
	case Integer:
		value = column.SQL + "::text"
	}
	return value + " AS sort_value, " + p.table.ID + " AS sort_id"
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
