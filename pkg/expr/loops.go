package expr

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"github.com/expr-lang/expr/ast"
)

// loop is a function that evaluates a part of the expression for every element of a list.
type loop struct {
	name string
	list eval
	body eval // the element itself when nil
	rest eval // the last argument; nil when there is none
	at   pointer
}

// loops are the functions with a loop: how many arguments they take and what they give.
var loops = map[string]struct {
	min, max int
	give     func(*loop, *run, []any) (any, error)
}{
	"all": {2, 2, func(l *loop, r *run, list []any) (any, error) {
		i, err := l.find(r, list, false, false)
		return i < 0, err
	}},
	"any": {2, 2, func(l *loop, r *run, list []any) (any, error) {
		i, err := l.find(r, list, true, false)
		return i >= 0, err
	}},
	"none": {2, 2, func(l *loop, r *run, list []any) (any, error) {
		i, err := l.find(r, list, true, false)
		return i < 0, err
	}},
	"one": {2, 2, func(l *loop, r *run, list []any) (any, error) {
		kept, err := l.filter(r, list)
		return len(kept) == 1, err
	}},
	"count": {1, 2, func(l *loop, r *run, list []any) (any, error) {
		kept, err := l.filter(r, list)
		return int64(len(kept)), err
	}},
	"filter":        {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.filter(r, list) }},
	"map":           {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.mapped(r, list) }},
	"find":          {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.element(r, list, false) }},
	"findLast":      {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.element(r, list, true) }},
	"findIndex":     {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.index(r, list, false) }},
	"findLastIndex": {2, 2, func(l *loop, r *run, list []any) (any, error) { return l.index(r, list, true) }},
	"sum":           {1, 2, (*loop).sum},
	"groupBy":       {2, 2, (*loop).groupBy},
	"sortBy":        {2, 3, (*loop).sortBy},
	"reduce":        {2, 3, (*loop).reduce},
}

// loop compiles a function with a loop.
func (c *compiler) loop(n *ast.BuiltinNode) (eval, error) {
	known := loops[n.Name]
	if err := arguments(n.Name, len(n.Arguments), known.min, known.max); err != nil {
		return nil, err
	}
	l := &loop{name: n.Name, at: pointer{item: c.slot(), index: c.slot(), acc: c.slot(), hasAcc: n.Name == "reduce"}}
	var err error
	if l.list, err = c.node(n.Arguments[0]); err != nil {
		return nil, err
	}
	if len(n.Arguments) > 1 {
		body, ok := n.Arguments[1].(*ast.PredicateNode)
		if !ok {
			return nil, fmt.Errorf("%s() wants a condition or value for every element, like %s(list, # > 1)", n.Name, n.Name)
		}
		if err := c.count(1); err != nil {
			return nil, err
		}
		c.loops = append(c.loops, l.at)
		l.body, err = c.node(body.Node)
		c.loops = c.loops[:len(c.loops)-1]
		if err != nil {
			return nil, err
		}
	}
	if len(n.Arguments) > 2 {
		if l.rest, err = c.node(n.Arguments[2]); err != nil {
			return nil, err
		}
	}
	return func(r *run) (any, error) {
		v, err := l.list(r)
		if err != nil {
			return nil, err
		}
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s() %w; write x ?? [] for what may be missing, values(x) for an object", l.name, wants("a list", v))
		}
		return known.give(l, r, list)
	}, nil
}

// of evaluates the body for an element.
func (l *loop) of(r *run, i int, item any) (any, error) {
	if err := r.spend(2); err != nil {
		return nil, err
	}
	if l.body == nil {
		return item, nil
	}
	r.slots[l.at.item], r.slots[l.at.index] = item, int64(i)
	return l.body(r)
}

// holds evaluates the body as a condition.
func (l *loop) holds(r *run, i int, item any) (bool, error) {
	v, err := l.of(r, i, item)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s() %w; compare it with something", l.name, wants("true or false for every element", v))
	}
	return b, nil
}

// find gives the place of the first or last element for which the condition is as wanted, -1 when there is none.
func (l *loop) find(r *run, list []any, wanted, last bool) (int, error) {
	for n := range list {
		i := n
		if last {
			i = len(list) - 1 - n
		}
		b, err := l.holds(r, i, list[i])
		if err != nil {
			return -1, err
		}
		if b == wanted {
			return i, nil
		}
	}
	return -1, nil
}

func (l *loop) element(r *run, list []any, last bool) (any, error) {
	i, err := l.find(r, list, true, last)
	if i < 0 {
		return nil, err
	}
	return list[i], nil
}

func (l *loop) index(r *run, list []any, last bool) (any, error) {
	i, err := l.find(r, list, true, last)
	if i < 0 {
		return nil, err
	}
	return int64(i), nil
}

func (l *loop) filter(r *run, list []any) ([]any, error) {
	kept := []any{}
	for i, item := range list {
		b, err := l.holds(r, i, item)
		if err != nil {
			return nil, err
		}
		if b {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

func (l *loop) mapped(r *run, list []any) ([]any, error) {
	if err := r.spend(len(list)); err != nil {
		return nil, err
	}
	made := make([]any, len(list))
	for i, item := range list {
		var err error
		if made[i], err = l.of(r, i, item); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func (l *loop) sum(r *run, list []any) (any, error) {
	var total any = int64(0)
	for i, item := range list {
		v, err := l.of(r, i, item)
		if err != nil {
			return nil, err
		}
		if total, err = sum(r, total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func (l *loop) groupBy(r *run, list []any) (any, error) {
	var groups []member
	places := map[string]int{}
	for i, item := range list {
		v, err := l.of(r, i, item)
		if err != nil {
			return nil, err
		}
		switch v.(type) {
		case nil, []any, object:
			return nil, fmt.Errorf("groupBy() %w; write ?? \"\" for what may be missing", wants("a string, number or boolean for every element", v))
		}
		key, err := r.text(v)
		if err != nil {
			return nil, err
		}
		if err := r.spend(5 + len(key)/64); err != nil {
			return nil, err
		}
		at, known := places[key]
		if !known {
			if err := r.spend(15); err != nil {
				return nil, err
			}
			at = len(groups)
			places[key] = at
			groups = append(groups, member{key, []any(nil)})
		}
		groups[at].value = append(groups[at].value.([]any), item)
	}
	return r.object(groups)
}

func (l *loop) sortBy(r *run, list []any) (any, error) {
	keys, err := l.mapped(r, list)
	if err != nil {
		return nil, err
	}
	var order any = "asc"
	if l.rest != nil {
		if order, err = l.rest(r); err != nil {
			return nil, err
		}
	}
	sorted, err := r.sorted(list, keys, order)
	if err != nil {
		return nil, fmt.Errorf("sortBy() %w", err)
	}
	return sorted, nil
}

// sorted gives list in the order of its keys; equal ones stay in the order they were.
func (r *run) sorted(list, keys []any, order any) (any, error) {
	sign := 1
	switch order {
	case "asc":
	case "desc":
		sign = -1
	default:
		return nil, errors.New(`wants "asc" or "desc" as its order; correct it`)
	}
	if err := r.spend(2 * len(list) * (1 + bits.Len(uint(len(list))))); err != nil {
		return nil, err
	}
	places := make([]int, len(list))
	for i := range places {
		places[i] = i
	}
	var failed error
	slices.SortFunc(places, func(a, b int) int {
		if failed != nil {
			return a - b
		}
		n, err := r.compare(keys[a], keys[b])
		if failed = err; n == 0 {
			return a - b
		}
		return sign * n
	})
	if failed != nil {
		return nil, failed
	}
	made := make([]any, len(list))
	for i, at := range places {
		made[i] = list[at]
	}
	return made, nil
}

func (l *loop) reduce(r *run, list []any) (v any, err error) {
	first := 0
	switch {
	case l.rest != nil:
		if v, err = l.rest(r); err != nil {
			return nil, err
		}
	case len(list) == 0:
		return nil, errors.New("reduce() has no elements; give it a value to begin with, like reduce(list, #acc + #, 0)")
	default:
		v, first = list[0], 1
	}
	for i := first; i < len(list); i++ {
		r.slots[l.at.acc] = v
		if v, err = l.of(r, i, list[i]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// arguments checks how many arguments a function is given.
func arguments(name string, n, least, most int) error {
	if n >= least && n <= most {
		return nil
	}
	takes := strconv.Itoa(least)
	if most != least {
		takes += " to " + strconv.Itoa(most)
	}
	if most == maxArguments {
		takes = "at least " + strconv.Itoa(least)
	}
	return fmt.Errorf("%s() takes %s arguments, not %d; correct them", name, takes, n)
}
