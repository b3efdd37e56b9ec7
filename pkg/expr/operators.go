package expr

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/expr-lang/expr/ast"
)

var errOverflow = errors.New("gives an integer of more than 64 bits; compute with float(x)")

func (c *compiler) unary(n *ast.UnaryNode) (eval, error) {
	operand, err := c.node(n.Node)
	if err != nil {
		return nil, err
	}
	if n.Operator == "!" || n.Operator == "not" {
		return func(r *run) (any, error) {
			b, err := condition(n.Operator, operand, r)
			return !b, err
		}, nil
	}
	minus := n.Operator == "-"
	return func(r *run) (any, error) {
		v, err := operand(r)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case int64:
			if !minus {
				return v, nil
			}
			return negated(v)
		case float64:
			if !minus {
				return v, nil
			}
			return -v, nil
		default:
			return nil, fmt.Errorf("%s %w", n.Operator, wants("a number", v))
		}
	}, nil
}

func negated(n int64) (any, error) {
	if n == math.MinInt64 {
		return nil, errOverflow
	}
	return -n, nil
}

func (c *compiler) binary(n *ast.BinaryNode) (eval, error) {
	if n.Operator == "matches" {
		return c.matches(n)
	}
	parts, err := c.all(n.Left, n.Right)
	if err != nil {
		return nil, err
	}
	left, right := parts[0], parts[1]
	switch n.Operator {
	case "&&", "and":
		return func(r *run) (any, error) {
			if b, err := condition(n.Operator, left, r); err != nil || !b {
				return false, err
			}
			return condition(n.Operator, right, r)
		}, nil
	case "||", "or":
		return func(r *run) (any, error) {
			if b, err := condition(n.Operator, left, r); err != nil || b {
				return b, err
			}
			return condition(n.Operator, right, r)
		}, nil
	case "??":
		return func(r *run) (any, error) {
			if v, err := left(r); err != nil || v != nil {
				return v, err
			}
			return right(r)
		}, nil
	}
	operate := operator(n.Operator)
	if operate == nil {
		return nil, fmt.Errorf("there is no operator %s; write it another way", n.Operator)
	}
	return func(r *run) (any, error) {
		a, err := left(r)
		if err != nil {
			return nil, err
		}
		b, err := right(r)
		if err != nil {
			return nil, err
		}
		return operate(r, a, b)
	}, nil
}

// operator gives what computes a value of two; nil when there is no such operator.
func operator(name string) func(r *run, a, b any) (any, error) {
	switch name {
	case "==":
		return func(r *run, a, b any) (any, error) { return r.equal(a, b) }
	case "!=":
		return func(r *run, a, b any) (any, error) {
			same, err := r.equal(a, b)
			return !same, err
		}
	case "<":
		return ordered(func(n int) bool { return n < 0 })
	case "<=":
		return ordered(func(n int) bool { return n <= 0 })
	case ">":
		return ordered(func(n int) bool { return n > 0 })
	case ">=":
		return ordered(func(n int) bool { return n >= 0 })
	case "+":
		return (*run).add
	case "-":
		return arithmetic("-", subtract, func(a, b float64) float64 { return a - b })
	case "*":
		return arithmetic("*", multiply, func(a, b float64) float64 { return a * b })
	case "/":
		return divide
	case "%":
		return modulo
	case "**", "^":
		return power
	case "..":
		return (*run).between
	case "in":
		return (*run).in
	case "contains":
		return compared(name, strings.Contains)
	case "startsWith":
		return compared(name, strings.HasPrefix)
	case "endsWith":
		return compared(name, strings.HasSuffix)
	default:
		return nil
	}
}

func ordered(holds func(int) bool) func(*run, any, any) (any, error) {
	return func(r *run, a, b any) (any, error) {
		n, err := r.compare(a, b)
		return holds(n), err
	}
}

func (r *run) add(a, b any) (any, error) {
	x, ok := a.(string)
	y, too := b.(string)
	if ok && too {
		if err := r.spendBytes(len(x) + len(y)); err != nil {
			return nil, err
		}
		return x + y, nil
	}
	if ok != too {
		return nil, fmt.Errorf("+ cannot join %s and %s; convert one with string(), int() or float()", kind(a), kind(b))
	}
	return sum(r, a, b)
}

// sum adds two numbers.
func sum(r *run, a, b any) (any, error) {
	return arithmetic("+", plus, func(a, b float64) float64 { return a + b })(r, a, b)
}

// arithmetic computes with integers as long as both are, else with floats.
func arithmetic(name string, integers func(a, b int64) (int64, bool), floats func(a, b float64) float64) func(*run, any, any) (any, error) {
	return func(_ *run, a, b any) (any, error) {
		if x, ok := a.(int64); ok {
			if y, ok := b.(int64); ok {
				n, fits := integers(x, y)
				if !fits {
					return nil, errOverflow
				}
				return n, nil
			}
		}
		x, y, err := numbers(name, a, b)
		if err != nil {
			return nil, err
		}
		return finite(floats(x, y))
	}
}

func plus(a, b int64) (int64, bool) {
	n := a + b
	return n, (n > a) == (b > 0)
}

func subtract(a, b int64) (int64, bool) {
	n := a - b
	return n, (n < a) == (b > 0)
}

func multiply(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	n := a * b
	return n, n/b == a && (a != -1 || b != math.MinInt64) && (b != -1 || a != math.MinInt64)
}

func numbers(name string, a, b any) (float64, float64, error) {
	x, ok := number(a)
	y, too := number(b)
	if !ok || !too {
		return 0, 0, fmt.Errorf("%s wants two numbers, not %s and %s; give them a value with ?? or convert them with int() or float()", name, kind(a), kind(b))
	}
	return x, y, nil
}

func divide(_ *run, a, b any) (any, error) {
	x, y, err := numbers("/", a, b)
	if err != nil {
		return nil, err
	}
	if y == 0 {
		return nil, errors.New("divides by zero; check the divisor first")
	}
	return finite(x / y)
}

func modulo(_ *run, a, b any) (any, error) {
	x, ok := whole(a)
	y, too := whole(b)
	if !ok || !too {
		return nil, fmt.Errorf("%% wants two whole numbers, not %s and %s; convert them with int()", kind(a), kind(b))
	}
	if y == 0 {
		return nil, errors.New("divides by zero; check the divisor first")
	}
	return x % y, nil
}

// power multiplies, because the logarithms that a fractional exponent takes differ between processors.
func power(_ *run, a, b any) (any, error) {
	x, _, err := numbers("**", a, b)
	if err != nil {
		return nil, err
	}
	n, ok := whole(b)
	if !ok || n < -maxExponent || n > maxExponent {
		return nil, fmt.Errorf("** wants a whole exponent between -%d and %d; multiply instead", maxExponent, maxExponent)
	}
	result, left := 1.0, max(n, -n)
	for ; left > 0; left /= 2 {
		if left%2 == 1 {
			result *= x
		}
		x *= x
	}
	if n < 0 {
		result = 1 / result
	}
	return finite(result)
}

const maxExponent = 10_000

// between gives the integers from a to b.
func (r *run) between(a, b any) (any, error) {
	from, ok := whole(a)
	to, too := whole(b)
	if !ok || !too {
		return nil, fmt.Errorf(".. wants two whole numbers, not %s and %s; convert them with int()", kind(a), kind(b))
	}
	if to < from {
		return []any{}, nil
	}
	last := uint64(to) - uint64(from)
	if last >= MaxSteps {
		return nil, errTooCostly
	}
	if err := r.spend(2 * int(last+1)); err != nil {
		return nil, err
	}
	list := make([]any, last+1)
	for i := range list {
		list[i] = from + int64(i)
	}
	return list, nil
}

// in looks for an element of a list or a key of an object.
func (r *run) in(needle, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case []any:
		for _, item := range v {
			if same, err := r.equal(item, needle); same || err != nil {
				return same, err
			}
		}
		return false, nil
	case object:
		key, ok := needle.(string)
		if !ok {
			return false, nil
		}
		_, found := v.get(key)
		return found, nil
	default:
		return nil, fmt.Errorf("in %w; use contains for a part of a string", wants("a list or an object", v))
	}
}

// compared compares strings; nil has nothing.
func compared(name string, holds func(s, part string) bool) func(*run, any, any) (any, error) {
	return func(r *run, a, b any) (any, error) {
		if a == nil || b == nil {
			return false, nil
		}
		s, ok := a.(string)
		part, too := b.(string)
		if !ok || !too {
			return nil, fmt.Errorf("%s wants two strings, not %s and %s; use in for an element of a list", name, kind(a), kind(b))
		}
		return holds(s, part), r.spendBytes(len(s) + len(part))
	}
}
