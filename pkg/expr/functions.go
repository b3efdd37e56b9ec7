package expr

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

// function computes a value of its arguments.
type function struct {
	min, max int
	of       func(r *run, args []any) (any, error)
}

const maxArguments = MaxNodes

// functions are those without a loop.
var functions = map[string]function{
	"len":         {1, 1, length},
	"type":        {1, 1, func(_ *run, a []any) (any, error) { return typeName(a[0]), nil }},
	"abs":         {1, 1, absolute},
	"ceil":        {1, 1, rounded(math.Ceil)},
	"floor":       {1, 1, rounded(math.Floor)},
	"round":       {1, 1, rounded(math.Round)},
	"int":         {1, 1, toInt},
	"float":       {1, 1, toFloat},
	"string":      {1, 1, func(r *run, a []any) (any, error) { return r.text(a[0]) }},
	"trim":        {1, 2, trim},
	"trimPrefix":  {1, 2, cut(strings.TrimPrefix)},
	"trimSuffix":  {1, 2, cut(strings.TrimSuffix)},
	"upper":       {1, 1, made(strings.ToUpper)},
	"lower":       {1, 1, made(strings.ToLower)},
	"split":       {2, 3, split(strings.SplitN)},
	"splitAfter":  {2, 3, split(strings.SplitAfterN)},
	"replace":     {3, 4, replace},
	"repeat":      {2, 2, repeat},
	"join":        {1, 2, join},
	"indexOf":     {2, 2, position(strings.Index)},
	"lastIndexOf": {2, 2, position(strings.LastIndex)},
	"hasPrefix":   {2, 2, two("startsWith", strings.HasPrefix)},
	"hasSuffix":   {2, 2, two("endsWith", strings.HasSuffix)},
	"max":         {1, maxArguments, extreme(1)},
	"min":         {1, maxArguments, extreme(-1)},
	"mean":        {1, maxArguments, mean},
	"median":      {1, maxArguments, median},
	"toJSON":      {1, 1, func(r *run, a []any) (any, error) { return r.json(a[0]) }},
	"fromJSON":    {1, 1, fromJSON},
	"toBase64":    {1, 1, made(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
	"fromBase64":  {1, 1, fromBase64},
	"first":       {1, 1, func(_ *run, a []any) (any, error) { return part(a[0], int64(0)), nil }},
	"last":        {1, 1, func(_ *run, a []any) (any, error) { return part(a[0], int64(-1)), nil }},
	"get":         {2, 2, func(_ *run, a []any) (any, error) { return part(a[0], a[1]), nil }},
	"take":        {2, 2, take},
	"keys":        {1, 1, members(func(m member) any { return m.key })},
	"values":      {1, 1, members(func(m member) any { return m.value })},
	"toPairs":     {1, 1, members(func(m member) any { return []any{m.key, m.value} })},
	"fromPairs":   {1, 1, fromPairs},
	"reverse":     {1, 1, reverse},
	"uniq":        {1, 1, uniq},
	"concat":      {1, maxArguments, concat},
	"flatten":     {1, 1, flatten},
	"sort":        {1, 2, sort},
	"bitand":      {2, 2, bitwise(func(x, y int64) int64 { return x & y })},
	"bitor":       {2, 2, bitwise(func(x, y int64) int64 { return x | y })},
	"bitxor":      {2, 2, bitwise(func(x, y int64) int64 { return x ^ y })},
	"bitnand":     {2, 2, bitwise(func(x, y int64) int64 { return x &^ y })},
	"bitnot":      {1, 1, bitwise(func(x, _ int64) int64 { return ^x })},
	"bitshl":      {2, 2, shift(func(x, y int64) int64 { return x << y })},
	"bitshr":      {2, 2, shift(func(x, y int64) int64 { return x >> y })},
	"bitushr":     {2, 2, shift(func(x, y int64) int64 { return int64(uint64(x) >> y) })},
}

// removed are expr's functions that are missing here, with what to do instead.
var removed = map[string]string{
	"now":      "there is no clock in an expression, because it must give the same when it is repeated; pass the time in",
	"date":     "there are no dates in JSON; compare RFC 3339 strings in UTC, or compute the date in a step",
	"duration": "there are no durations in JSON; use milliseconds",
	"timezone": "there are no time zones in an expression; convert the time in a step",
}

// call compiles a call of a function.
func (c *compiler) call(n *ast.BuiltinNode) (eval, error) {
	if _, ok := loops[n.Name]; ok {
		return c.loop(n)
	}
	f, ok := functions[n.Name]
	if !ok {
		return nil, noFunction(n.Name)
	}
	if err := arguments(n.Name, len(n.Arguments), f.min, f.max); err != nil {
		return nil, err
	}
	parts, err := c.all(n.Arguments...)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		args, err := values(r, parts)
		if err != nil {
			return nil, err
		}
		v, err := f.of(r, args)
		if err != nil {
			return nil, fmt.Errorf("%s() %w", n.Name, err)
		}
		return v, nil
	}, nil
}

func noFunction(name string) error {
	if why, ok := removed[name]; ok {
		return fmt.Errorf("%s() is not available: %s", name, why)
	}
	return fmt.Errorf("there is no function %s(); use one like len(), filter() or string()", shown(name))
}

// text1 gives the string that an argument is; what is missing is what absent says.
func text1(args []any, i int, absent string) (string, error) {
	if i >= len(args) {
		return absent, nil
	}
	s, ok := args[i].(string)
	if !ok {
		return "", fmt.Errorf("%w; convert it with string(), or write ?? \"\" for what may be missing", wants("a string", args[i]))
	}
	return s, nil
}

// texts gives the strings that all arguments are, and counts them.
func texts(r *run, args []any) ([]string, error) {
	list := make([]string, len(args))
	for i := range args {
		var err error
		if list[i], err = text1(args, i, ""); err != nil {
			return nil, err
		}
		if err := r.spendBytes(len(list[i])); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func listOf(v any) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%w; write ?? [] for what may be missing", wants("a list", v))
	}
	return list, nil
}

func integer(v any) (int64, error) {
	n, ok := whole(v)
	if !ok {
		return 0, fmt.Errorf("%w; convert it with int()", wants("a whole number", v))
	}
	return n, nil
}

func length(r *run, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), r.spendBytes(len(v))
	case []any:
		return int64(len(v)), nil
	case object:
		return int64(len(v)), nil
	default:
		return nil, fmt.Errorf("%w; write ?? [] for what may be missing", wants("a string, a list or an object", v))
	}
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "string"
	case []any:
		return "array"
	default:
		return "map"
	}
}

func absolute(_ *run, args []any) (any, error) {
	switch n := args[0].(type) {
	case int64:
		if n < 0 {
			return negated(n)
		}
		return n, nil
	case float64:
		return math.Abs(n), nil
	default:
		return nil, wants("a number", n)
	}
}

// rounded gives an integer when it fits one.
func rounded(round func(float64) float64) func(*run, []any) (any, error) {
	return func(_ *run, args []any) (any, error) {
		switch n := args[0].(type) {
		case int64:
			return n, nil
		case float64:
			f := round(n)
			if i, ok := whole(f); ok {
				return i, nil
			}
			return f, nil
		default:
			return nil, wants("a number", n)
		}
	}
}

func toInt(_ *run, args []any) (any, error) {
	switch v := args[0].(type) {
	case int64:
		return v, nil
	case float64:
		n, ok := whole(math.Trunc(v))
		if !ok {
			return nil, errOverflow
		}
		return n, nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s as an integer; check it with matches first", shown(v))
		}
		return n, nil
	default:
		return nil, wants("a number or a string", v)
	}
}

func toFloat(_ *run, args []any) (any, error) {
	if s, ok := args[0].(string); ok {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s as a number; check it with matches first", shown(s))
		}
		return finite(f)
	}
	f, ok := number(args[0])
	if !ok {
		return nil, wants("a number or a string", args[0])
	}
	return f, nil
}

// made makes a string of another.
func made(of func(string) string) func(*run, []any) (any, error) {
	return func(r *run, args []any) (any, error) {
		s, err := text1(args, 0, "")
		if err != nil {
			return nil, err
		}
		// Some characters take more bytes in upper case.
		if err := r.spend(len(s) + 1); err != nil {
			return nil, err
		}
		return of(s), nil
	}
}

func trim(r *run, args []any) (any, error) {
	s, err := texts(r, args)
	if err != nil {
		return nil, err
	}
	if len(s) == 1 {
		return strings.TrimSpace(s[0]), nil
	}
	// Every character may be looked for in all of the cutset.
	if err := r.spend((len(s[0]) + 1) * (len(s[1])/16 + 1)); err != nil {
		return nil, err
	}
	return strings.Trim(s[0], s[1]), nil
}

func cut(off func(s, part string) string) func(*run, []any) (any, error) {
	return func(r *run, args []any) (any, error) {
		s, err := texts(r, args)
		if err != nil {
			return nil, err
		}
		return off(s[0], append(s, " ")[1]), nil
	}
}

func two(name string, holds func(s, part string) bool) func(*run, []any) (any, error) {
	of := compared(name, holds)
	return func(r *run, args []any) (any, error) { return of(r, args[0], args[1]) }
}

func split(into func(s, sep string, n int) []string) func(*run, []any) (any, error) {
	return func(r *run, args []any) (any, error) {
		s, err := texts(r, args[:2])
		if err != nil {
			return nil, err
		}
		n := int64(-1)
		if len(args) > 2 {
			if n, err = integer(args[2]); err != nil {
				return nil, err
			}
		}
		most := strings.Count(s[0], s[1]) + 1
		if err := r.spend(3 * most); err != nil {
			return nil, err
		}
		parts := into(s[0], s[1], int(min(n, int64(most)))) // It makes room for n.
		list := make([]any, len(parts))
		for i, p := range parts {
			list[i] = p
		}
		return list, nil
	}
}

func replace(r *run, args []any) (any, error) {
	s, err := texts(r, args[:3])
	if err != nil {
		return nil, err
	}
	n := int64(-1)
	if len(args) > 3 {
		if n, err = integer(args[3]); err != nil {
			return nil, err
		}
	}
	times := int64(strings.Count(s[0], s[1]))
	if n >= 0 {
		times = min(times, n)
	}
	if err := r.spendProduct(times, int64(len(s[2])/8+2)); err != nil {
		return nil, err
	}
	return strings.Replace(s[0], s[1], s[2], int(times)), nil
}

func repeat(r *run, args []any) (any, error) {
	s, err := texts(r, args[:1])
	if err != nil {
		return nil, err
	}
	n, err := integer(args[1])
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errors.New("wants no negative number; use max(n, 0)")
	}
	if err := r.spendProduct(n, int64(len(s[0]))); err != nil {
		return nil, err
	}
	if s[0] == "" {
		return "", nil
	}
	return strings.Repeat(s[0], int(n)), nil
}

func (r *run) spendProduct(a, b int64) error {
	n, fits := multiply(a, b)
	if !fits {
		n = math.MaxInt64
	}
	return r.spend(int(n))
}

func join(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	glue, err := text1(args, 1, "")
	if err != nil {
		return nil, err
	}
	if err := r.spendProduct(int64(len(list)), int64(len(glue)/8+1)); err != nil {
		return nil, err
	}
	parts, err := texts(r, list)
	if err != nil {
		return nil, err
	}
	return strings.Join(parts, glue), nil
}

func position(of func(s, part string) int) func(*run, []any) (any, error) {
	return func(r *run, args []any) (any, error) {
		s, err := texts(r, args)
		if err != nil {
			return nil, err
		}
		if err := r.spend(len(s[0])); err != nil {
			return nil, err
		}
		i := of(s[0], s[1])
		if i < 0 {
			return int64(-1), nil
		}
		return int64(utf8.RuneCountInString(s[0][:i])), nil
	}
}

// eachNumber visits the numbers of arguments and of lists in them.
func (r *run) eachNumber(args []any, depth int, visit func(v any) error) error {
	if depth > maxDepth {
		return errTooDeep
	}
	for _, v := range args {
		if err := r.spend(2); err != nil {
			return err
		}
		var err error
		if list, ok := v.([]any); ok {
			err = r.eachNumber(list, depth+1, visit)
		} else if _, ok := number(v); ok {
			err = visit(v)
		} else {
			err = wants("numbers", v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extreme gives the greatest number (sign 1) or the least (-1); nil when there is none.
func extreme(sign int) func(*run, []any) (any, error) {
	return func(r *run, args []any) (best any, err error) {
		err = r.eachNumber(args, 0, func(v any) error {
			if best == nil {
				best = v
				return nil
			}
			n, err := r.compare(v, best)
			if n*sign > 0 {
				best = v
			}
			return err
		})
		return best, err
	}
}

func (r *run) floats(args []any) ([]float64, error) {
	var list []float64
	err := r.eachNumber(args, 0, func(v any) error {
		f, _ := number(v)
		list = append(list, f)
		return nil
	})
	return list, err
}

func mean(r *run, args []any) (any, error) {
	list, err := r.floats(args)
	if err != nil || len(list) == 0 {
		return 0.0, err
	}
	total := 0.0
	for _, f := range list {
		total += f
	}
	return finite(total / float64(len(list)))
}

func median(r *run, args []any) (any, error) {
	list, err := r.floats(args)
	if err != nil || len(list) == 0 {
		return 0.0, err
	}
	if err := r.spend(5 * len(list)); err != nil {
		return nil, err
	}
	slices.Sort(list)
	middle := len(list) / 2
	if len(list)%2 == 1 {
		return list[middle], nil
	}
	return finite((list[middle-1] + list[middle]) / 2)
}

func fromJSON(r *run, args []any) (any, error) {
	s, err := text1(args, 0, "")
	if err != nil {
		return nil, err
	}
	return r.decode(json.RawMessage(s))
}

func fromBase64(r *run, args []any) (any, error) {
	s, err := texts(r, args)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s[0])
	if err != nil || !utf8.Valid(b) {
		return nil, errors.New("finds no text in base64; correct the value")
	}
	return string(b), nil
}

func take(_ *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	n, err := integer(args[1])
	if err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, errors.New("wants no negative number; use x[-n:] for the last ones")
	}
	n = min(n, int64(len(list)))
	return list[:n:n], nil
}

func members(of func(member) any) func(*run, []any) (any, error) {
	return func(r *run, args []any) (any, error) {
		o, ok := args[0].(object)
		if !ok {
			return nil, fmt.Errorf("%w; write ?? {} for what may be missing", wants("an object", args[0]))
		}
		if err := r.spend(4 * len(o)); err != nil {
			return nil, err
		}
		list := make([]any, len(o))
		for i, m := range o {
			list[i] = of(m)
		}
		return list, nil
	}
}

func fromPairs(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	if err := r.spend(3 * len(list)); err != nil {
		return nil, err
	}
	pairs := make([]member, len(list))
	for i, v := range list {
		pair, ok := v.([]any)
		if !ok || len(pair) != 2 {
			return nil, errors.New(`wants a list of pairs, like [["key", 1]]; make pairs with map()`)
		}
		if pairs[i].key, err = text1(pair, 0, ""); err != nil {
			return nil, err
		}
		pairs[i].value = pair[1]
	}
	return r.object(pairs)
}

func reverse(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	if err := r.spend(len(list)); err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	slices.Reverse(list)
	return list, nil
}

func uniq(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	kept := []any{}
	for _, v := range list {
		known, err := r.in(v, kept)
		if err != nil {
			return nil, err
		}
		if err := r.spend(1); err != nil {
			return nil, err
		}
		if known == false {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

func concat(r *run, args []any) (any, error) {
	joined := []any{}
	for _, v := range args {
		list, err := listOf(v)
		if err != nil {
			return nil, err
		}
		if err := r.spend(2 * len(list)); err != nil {
			return nil, err
		}
		joined = append(joined, list...)
	}
	return joined, nil
}

func flatten(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	return r.flattened([]any{}, list, 0)
}

func (r *run) flattened(onto, list []any, depth int) ([]any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	for _, v := range list {
		err := r.spend(2)
		if inner, ok := v.([]any); ok && err == nil {
			onto, err = r.flattened(onto, inner, depth+1)
		} else {
			onto = append(onto, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return onto, nil
}

func sort(r *run, args []any) (any, error) {
	list, err := listOf(args[0])
	if err != nil {
		return nil, err
	}
	order, err := text1(args, 1, "asc")
	if err != nil {
		return nil, err
	}
	return r.sorted(list, list, order)
}

func bitwise(of func(x, y int64) int64) func(*run, []any) (any, error) {
	return func(_ *run, args []any) (any, error) {
		x, err := integer(args[0])
		if err != nil {
			return nil, err
		}
		y, err := integer(args[len(args)-1])
		if err != nil {
			return nil, err
		}
		return of(x, y), nil
	}
}

func shift(of func(x, y int64) int64) func(*run, []any) (any, error) {
	shifted := bitwise(of)
	return func(r *run, args []any) (any, error) {
		if y, ok := whole(args[1]); ok && y < 0 {
			return nil, errors.New("wants no negative number of places; shift the other way")
		}
		return shifted(r, args)
	}
}
