// Package expr is Turbocat's expression language: a condition or a value computed from JSON, such
// as
//
//	check.output.score > 0.5 && "eu" in inputs.regions
//	filter(load.output.rows, .total >= inputs.least) | map(.id)
//
// The syntax is that of github.com/expr-lang/expr, whose parser is used; note that an object in a
// loop takes parentheses, map(list, ({id: #})), and that a key like a-b is written x["a-b"]. Its virtual machine is
// not: its memory budget counts neither loops over a list that exists already, nor strings that
// "+" makes, nor values that stand in themselves many times, so that a line of text could hold a
// processor or the memory for good. The evaluation here counts everything it does.
//
// # Values
//
// A value is what JSON has: nil, a boolean, a number, a string, a list or an object. An integer
// that fits 64 bits is exact, any other number is a 64-bit float; where both meet, the integer
// becomes a float. A result out of range, a division by zero and anything else that is no finite
// number is an error. What is not there is nil, and so is what stands in nil, in a scalar or
// behind the end of a list; of a key that stands twice in an object the first counts. Nothing
// else takes nil for a value: write x ?? false, x ?? 0 or x ?? []. Places in a string and its
// length count characters. Conditions take booleans alone.
//
// # Determinism
//
// The same source and the same values give the same bytes, on every machine: objects are kept in
// the order of their keys, there is no clock, no time zone, no locale and no randomness, and no
// operation on floats is left to the processor's taste. Hence these parts of expr are missing:
//
//	now, date, duration, timezone   the clock, time zones and their database; times are no JSON
//	fractional exponents of **      their last digit differs between processors
//	matches with a computed pattern patterns are checked at compile time, and bounded (package pattern)
//	b"..." and method calls         JSON has neither bytes nor methods
//	$env                            it would read everything there is
//
// and these behave in a way of their own:
//
//	keys, values, toPairs, groupBy  in the order of the keys; groupBy gives an object
//	sort, sortBy                    keep the order of what is equal
//	string, toJSON                  compact JSON; string leaves a string as it is
//	len, indexOf, x[a:b]            count the characters of a string, not its bytes
//	x[i] of a string                nil, as it is by a reference; write x[i:i+1]
//	int, round, ceil, floor         give an exact integer where there is one
//
// All others do what expr's manual says. What counts as a letter or as white space is what the
// Unicode tables of the Go release say.
//
// # Cost
//
// The length and the nodes of a source are bounded, and every evaluation by a number of steps,
// which everything costs: a node, an element of a list, the bytes read, made, compared or
// matched. Time decides nothing, so an evaluation that is refused is refused on every replay.
package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"turbocat.io/pkg/template"
)

const (
	// MaxLength bounds the source, in bytes.
	MaxLength = 4096
	// MaxNodes bounds the names, constants, operators and calls of a source.
	MaxNodes = 1000
	// MaxReferences bounds the different paths of a source.
	MaxReferences = 100
	// MaxSteps bounds the work of one evaluation and with it its memory. A step is some 10 to
	// 50 ns; 1 MiB of JSON can be read, unless its values are smaller than some 8 bytes each.
	MaxSteps = 1_000_000
)

// Expression is a compiled expression; immutable, safe for concurrent use.
type Expression struct {
	eval  eval
	paths []template.Path
	slots int
}

// Reference is a path that an expression reads.
type Reference struct{ Path template.Path }

// Lookup gives the raw JSON value of a path; false when there is none.
type Lookup = func(template.Path) (json.RawMessage, bool)

// Compile makes an expression of its source. The error is one line with the position, the fault
// and its remedy.
func Compile(source string) (e *Expression, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			e, err = nil, errors.New("cannot be parsed; simplify the expression")
		}
	}()
	switch {
	case strings.TrimSpace(source) == "":
		return nil, errors.New("is empty; write an expression like inputs.n > 1")
	case len(source) > MaxLength:
		return nil, fmt.Errorf("is %d bytes long; at most %d are allowed, compute a part of it in a step", len(source), MaxLength)
	case !utf8.ValidString(source):
		return nil, errors.New("is not UTF-8 text; correct its encoding")
	}
	config := conf.CreateNew()
	config.MaxNodes = 0 // The parser counts less than what is compiled, the compiler all of it.
	tree, err := parser.ParseWithConfig(source, config)
	if err != nil {
		return nil, syntaxError(source, err)
	}
	c := &compiler{source: source, index: map[string]int{}}
	root, err := c.node(tree.Node)
	if err != nil {
		return nil, err
	}
	return &Expression{eval: root, paths: c.paths, slots: c.slots}, nil
}

// CompileRow compiles an expression over the rows of a DATA agent: it reads row, the row at hand, and input, the step's input, and nothing else.
func CompileRow(source string) (*Expression, error) {
	e, err := Compile(source)
	if err != nil {
		return nil, err
	}
	for _, p := range e.paths {
		if root := p.Root(); root != "row" && root != "input" {
			return nil, fmt.Errorf("there is no %s; write row.%s for a field of the row, or input.%s for one of the step's input", root, root, root)
		}
	}
	return e, nil
}

// attribute is what a name of an attribute of a CloudEvent may be, and notAttributes what it is not though somebody may think so.
var (
	attribute     = regexp.MustCompile(`^[a-z0-9]{1,20}$`)
	notAttributes = []string{"event", "inputs", "input", "metadata", "payload", "body"}
)

// CompileEvent compiles a filter over CloudEvents: it reads their attributes by name, extensions among them, and data, as OfEvent gives them.
func CompileEvent(source string) (*Expression, error) {
	e, err := Compile(source)
	if err != nil {
		return nil, err
	}
	for _, p := range e.paths {
		if root := p.Root(); !attribute.MatchString(root) || slices.Contains(notAttributes, root) {
			return nil, fmt.Errorf("there is no %s; write type, source, subject or another attribute of the event, or data.%s for a field of its data", root, root)
		}
	}
	return e, nil
}

// OfEvent looks up what a filter reads in a CloudEvent in its JSON format.
func OfEvent(event json.RawMessage) Lookup {
	return func(p template.Path) (json.RawMessage, bool) { return template.Walk(event, p) }
}

// References gives every static path that the expression reads, once each, in the order they
// first stand in it; of a path with a computed part the static beginning. Nothing else is looked
// up.
func (e *Expression) References() []Reference {
	refs := make([]Reference, len(e.paths))
	for i, p := range e.paths {
		refs[i] = Reference{Path: slices.Clone(p)}
	}
	return refs
}

// Evaluate computes the value as JSON with sorted keys. lookup is asked at most once for each
// reference and must give JSON; what it does not know is nil. The error is one line.
func (e *Expression) Evaluate(lookup Lookup) (value json.RawMessage, err error) {
	defer recovered(&err)
	r := e.start(lookup)
	v, err := e.eval(r)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := r.encode(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Holds evaluates a condition. A value that is no boolean is an error that names its kind.
func (e *Expression) Holds(lookup Lookup) (holds bool, err error) {
	defer recovered(&err)
	v, err := e.eval(e.start(lookup))
	if err != nil {
		return false, err
	}
	holds, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the value is %s, not true or false; compare it with something", kind(v))
	}
	return holds, nil
}

func (e *Expression) start(lookup Lookup) *run {
	return &run{
		lookup: lookup,
		paths:  e.paths,
		values: make([]any, len(e.paths)),
		known:  make([]bool, len(e.paths)),
		slots:  make([]any, e.slots),
		left:   MaxSteps,
	}
}

func recovered(err *error) {
	if fault := recover(); fault != nil {
		*err = errors.New("cannot be evaluated; simplify the expression")
	}
}

func syntaxError(source string, err error) error {
	at, text := 0, err.Error()
	var e *file.Error
	if errors.As(err, &e) {
		at, text = e.From, e.Message
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "..."
	}
	return &fault{place(source, at), errors.New(text + "; correct the syntax there")}
}

// fault is an error at a place of the source.
type fault struct {
	place string
	err   error
}

func (f *fault) Error() string { return f.place + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// place names the place behind the first n characters of source.
func place(source string, n int) string {
	line, column := 1, 1
	for _, c := range source {
		if n == 0 {
			break
		}
		n--
		if column++; c == '\n' {
			line, column = line+1, 1
		}
	}
	if !strings.Contains(source, "\n") {
		return "column " + strconv.Itoa(column)
	}
	return "line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column)
}
