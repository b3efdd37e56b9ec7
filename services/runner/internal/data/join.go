package data

import (
	"bytes"

	"github.com/tidwall/gjson"

	"turbocat.io/services/runner/internal/form"
)

// joining puts together the rows and those of another input that have the same key. The
// rows keep their order, matches that of the other input; what only the other input has
// (right, full) comes last. An absent or null key matches nothing.
type joining struct {
	left, right bool // rows without a match are kept
	with        string
	leftKey     path
	rightKey    path
	prefix      string
}

var joinTypes = []string{"inner", "left", "right", "full"}

func parseJoining(o *form.Object, faults *form.Faults) operation {
	kind := o.OneOf("type", "inner", joinTypes...)
	j := joining{
		left:     kind == "left" || kind == "full",
		right:    kind == "right" || kind == "full",
		with:     o.Required("with", "name the input that holds the other rows"),
		leftKey:  parseField(o, "leftKey", faults),
		rightKey: parseField(o, "rightKey", faults),
		prefix:   o.String("prefix", "right_"),
	}
	if j.prefix == "" {
		faults.Add(o.At("prefix"), "must not be empty; it tells apart fields that both rows have")
	}
	return j
}

func (j joining) apply(w *work, rows []string) ([]string, error) {
	others, err := w.others(j.with)
	if err != nil {
		return nil, err
	}
	matches := map[string][]int{}
	for i, other := range others {
		id, err := joinKey(w, []path{j.rightKey}, other, rowFault{of: j.with, row: i})
		if err != nil {
			return nil, err
		}
		if id != "" {
			matches[id] = append(matches[id], i)
		}
	}
	made := make([]string, 0, len(rows))
	keep := func(row string) error {
		made = append(made, row)
		return w.making(len(row))
	}
	matched := make([]bool, len(others))
	m := merger{prefix: j.prefix, quotedPrefix: unquoted(j.prefix), taken: map[string]bool{}}
	for i, row := range rows {
		id, err := joinKey(w, []path{j.leftKey}, row, rowFault{row: i})
		if err != nil {
			return nil, err
		}
		found := matches[id]
		if len(found) > 0 {
			m.begin(row)
		} else if j.left {
			err = keep(row)
		}
		for _, n := range found {
			matched[n] = true
			if err = w.reading(others[n]); err == nil {
				err = keep(m.merge(others[n]))
			}
			if err != nil {
				return nil, err
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for i, other := range others {
		if j.right && !matched[i] {
			if err := keep(other); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

// joinKey gives the identity of the key of a row; "" when it matches nothing.
func joinKey(w *work, by []path, row string, at rowFault) (string, error) {
	r := gjson.Parse(row)
	if !r.IsObject() {
		at.problem = "the row is " + form.Kind(r) + ", not an object"
		return "", &at
	}
	var id []byte
	for _, p := range by {
		if err := w.reading(row); err != nil {
			return "", err
		}
		v, ok, _ := p.find(r)
		if missing(v, ok) {
			return "", nil
		}
		if id, ok = identity(id, v); !ok {
			at.field, at.problem = p.Text, tooDeep
			return "", &at
		}
	}
	return string(id), w.reading("")
}

// merger puts the fields of other rows behind those of one row.
type merger struct {
	prefix       string
	quotedPrefix string   // as JSON, without the quotes
	head         string   // the row without its closing brace
	names        []string // of the row's fields
	taken        map[string]bool
	out          bytes.Buffer
}

func (m *merger) begin(row string) {
	m.names = m.names[:0]
	gjson.Parse(row).ForEach(func(key, _ gjson.Result) bool {
		m.names = append(m.names, key.Str)
		return true
	})
	m.head = row[:len(row)-1]
}

// merge gives the row with the other's fields; where both have a name, the other's gets the
// prefix as often as it takes to be alone.
func (m *merger) merge(other string) string {
	if len(m.taken) > 1024 { // emptying a large map takes long, even when little is in it
		m.taken = map[string]bool{}
	}
	clear(m.taken)
	for _, name := range m.names {
		m.taken[name] = true
	}
	fields := gjson.Parse(other)
	fields.ForEach(func(key, _ gjson.Result) bool {
		if !m.taken[key.Str] {
			m.taken[key.Str] = false
		}
		return true
	})
	m.out.Reset()
	m.out.WriteString(m.head)
	comma := len(m.names) > 0
	fields.ForEach(func(key, value gjson.Result) bool {
		quoted := key.Raw
		if m.taken[key.Str] {
			quoted = m.rename(key)
		}
		if comma {
			m.out.WriteByte(',')
		}
		comma = true
		m.out.WriteString(quoted)
		m.out.WriteByte(':')
		m.out.WriteString(value.Raw)
		return true
	})
	m.out.WriteByte('}')
	return m.out.String()
}

// rename gives the first free name for a key, as JSON.
func (m *merger) rename(key gjson.Result) string {
	name, quoted := key.Str, key.Raw[1:]
	for {
		name, quoted = m.prefix+name, m.quotedPrefix+quoted
		if _, taken := m.taken[name]; !taken {
			m.taken[name] = false
			return `"` + quoted
		}
	}
}

// unquoted gives s as it stands between the quotes of a JSON string.
func unquoted(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}
