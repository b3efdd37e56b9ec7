package expr

import (
	"errors"
	"fmt"
	"math"
	"regexp/syntax"
	"slices"
	"strconv"

	"github.com/expr-lang/expr/ast"

	"turbocat.io/pkg/pattern"
	"turbocat.io/pkg/template"
)

// compiler makes evals of the nodes of a tree.
type compiler struct {
	source   string
	nodes    int
	paths    []template.Path
	index    map[string]int // of paths by their text
	slots    int
	locals   []local   // in scope, the innermost last
	loops    []pointer // in scope, the innermost last
	patterns pattern.Budget
}

// local is a variable of let.
type local struct {
	name string
	slot int
}

// pointer is where a loop keeps what #, #index and #acc stand for.
type pointer struct {
	item, index, acc int
	hasAcc           bool
}

// node compiles a node. What it gives counts as a step, and its errors have a place.
func (c *compiler) node(n ast.Node) (eval, error) {
	source, at := c.source, n.Location().From
	inner, err := c.bare(n)
	if err != nil {
		return nil, located(source, at, err)
	}
	return func(r *run) (any, error) {
		if err := r.spend(1); err != nil {
			return nil, located(source, at, err)
		}
		v, err := inner(r)
		if err != nil {
			return nil, located(source, at, err)
		}
		return v, nil
	}, nil
}

// located gives an error the place of a node, unless it has that of an inner one.
func located(source string, at int, err error) error {
	var placed *fault
	if errors.As(err, &placed) {
		return err
	}
	return &fault{place(source, at), err}
}

// count counts nodes. The parser uses a node twice in a < b < c and in a ?: b; it counts twice,
// because it is compiled twice.
func (c *compiler) count(n int) error {
	if c.nodes += n; c.nodes > MaxNodes {
		return fmt.Errorf("has more than %d names, constants, operators and calls here; compute a part of it in a step", MaxNodes)
	}
	return nil
}

func (c *compiler) slot() int {
	c.slots++
	return c.slots - 1
}

func (c *compiler) bare(n ast.Node) (eval, error) {
	if path, nodes := c.static(n); path != nil {
		if err := c.count(nodes); err != nil {
			return nil, err
		}
		return c.reference(path)
	}
	if err := c.count(1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(nil), nil
	case *ast.BoolNode:
		return constant(n.Value), nil
	case *ast.IntegerNode:
		return constant(int64(n.Value)), nil
	case *ast.FloatNode:
		return constant(n.Value), nil
	case *ast.StringNode:
		return constant(n.Value), nil
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.ChainNode:
		return c.node(n.Node)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.SliceNode:
		return c.slice(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.SequenceNode:
		return c.sequence(n)
	case *ast.ArrayNode:
		return c.list(n)
	case *ast.MapNode:
		return c.object(n)
	case *ast.BuiltinNode:
		return c.call(n)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return nil, noFunction(callee.Value)
		}
		return nil, errors.New("a value has no methods; write a function like len(x) or x | len()")
	case *ast.BytesNode:
		return nil, errors.New(`there are no bytes in JSON; write "..." without the b`)
	default:
		return nil, errors.New("is not available; write it another way")
	}
}

func constant(v any) eval { return func(*run) (any, error) { return v, nil } }

// all compiles nodes in order.
func (c *compiler) all(nodes ...ast.Node) ([]eval, error) {
	evals := make([]eval, len(nodes))
	for i, n := range nodes {
		var err error
		if evals[i], err = c.node(n); err != nil {
			return nil, err
		}
	}
	return evals, nil
}

// static gives the path that a node is, with how many nodes it has; nil when a part of it is
// computed or its root is a local variable.
func (c *compiler) static(n ast.Node) (template.Path, int) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if _, local := c.local(n.Value); local || n.Value == "$env" {
			return nil, 0
		}
		return template.Path{template.Key(n.Value)}, 1
	case *ast.ChainNode:
		path, nodes := c.static(n.Node)
		return path, nodes + 1
	case *ast.MemberNode:
		var s template.Segment
		switch p := n.Property.(type) {
		case *ast.StringNode:
			s = template.Key(p.Value)
		case *ast.IntegerNode:
			if p.Value < 0 || p.Value >= 1e9 {
				return nil, 0
			}
			s = template.Index(p.Value)
		default:
			return nil, 0
		}
		path, nodes := c.static(n.Node)
		if path == nil {
			return nil, 0
		}
		return append(path, s), nodes + 2
	default:
		return nil, 0
	}
}

func (c *compiler) reference(path template.Path) (eval, error) {
	name := path.String()
	i, known := c.index[name]
	if !known {
		i = len(c.paths)
		if i == MaxReferences {
			return nil, fmt.Errorf("reads more than %d different paths; read a larger value once with let", MaxReferences)
		}
		c.index[name] = i
		c.paths = append(c.paths, path)
	}
	return func(r *run) (any, error) {
		v, err := r.value(i)
		if err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
		return v, nil
	}, nil
}

func (c *compiler) local(name string) (slot int, ok bool) {
	for _, l := range slices.Backward(c.locals) {
		if l.name == name {
			return l.slot, true
		}
	}
	return 0, false
}

func load(slot int) eval { return func(r *run) (any, error) { return r.slots[slot], nil } }

func (c *compiler) identifier(n *ast.IdentifierNode) (eval, error) {
	slot, ok := c.local(n.Value)
	if !ok {
		return nil, errors.New("$env is not available; name what you need, like inputs.n")
	}
	return load(slot), nil
}

func (c *compiler) pointer(n *ast.PointerNode) (eval, error) {
	if len(c.loops) == 0 {
		return nil, errors.New("# stands outside of a function like filter(list, # > 1); move it there")
	}
	loop := c.loops[len(c.loops)-1]
	switch {
	case n.Name == "":
		return load(loop.item), nil
	case n.Name == "index":
		return load(loop.index), nil
	case n.Name == "acc" && loop.hasAcc:
		return load(loop.acc), nil
	default:
		return nil, fmt.Errorf("there is no #%s here; write # for the element, #index for its place, and in reduce() #acc for the value so far", n.Name)
	}
}

func (c *compiler) member(n *ast.MemberNode) (eval, error) {
	parts, err := c.all(n.Node, n.Property)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		from, err := parts[0](r)
		if err != nil {
			return nil, err
		}
		key, err := parts[1](r)
		if err != nil {
			return nil, err
		}
		return part(from, key), nil
	}, nil
}

// part gives what stands in a value at a key or a place; nil when nothing does. A negative
// place counts from the end. As in a static path, nothing stands in a string.
func part(from, key any) any {
	switch from := from.(type) {
	case object:
		if key, ok := key.(string); ok {
			v, _ := from.get(key)
			return v
		}
	case []any:
		if i, ok := within(key, len(from)); ok {
			return from[i]
		}
	}
	return nil
}

// within gives the place in a list of length n that a value names.
func within(v any, n int) (int64, bool) {
	i, ok := whole(v)
	if i < 0 {
		i += int64(n)
	}
	return i, ok && i >= 0 && i < int64(n)
}

func (r *run) chars(s string) ([]rune, error) {
	if err := r.spend(len(s)/2 + 1); err != nil {
		return nil, err
	}
	return []rune(s), nil
}

func (c *compiler) slice(n *ast.SliceNode) (eval, error) {
	from, to := constant(int64(0)), constant(int64(math.MaxInt64))
	value, err := c.node(n.Node)
	if err == nil && n.From != nil {
		from, err = c.node(n.From)
	}
	if err == nil && n.To != nil {
		to, err = c.node(n.To)
	}
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		parts, err := values(r, []eval{value, from, to})
		if err != nil {
			return nil, err
		}
		switch v := parts[0].(type) {
		case nil:
			return nil, nil
		case []any:
			from, to, err := bounds(parts[1], parts[2], len(v))
			if err != nil {
				return nil, err
			}
			return v[from:to:to], nil
		case string:
			chars, err := r.chars(v)
			if err != nil {
				return nil, err
			}
			from, to, err := bounds(parts[1], parts[2], len(chars))
			if err != nil {
				return nil, err
			}
			return string(chars[from:to]), nil
		default:
			return nil, fmt.Errorf("cannot slice %s; slice a list or a string", kind(v))
		}
	}, nil
}

// bounds gives the places of a slice of something of length n; negative ones count from the end.
func bounds(from, to any, n int) (int, int, error) {
	var places [2]int
	for i, v := range []any{from, to} {
		p, ok := whole(v)
		if !ok {
			return 0, 0, errors.New("a slice wants whole numbers, like x[1:3]")
		}
		if p < 0 {
			p += int64(n)
		}
		places[i] = int(max(0, min(p, int64(n))))
	}
	return min(places[0], places[1]), places[1], nil
}

func (c *compiler) conditional(n *ast.ConditionalNode) (eval, error) {
	parts, err := c.all(n.Cond, n.Exp1, n.Exp2)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		yes, err := condition("?", parts[0], r)
		if err != nil {
			return nil, err
		}
		if yes {
			return parts[1](r)
		}
		return parts[2](r)
	}, nil
}

// condition evaluates what must be a boolean.
func condition(user string, e eval, r *run) (bool, error) {
	v, err := e(r)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s %w; compare it with something, or write ?? false", user, wants("true or false", v))
	}
	return b, nil
}

func (c *compiler) let(n *ast.VariableDeclaratorNode) (eval, error) {
	value, err := c.node(n.Value)
	if err != nil {
		return nil, err
	}
	slot := c.slot()
	c.locals = append(c.locals, local{n.Name, slot})
	body, err := c.node(n.Expr)
	c.locals = c.locals[:len(c.locals)-1]
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		v, err := value(r)
		if err != nil {
			return nil, err
		}
		r.slots[slot] = v
		return body(r)
	}, nil
}

func (c *compiler) sequence(n *ast.SequenceNode) (eval, error) {
	parts, err := c.all(n.Nodes...)
	if err != nil {
		return nil, err
	}
	return func(r *run) (v any, err error) {
		for _, part := range parts {
			if v, err = part(r); err != nil {
				return nil, err
			}
		}
		return v, nil
	}, nil
}

func (c *compiler) list(n *ast.ArrayNode) (eval, error) {
	parts, err := c.all(n.Nodes...)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) { return values(r, parts) }, nil
}

func values(r *run, evals []eval) ([]any, error) {
	list := make([]any, len(evals))
	for i, e := range evals {
		var err error
		if list[i], err = e(r); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (c *compiler) object(n *ast.MapNode) (eval, error) {
	var nodes []ast.Node
	for _, p := range n.Pairs {
		pair := p.(*ast.PairNode)
		nodes = append(nodes, pair.Key, pair.Value)
	}
	if err := c.count(len(n.Pairs)); err != nil {
		return nil, err
	}
	parts, err := c.all(nodes...)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		list, err := values(r, parts)
		if err != nil {
			return nil, err
		}
		members := make([]member, len(list)/2)
		for i := range members {
			key, ok := list[2*i].(string)
			if !ok {
				return nil, fmt.Errorf("a key %w; write (string(x)): y", wants("a string", list[2*i]))
			}
			members[i] = member{key, list[2*i+1]}
		}
		return r.object(members)
	}, nil
}

// matches compiles a match of a constant pattern.
func (c *compiler) matches(n *ast.BinaryNode) (eval, error) {
	text, ok := n.Right.(*ast.StringNode)
	if !ok {
		return nil, errors.New(`matches wants its pattern as a constant, like x matches "^[a-z]+$"`)
	}
	if err := c.count(1); err != nil {
		return nil, err
	}
	re, err := c.patterns.Compile(text.Value)
	if err != nil {
		return nil, fmt.Errorf("the pattern %s %w; correct it", shown(text.Value), err)
	}
	size, err := instructions(text.Value)
	if err != nil {
		return nil, err
	}
	left, err := c.node(n.Left)
	if err != nil {
		return nil, err
	}
	return func(r *run) (any, error) {
		v, err := left(r)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return false, nil
		}
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("matches %w", wants("a string", v))
		}
		// A match tries, for every byte, at most every instruction.
		if err := r.spend((len(s) + 1) * (size + 8) / 8); err != nil {
			return nil, err
		}
		return re.MatchString(s), nil
	}, nil
}

// instructions gives the size of a pattern's program.
func instructions(text string) (int, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}

// shown quotes a text for an error, cut to a short line.
func shown(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		s = string(runes[:40]) + "..."
	}
	return strconv.Quote(s)
}
