package data

import (
	"github.com/tidwall/gjson"

	"turbocat.io/pkg/fieldpath"
	"turbocat.io/services/runner/internal/form"
)

// unique keeps the first, or the last, of the rows that are equal in some fields or as a
// whole; what is kept stays in order. An absent field counts as null.
type unique struct {
	by   []path
	last bool
}

func parseUnique(o *form.Object, faults *form.Faults) operation {
	u := unique{last: o.OneOf("keep", "first", "first", "last") == "last"}
	if list, ok := o.List("fields"); ok {
		u.by = parseFields(list, o.At("fields"), parsePath, faults)
	} else {
		u.by = []path{{Path: fieldpath.Path{Text: fieldpath.Self}}}
	}
	return u
}

func (u unique) apply(w *work, rows []string) ([]string, error) {
	places := map[string]int{} // of what is kept, by identity
	kept := make([]int, 0, len(rows))
	id := make([]byte, 0, 64)
	for i, row := range rows {
		r := gjson.Parse(row)
		var err error
		if id, err = identityOf(w, id[:0], u.by, r); err != nil {
			return nil, inRow(i, err)
		}
		at, known := places[string(id)]
		switch {
		case !known:
			if err := w.making(len(id)); err != nil {
				return nil, err
			}
			places[string(id)] = len(kept)
			kept = append(kept, i)
		case u.last:
			kept[at] = -1
			places[string(id)] = len(kept)
			kept = append(kept, i)
		}
	}
	made := make([]string, 0, len(kept))
	for _, i := range kept {
		if i >= 0 {
			made = append(made, rows[i])
		}
	}
	return made, nil
}

// identityOf appends what is the same for rows that are equal in the fields, and for no others.
func identityOf(w *work, id []byte, by []path, r gjson.Result) ([]byte, error) {
	for _, f := range by {
		if err := w.reading(r.Raw); err != nil {
			return id, err
		}
		v, ok, problem := f.find(r)
		if missing(v, ok) {
			v = gjson.Result{}
		}
		if problem == "" {
			if id, ok = identity(id, v); !ok {
				problem = tooDeep
			}
		}
		if problem != "" {
			return id, &rowFault{field: f.Text, problem: problem}
		}
	}
	return id, nil
}
