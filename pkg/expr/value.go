package expr

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A value is nil, bool, int64, float64 (finite), string (UTF-8), []any or object.

// object is in the order of its keys, which are different.
type object []member

type member struct {
	key   string
	value any
}

// maxDepth bounds how deep lists and objects nest where they are walked.
const maxDepth = 1000

var errTooDeep = fmt.Errorf("nests deeper than %d levels; flatten the value", maxDepth)

func (o object) get(key string) (any, bool) {
	i, ok := slices.BinarySearchFunc(o, key, func(m member, key string) int { return cmp.Compare(m.key, key) })
	if !ok {
		return nil, false
	}
	return o[i].value, true
}

// object makes an object of members in any order; of those with the same key the first counts.
func (r *run) object(members []member) (object, error) {
	sorted := true
	for i := 1; i < len(members) && sorted; i++ {
		sorted = members[i-1].key < members[i].key
	}
	if sorted {
		return members, nil
	}
	// A few are sorted by insertion.
	if n := len(members); n <= 12 {
		if err := r.spend(2 * n); err != nil {
			return nil, err
		}
		members = slices.Clone(members)
		slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.key, b.key) })
		return slices.CompactFunc(members, func(a, b member) bool { return a.key == b.key }), nil
	}
	if err := r.spend(len(members) * bits.Len(uint(len(members)))); err != nil {
		return nil, err
	}
	order := make([]int, len(members))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(members[a].key, members[b].key), cmp.Compare(a, b))
	})
	o := make(object, 0, len(members))
	for _, i := range order {
		if n := len(o); n == 0 || o[n-1].key != members[i].key {
			o = append(o, members[i])
		}
	}
	return o, nil
}

// kind names the kind of a value in errors.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

func wants(what string, v any) error { return fmt.Errorf("wants %s, not %s", what, kind(v)) }

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}

func finite(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("gives no finite number; check for zero and for large numbers first")
	}
	return f, nil
}

// whole gives a number without a fraction as an integer.
func whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), n == math.Trunc(n) && n >= -1<<63 && n < 1<<63
	default:
		return 0, false
	}
}

// equal compares by value; numbers of either kind by what they are.
func (r *run) equal(a, b any) (bool, error) { return r.equalAt(a, b, 0) }

func (r *run) equalAt(a, b any, depth int) (bool, error) {
	if depth > maxDepth {
		return false, errTooDeep
	}
	if err := r.spend(1); err != nil {
		return false, err
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case bool:
		b, ok := b.(bool)
		return ok && a == b, nil
	case string:
		b, ok := b.(string)
		if !ok || len(a) != len(b) {
			return false, nil
		}
		return a == b, r.spend(len(a) / 64)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false, nil
		}
		for i := range a {
			if same, err := r.equalAt(a[i], b[i], depth+1); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case object:
		b, ok := b.(object)
		if !ok || len(a) != len(b) {
			return false, nil
		}
		for i := range a {
			same, err := r.equalAt(a[i].key, b[i].key, depth+1)
			if same && err == nil {
				same, err = r.equalAt(a[i].value, b[i].value, depth+1)
			}
			if !same || err != nil {
				return false, err
			}
		}
		return true, nil
	default:
		if _, ok := number(b); !ok {
			return false, nil
		}
		n, err := r.compare(a, b)
		return n == 0, err
	}
}

// compare orders two numbers or two strings.
func (r *run) compare(a, b any) (int, error) {
	if err := r.spend(1); err != nil {
		return 0, err
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y), r.spend(min(len(x), len(y)) / 64)
		}
	}
	if x, ok := a.(int64); ok {
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y), nil
		}
	}
	x, ok := number(a)
	y, too := number(b)
	if !ok || !too {
		return 0, fmt.Errorf("cannot compare %s with %s; give both a value with ?? or convert one with int(), float() or string()", kind(a), kind(b))
	}
	return cmp.Compare(x, y), nil
}

// decode makes a value of JSON.
func (r *run) decode(raw json.RawMessage) (any, error) {
	if err := r.spendBytes(len(raw)); err != nil {
		return nil, err
	}
	if !json.Valid(raw) {
		return nil, errors.New("is no JSON; correct the text")
	}
	d := decoder{run: r, raw: raw}
	return d.value()
}

// decoder reads valid JSON.
type decoder struct {
	run *run
	raw []byte
	at  int
}

// next steps over white space and gives the character there.
func (d *decoder) next() byte {
	for {
		switch c := d.raw[d.at]; c {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return c
		}
	}
}

func (d *decoder) value() (any, error) {
	c, steps := d.next(), 1
	if c == '{' || c == '[' {
		steps = 3
	}
	if err := d.run.spend(steps); err != nil {
		return nil, err
	}
	switch c {
	case '{':
		return d.object()
	case '[':
		return d.list()
	case '"':
		return d.text()
	case 't':
		d.at += len("true")
		return true, nil
	case 'f':
		d.at += len("false")
		return false, nil
	case 'n':
		d.at += len("null")
		return nil, nil
	default:
		return d.number()
	}
}

func (d *decoder) list() (any, error) {
	list := []any{}
	for d.at++; d.next() != ']'; {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		if err := d.run.spend(1); err != nil {
			return nil, err
		}
		if len(list) == cap(list) {
			list = slices.Grow(list, len(list)+4)
		}
		list = append(list, v)
		if d.next() == ',' {
			d.at++
		}
	}
	d.at++
	return list, nil
}

func (d *decoder) object() (any, error) {
	var members []member
	for d.at++; d.next() != '}'; {
		key, err := d.text()
		if err != nil {
			return nil, err
		}
		d.next()
		d.at++ // the colon
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		if err := d.run.spend(2); err != nil {
			return nil, err
		}
		members = append(members, member{key, v})
		if d.next() == ',' {
			d.at++
		}
	}
	d.at++
	return d.run.object(members)
}

func (d *decoder) text() (string, error) {
	start, escaped := d.at, false
	for d.at++; d.raw[d.at] != '"'; d.at++ {
		if d.raw[d.at] == '\\' {
			escaped = true
			d.at++
		}
	}
	d.at++
	if body := d.raw[start+1 : d.at-1]; !escaped && utf8.Valid(body) {
		return string(body), nil
	}
	if err := d.run.spend(10); err != nil {
		return "", err
	}
	var s string
	err := json.Unmarshal(d.raw[start:d.at], &s)
	return s, err
}

func (d *decoder) number() (any, error) {
	start := d.at
	for d.at < len(d.raw) && inNumber(d.raw[d.at]) {
		d.at++
	}
	return parseNumber(string(d.raw[start:d.at]))
}

func inNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// parseNumber reads a number of JSON.
func parseNumber(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, errors.New("holds a number that is out of range; make it a string")
	}
	return f, nil
}

// encode writes a value as JSON with sorted keys.
func (r *run) encode(b *bytes.Buffer, v any) error {
	text := json.NewEncoder(b)
	text.SetEscapeHTML(false)
	return r.encodeAt(b, text, v, 0)
}

func (r *run) encodeAt(b *bytes.Buffer, text *json.Encoder, v any, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if err := r.spend(1); err != nil {
		return err
	}
	scalar := func(v any) error {
		err := text.Encode(v)
		b.Truncate(max(0, b.Len()-1)) // the line end
		return err
	}
	switch v := v.(type) {
	case string:
		if err := r.spendBytes(len(v)); err != nil {
			return err
		}
		if plain(v) {
			b.WriteByte('"')
			b.WriteString(v)
			b.WriteByte('"')
			return nil
		}
		if err := r.spend(5 + len(v)/8); err != nil {
			return err
		}
		return scalar(v)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := r.encodeAt(b, text, item, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := r.encodeAt(b, text, m.key, depth+1); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := r.encodeAt(b, text, m.value, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	default:
		if err := r.spend(3); err != nil {
			return err
		}
		return scalar(v)
	}
	return nil
}

// plain tells whether a string stands for itself in JSON.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// text gives a string as it is and any other value as JSON.
func (r *run) text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), r.spend(2)
	default:
		return r.json(v)
	}
}

func (r *run) json(v any) (string, error) {
	if err := r.spend(10); err != nil {
		return "", err
	}
	var b bytes.Buffer
	err := r.encode(&b, v)
	return b.String(), err
}
