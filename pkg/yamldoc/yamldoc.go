// Package yamldoc reads documents that people write, YAML or JSON, into JSON or field by field. It remembers where each value
// stands, so that what is wrong with it can be told by its line, and finds every fault.
package yamldoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbocat.io/pkg/form"
)

// Bounds of a document, so that aliases of aliases end as a fault and not in memory.
const (
	maxNodes = 200_000
	// maxRepeated is how many values aliases may stand for: beyond those that were sent, whose cost the sender bears too.
	maxRepeated = 10_000
	maxDepth    = 100
)

// Document is a YAML document that is read field by field.
type Document struct {
	Lines  map[string]int // of a value, by its path
	Faults Faults         // found so far

	file            string
	nodes, repeated int
	aliases         int  // that what is being written stands in
	bounded         bool // a bound was met
}

// Faults are all that is wrong with a file.
type Faults []Fault

// Fault is one of them.
type Fault struct {
	File    string
	Line    int    // 0 when it is of no line
	Path    string // of the field, like steps[1].agent; "" for the whole
	Message string
}

func (f Fault) String() string {
	text := f.File + ": "
	if f.Line > 0 {
		text = fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	if f.Path != "" {
		text += f.Path + ": "
	}
	return text + f.Message
}

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d faults\n  ", len(lines)) + strings.Join(lines, "\n  ")
}

// Fields says where the values of a mapping go: into a pointer, or through a func(path, node).
type Fields map[string]any

// Fault notes what is wrong with a value.
func (d *Document) Fault(n *yaml.Node, path, format string, args ...any) {
	d.Faults = append(d.Faults, Fault{File: d.file, Line: n.Line, Path: path, Message: fmt.Sprintf(format, args...)})
}

var syntaxFault = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// Parse gives the root of the one document in raw, nil with a fault noted when there is none. file is how faults call it.
func Parse(file string, raw []byte) (*Document, *yaml.Node) {
	d := &Document{file: file, Lines: map[string]int{}}
	return d, d.parse(raw)
}

func (d *Document) parse(raw []byte) *yaml.Node {
	if json.Valid(raw) {
		raw = bytes.ReplaceAll(raw, []byte("\t"), []byte(" ")) // JSON has tabs between values alone, YAML nowhere
	}
	var root, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	err := decoder.Decode(&root)
	if err == nil {
		if again := decoder.Decode(&more); again == nil {
			d.Fault(&more, "", "a second document begins here; keep one workflow per file")
			return nil
		} else if !errors.Is(again, io.EOF) {
			err = again
		}
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(root.Content) == 0:
		d.Faults = append(d.Faults, Fault{File: d.file, Message: "the file is empty; give a workflow with name and steps"})
		return nil
	case err != nil:
		line, message := 0, err.Error()
		if m := syntaxFault.FindStringSubmatch(message); m != nil {
			line, _ = strconv.Atoi(m[1]) // 0 when there is none
			message = m[2]
		}
		d.Faults = append(d.Faults, Fault{File: d.file, Line: line, Message: "the YAML does not parse: " + message})
		return nil
	}
	return root.Content[0]
}

// Read reads a mapping; every fault in it is noted. A value that is null stays as it is.
func (d *Document) Read(path string, n *yaml.Node, into Fields) {
	d.Each(path, n, func(key, at string, name, value *yaml.Node) {
		target, known := into[key]
		if !known {
			d.Fault(name, at, "unknown field; remove it, or use one of %s", strings.Join(into.names(), ", "))
			return
		}
		if take, ok := target.(func(string, *yaml.Node)); ok {
			take(at, value)
			return
		}
		var raw bytes.Buffer
		if !d.write(&raw, at, value, 0) || raw.String() == "null" {
			return
		}
		var wrong *json.UnmarshalTypeError
		if err := json.Unmarshal(raw.Bytes(), target); errors.As(err, &wrong) {
			d.Fault(value, at, "is of the type %s; give %s", wrong.Value, want(wrong.Type.Kind().String()))
		} else if err != nil {
			d.Fault(value, at, "does not fit: %v", err)
		}
	})
}

func want(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"):
		return "a whole number"
	case kind == "bool":
		return "true or false"
	case kind == "slice":
		return "a list of texts"
	default:
		return "a text"
	}
}

func (f Fields) names() []string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Each visits the entries of a mapping; a fault is noted for what is none, and for keys that stand twice.
func (d *Document) Each(path string, n *yaml.Node, visit func(key, at string, name, value *yaml.Node)) {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		d.Fault(n, path, "is no mapping; give fields, like name: value")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := Resolve(n.Content[i]), n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
			d.Fault(n.Content[i], path, "has a key that is no plain text; write it as text, without <<")
			continue
		}
		at := form.Join(path, name.Value)
		if seen[name.Value] {
			d.Fault(name, at, "stands twice; remove one")
			continue
		}
		seen[name.Value] = true
		d.Lines[at] = name.Line
		visit(name.Value, at, name, value)
	}
}

// List visits the items of a sequence; a fault is noted for what is none.
func (d *Document) List(path string, n *yaml.Node, visit func(at string, item *yaml.Node)) {
	n = Resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.Fault(n, path, "is no list; begin each item with a dash")
		return
	}
	for i, item := range n.Content {
		at := form.At(path, i)
		d.Lines[at] = item.Line
		visit(at, item)
	}
}

// JSON gives the value as JSON with its keys in order; false with a fault noted when it is none.
func (d *Document) JSON(n *yaml.Node) (json.RawMessage, bool) {
	var b bytes.Buffer
	ok := d.write(&b, "", n, 0)
	return b.Bytes(), ok
}

// write writes the value as JSON with its keys in order; false with a fault noted when it is none.
func (d *Document) write(b *bytes.Buffer, path string, n *yaml.Node, depth int) bool {
	if n.Kind == yaml.AliasNode {
		d.aliases++
		defer func() { d.aliases-- }()
		n = Resolve(n)
	}
	if d.aliases > 0 {
		d.repeated++
	}
	if d.nodes++; d.nodes > maxNodes || d.repeated > maxRepeated || depth > maxDepth {
		if !d.bounded { // told once
			d.bounded = true
			d.Fault(n, path, "the file nests too deep or repeats itself by aliases too often; write it plainly")
		}
		return false
	}
	ok := true
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		first := true
		before := len(d.Faults)
		d.Each(path, n, func(key, at string, _, value *yaml.Node) {
			if !first {
				b.WriteByte(',')
			}
			first = false
			quote(b, key)
			b.WriteByte(':')
			ok = d.write(b, at, value, depth+1) && ok
		})
		ok = ok && len(d.Faults) == before
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		first := true
		d.List(path, n, func(at string, item *yaml.Node) {
			if !first {
				b.WriteByte(',')
			}
			first = false
			ok = d.write(b, at, item, depth+1) && ok
		})
		b.WriteByte(']')
	default:
		return d.writeScalar(b, path, n)
	}
	return ok
}

func (d *Document) writeScalar(b *bytes.Buffer, path string, n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		quote(b, n.Value)
	case "!!null":
		b.WriteString("null")
	case "!!bool":
		var v bool
		if n.Decode(&v) != nil {
			d.Fault(n, path, "is neither true nor false; write one of them")
			return false
		}
		b.WriteString(strconv.FormatBool(v))
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			b.WriteString(n.Value)
			return true
		}
		var whole int64
		if n.ShortTag() == "!!int" && n.Decode(&whole) == nil {
			b.WriteString(strconv.FormatInt(whole, 10))
			return true
		}
		var v float64
		if n.Decode(&v) != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			d.Fault(n, path, "%s is no number that JSON knows; give another", form.Quote(n.Value))
			return false
		}
		raw, _ := json.Marshal(v) // a finite number always encodes
		b.Write(raw)
	default:
		d.Fault(n, path, "has the tag %s, which JSON has no value for; remove it", form.Quote(n.Tag))
		return false
	}
	return true
}

func quote(b *bytes.Buffer, s string) {
	raw, _ := json.Marshal(s) // a string always encodes
	b.Write(raw)
}

// Line finds the line of a path, or of the nearest one around it; 0 when there is none.
func (d *Document) Line(path string) int {
	for path != "" {
		if line, ok := d.Lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// Resolve gives what an alias stands for, any other node as it is.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
