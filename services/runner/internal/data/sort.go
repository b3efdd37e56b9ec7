package data

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// sorting orders rows by several fields; rows that are equal in all keep their order.
type sorting struct{ by []order }

type order struct {
	field path
	desc  bool
}

func parseSorting(o *form.Object, faults *form.Faults) operation {
	var s sorting
	list, ok := o.List("sort")
	if len(list) == 0 && (ok || !o.Has("sort")) {
		faults.Add(o.At("sort"), `must name at least one field, like [{"field":"name","direction":"asc"}]`)
	}
	if len(list) > maxSortFields {
		faults.Add(o.At("sort"), "names %d fields; at most %d are allowed", len(list), maxSortFields)
		return s
	}
	for _, v := range list {
		if e, ok := v.Object(faults); ok {
			s.by = append(s.by, order{
				field: parseField(e, "field", faults),
				desc:  e.OneOf("direction", "asc", "asc", "desc") == "desc",
			})
			e.Done()
		}
	}
	return s
}

// Ranks of values of different types. A direction turns the order within a rank, never
// that of the ranks, so nulls stay last.
const (
	rankNumber uint8 = iota
	rankString
	rankBool
	rankMissing
)

// key is the value of one field of one row.
type key struct {
	rank   uint8
	number float64
	text   string // of a string its value, else the raw JSON
}

const (
	keyBytes      = 32
	maxSortFields = 16
)

func (s sorting) apply(w *work, rows []string) ([]string, error) {
	if err := w.making(len(rows) * (len(s.by) - 1) * keyBytes); err != nil {
		return nil, err
	}
	keys := make([]key, 0, len(rows)*len(s.by))
	for i, row := range rows {
		r := gjson.Parse(row)
		for _, by := range s.by {
			if err := w.reading(row); err != nil {
				return nil, err
			}
			v, ok, problem := by.field.find(r)
			k := key{rank: rankMissing, number: v.Num, text: v.Raw}
			switch {
			case problem != "":
			case missing(v, ok):
			case v.Type == gjson.Number:
				k.rank = rankNumber
			case v.Type == gjson.String:
				k.rank, k.text = rankString, v.Str
			case v.IsBool():
				k.rank = rankBool
			default:
				problem = "is " + form.Kind(v) + ", which has no order"
			}
			if problem != "" {
				return nil, &rowFault{row: i, field: by.field.Text, problem: problem}
			}
			keys = append(keys, k)
		}
	}
	places := make([]int, len(rows))
	for i := range places {
		places[i] = i
	}
	n := len(s.by)
	var ended error
	slices.SortFunc(places, func(a, b int) int {
		if ended == nil {
			ended = w.reading("")
		}
		if ended != nil {
			return 0
		}
		for i, by := range s.by {
			if c := keys[a*n+i].compare(keys[b*n+i], by.desc); c != 0 {
				return c
			}
		}
		return cmp.Compare(a, b)
	})
	if ended != nil {
		return nil, ended
	}
	sorted := make([]string, len(rows))
	for i, place := range places {
		sorted[i] = rows[place]
	}
	return sorted, nil
}

func (k key) compare(l key, desc bool) int {
	if k.rank != l.rank || k.rank == rankMissing {
		return cmp.Compare(k.rank, l.rank)
	}
	var c int
	switch k.rank {
	case rankNumber:
		c = compareNumbers(k.number, k.text, l.number, l.text)
	default:
		c = strings.Compare(k.text, l.text) // also puts false before true
	}
	if desc {
		return -c
	}
	return c
}
