package listing

import (
	"slices"
	"strconv"
	"strings"
)

// Where collects the conditions of a list.
type Where struct {
	conditions []string
	args       []any
	either     []string
	looks      []look
}

// look is a condition of which nobody can tell beforehand how many rows it lets through.
type look struct {
	condition string
	args      []any
	indexed   bool
}

// And adds a condition in which each ? stands for one of args.
func (w *Where) And(condition string, args ...any) {
	w.conditions = append(w.conditions, w.bind(condition, args))
}

// Look adds a condition for which there is no index: rows are looked through for it.
func (w *Where) Look(condition string, args ...any) {
	w.looks = append(w.looks, look{condition: condition, args: args})
}

// Search adds that a condition, for which there is an index that has the table's few, holds for each of texts, which its ? stands for. Without any nothing is let through.
func (w *Where) Search(condition string, texts ...string) {
	if len(texts) == 0 {
		w.And("false")
	}
	for _, text := range texts {
		w.looks = append(w.looks, look{condition: condition, args: []any{text}, indexed: true})
	}
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

// Words gives the words of a text, as the search_words of a schema does: ASCII that is no letter or digit, and common punctuation beyond it, divides them.
func Words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			return false
		}
		return r <= '\u00bf' || '\u2000' <= r && r <= '\u206f' || '\u3000' <= r && r <= '\u303f'
	})
}

// Contains gives the ILIKE pattern for texts that contain s.
func Contains(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}

// clone gives a copy that can be added to.
func (w Where) clone() Where {
	return Where{conditions: slices.Clone(w.conditions), args: slices.Clone(w.args), either: w.either, looks: w.looks}
}

// looked binds what is looked for: to the other conditions, and alone.
func (w Where) looked() (all, alone Where) {
	all = w.clone()
	all.looks = nil
	for _, l := range w.looks {
		all.And(l.condition, l.args...)
	}
	return all, Where{conditions: all.conditions[len(w.conditions):]}
}

// found binds what is looked for so that the given searches alone are looked up in their indexes, and makes one condition of either.
func (w Where) found(rare []look) Where {
	all := w.clone()
	all.either, all.looks = nil, nil
	if w.either != nil {
		all.conditions = append(all.conditions, "("+strings.Join(w.either, " OR ")+")")
	}
	for _, l := range rare {
		all.And(l.condition, l.args...)
	}
	for _, l := range w.looks {
		all.And("("+l.condition+") IS TRUE", l.args...) // not in the words of an index
	}
	return all
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

// rows selects some of the rows that are let through, not regarding what is looked for.
func (w Where) rows(columns, table string, most int) string {
	limit := " LIMIT " + strconv.Itoa(most)
	if w.either == nil {
		return "SELECT " + columns + " FROM " + table + w.sql() + limit
	}
	return w.union(columns, table, limit) + limit
}

// count counts what is let through, up to one more than most.
func (w Where) count(table string, most int) string {
	return "SELECT count(*) FROM (" + w.rows("1", table, most+1) + ") counted"
}
