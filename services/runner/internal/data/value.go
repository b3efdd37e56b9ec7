package data

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxDepth is how deep arrays and objects are compared.
const maxDepth = 64

const tooDeep = "is nested too deep to compare"

// missing tells whether a looked up value is absent or null, which mean the same to all
// operations but the operator exists.
func missing(v gjson.Result, ok bool) bool { return !ok || v.Type == gjson.Null }

// identity appends bytes that are the same for equal values and for no others: 1 and 1.0
// are equal, so are objects whose keys stand in another order. False when v is too deep.
func identity(b []byte, v gjson.Result) ([]byte, bool) { return identityAt(b, v, 0) }

func identityAt(b []byte, v gjson.Result, depth int) ([]byte, bool) {
	switch {
	case v.Type == gjson.Null:
		return append(b, 'n'), true
	case v.Type == gjson.True:
		return append(b, 't'), true
	case v.Type == gjson.False:
		return append(b, 'f'), true
	case v.Type == gjson.Number:
		return appendNumber(append(b, '#'), v.Raw), true
	case v.Type == gjson.String:
		return appendText(b, v.Str), true
	case depth == maxDepth:
		return b, false
	case v.IsArray():
		b, ok := append(b, '['), true
		v.ForEach(func(_, e gjson.Result) bool {
			b, ok = identityAt(b, e, depth+1)
			return ok
		})
		return append(b, ']'), ok
	}
	type entry struct {
		key   string
		value gjson.Result
	}
	var entries []entry
	v.ForEach(func(key, value gjson.Result) bool {
		entries = append(entries, entry{key.Str, value})
		return true
	})
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	b = append(b, '{')
	for _, e := range entries {
		var ok bool
		if b, ok = identityAt(appendText(b, e.key), e.value, depth+1); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

// appendNumber appends the one spelling of a number: integers of up to 18 digits as they
// are, all others as their digits and where the point stands.
func appendNumber(b []byte, raw string) []byte {
	const plain = 18
	if len(raw) <= plain && !strings.ContainsAny(raw, ".eE") && raw != "-0" {
		return append(b, raw...)
	}
	d := parseDecimal(raw)
	if d.negative {
		b = append(b, '-')
	}
	zeros := d.point - len(d.digits)
	switch {
	case d.digits == "":
		return append(b, '0')
	case zeros >= 0 && d.point <= plain:
		return append(append(b, d.digits...), strings.Repeat("0", zeros)...)
	default:
		return strconv.AppendInt(append(append(b, d.digits...), 'e'), int64(d.point), 10)
	}
}

// decimal is a number as 0.digits times ten to the power of point; no digits mean zero.
type decimal struct {
	negative bool
	digits   string // neither begins nor ends with 0
	point    int
}

// parseDecimal reads a JSON number exactly, however long it is.
func parseDecimal(raw string) decimal {
	var d decimal
	raw, d.negative = strings.CutPrefix(raw, "-")
	if e := strings.IndexAny(raw, "eE"); e >= 0 {
		d.point = exponent(raw[e+1:])
		raw = raw[:e]
	}
	whole, fraction, _ := strings.Cut(raw, ".")
	d.point += len(whole)
	digits := whole + fraction
	d.digits = strings.TrimLeft(digits, "0")
	d.point -= len(digits) - len(d.digits)
	d.digits = strings.TrimRight(d.digits, "0")
	if d.digits == "" {
		return decimal{}
	}
	return d
}

// exponent reads the exponent of a number; beyond all use it is cut, lest the sum overflow.
func exponent(s string) int {
	const limit = 1 << 40
	n, err := strconv.Atoi(s)
	if err != nil && strings.HasPrefix(s, "-") {
		return -limit
	}
	if err != nil {
		return limit
	}
	return max(-limit, min(limit, n))
}

// compareNumbers orders two JSON numbers by their exact values; a and b are the nearest
// floats, infinite when there is none.
func compareNumbers(a float64, rawA string, b float64, rawB string) int {
	if c := cmp.Compare(a, b); c != 0 {
		return c
	}
	// Different numbers of up to 15 digits are different floats within this range.
	size := math.Abs(a)
	if rawA == rawB || len(rawA) <= 15 && len(rawB) <= 15 && size > 1e-290 && size < 1e290 {
		return 0
	}
	return parseDecimal(rawA).compare(parseDecimal(rawB))
}

func (d decimal) compare(e decimal) int {
	if d.digits == "" || e.digits == "" || d.negative != e.negative {
		return cmp.Compare(d.sign(), e.sign())
	}
	c := cmp.Compare(d.point, e.point)
	if c == 0 {
		c = strings.Compare(d.digits, e.digits)
	}
	return c * d.sign()
}

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	default:
		return 1
	}
}

// equal tells whether two values are the same, numbers by value; false also when they are
// nested too deep to tell, with ok false.
func equal(a, b gjson.Result) (same, ok bool) {
	switch {
	case a.Type != b.Type:
		return false, true
	case a.Type == gjson.Number:
		return compareNumbers(a.Num, a.Raw, b.Num, b.Raw) == 0, true
	case a.Type == gjson.String:
		return a.Str == b.Str, true
	case a.Type != gjson.JSON || a.Raw == b.Raw:
		return true, true
	case a.IsArray() != b.IsArray():
		return false, true
	}
	x, okA := identity(nil, a)
	y, okB := identity(nil, b)
	return okA && okB && string(x) == string(y), okA && okB
}

// quote gives s as a JSON string.
func quote(s string) string { return string(appendQuoted(nil, s)) }

func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendEscaped(b []byte, s string) []byte {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return append(b, bytes.TrimSpace(text.Bytes())...)
}

// computed makes the value of a string that stands in no row; its JSON is written when it is needed.
func computed(s string) gjson.Result { return gjson.Result{Type: gjson.String, Str: s} }

// appendValue appends the JSON of a value, of a found or of a computed one.
func appendValue(b []byte, v gjson.Result) []byte {
	switch {
	case v.Raw != "":
		return append(b, v.Raw...)
	case v.Type == gjson.String:
		return appendQuoted(b, v.Str)
	default:
		return append(b, "null"...)
	}
}

// plain gives the text of a string, a number or a boolean.
func plain(v gjson.Result) (string, bool) {
	switch {
	case v.Type == gjson.String:
		return v.Str, true
	case v.Type == gjson.Number, v.IsBool():
		return v.Raw, true
	default:
		return "", false
	}
}
