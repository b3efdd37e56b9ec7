//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"turbocat.io/contracts/identity"
)

// How many requests TestFuzzAPI sends unless TURBOCAT_E2E_FUZZ says otherwise, and for how many of them a user is the same.
const (
	fuzzRequests = 500
	fuzzOfAUser  = 100
	// slowestAnswer is when a request counts as hung. What may wait as asked is asked to wait for less.
	slowestAnswer = 30 * time.Second
)

// TestFuzzAPI sends requests that are drawn from the OpenAPI document, right ones and ones with something wrong. None may be
// answered by an INTERNAL, hang, or have an answer that the document does not have; every refusal is in the envelope.
func TestFuzzAPI(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("TURBOCAT_E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	requests := fuzzRequests
	if given := os.Getenv("TURBOCAT_E2E_FUZZ"); given != "" {
		var err error
		if requests, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TURBOCAT_E2E_SEED=%d draws the same requests", seed)
	doc, err := documentOf(home(t).url)
	if err != nil {
		t.Fatal(err)
	}
	f := &fuzzer{t: t, random: rand.New(rand.NewPCG(seed, 0)), operations: operationsOf(doc), statuses: map[int]int{}}
	for n := range requests {
		if n%fuzzOfAUser == 0 {
			f.begin()
		}
		f.shoot(pick(f, f.operations), false)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d requests to %d operations were answered with %v", requests, len(f.operations), f.statuses)
	if f.statuses[200]+f.statuses[201] < requests/10 {
		t.Error("hardly any request was accepted, so that little was tried")
	}
}

// operation is a route of the document.
type operation struct {
	method, path string
	*openapi3.Operation
}

func operationsOf(doc document) []operation {
	var all []operation
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, operation{method, path, op})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+" "+a.method, b.path+" "+b.method) })
	return all
}

// streams tells whether the answer of a 200 may go on for ever.
func (o operation) streams() bool {
	ok := o.Responses.Status(http.StatusOK)
	return ok != nil && ok.Value.Content["text/event-stream"] != nil
}

type fuzzer struct {
	t          *testing.T
	random     *rand.Rand
	c          *client
	operations []operation
	known      map[string][]string // ids of what the user has, by the part of the path before them
	statuses   map[int]int
}

// oneIn is true for one draw of n.
func (f *fuzzer) oneIn(n int) bool { return f.random.IntN(n) == 0 }

func pick[T any](f *fuzzer, from []T) T { return from[f.random.IntN(len(from))] }

// begin goes on as a new user, who makes one of each thing as the document's examples show it.
func (f *fuzzer) begin() {
	f.c = user(f.t)
	f.known = map[string][]string{}
	makers := slices.DeleteFunc(slices.Clone(f.operations), func(o operation) bool {
		return o.method != http.MethodPost || o.Responses.Status(http.StatusCreated) == nil || o.content() == nil || o.content().Example == nil || o.Security == nil
	})
	slices.SortStableFunc(makers, func(a, b operation) int { return strings.Count(a.path, "{") - strings.Count(b.path, "{") })
	for _, op := range makers {
		f.shoot(op, true)
	}
}

// content is the body that the operation takes; nil for none.
func (o operation) content() *openapi3.MediaType {
	if o.RequestBody == nil {
		return nil
	}
	return o.RequestBody.Value.Content["application/json"]
}

// shoot sends one request, the document's example where asked to, and checks its answer.
func (f *fuzzer) shoot(op operation, example bool) {
	path, headers := f.address(op)
	var body any
	switch {
	case op.content() == nil:
	case example:
		body = op.content().Example
	default:
		body = f.body(op.content())
	}
	within := slowestAnswer
	if op.streams() {
		within = time.Second
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), within)
	defer cancel()
	a, err := f.c.send(ctx, op.method, path, body, headers...)
	if err != nil {
		if !op.streams() || !errors.Is(err, context.DeadlineExceeded) {
			f.t.Errorf("%s %s %v: %v", op.method, path, body, err)
		}
		return
	}
	f.statuses[a.status]++
	if a.status >= http.StatusInternalServerError {
		f.t.Errorf("a request of a client broke something: %s", a)
	}
	if problem := a.malformed(); problem != "" {
		f.t.Errorf("%s\n%s", problem, a)
	}
	if err := undocumented(f.c.url, op.method, path, a); err != nil {
		f.t.Errorf("not as openapi.json says: %v\n%s", err, a)
	}
	f.learn(op, a)
}

// learn remembers the id of what was made, and opens a new session when the user has ended its own.
func (f *fuzzer) learn(op operation, a answer) {
	switch {
	case a.status == http.StatusCreated:
		var made struct{ Data struct{ ID string } }
		if json.Unmarshal(a.body, &made) == nil && made.Data.ID != "" {
			collection := lastFixed(op.path)
			f.known[collection] = append(f.known[collection], made.Data.ID)
		}
	case a.status == http.StatusUnauthorized && op.Security != nil:
		f.c.session = data[identity.Session](f.t, f.c.do(f.t, "POST", "/auth/login", object{"email": f.c.session.User.Email, "password": password}), 200)
	}
}

// lastFixed gives the collection that a POST to a path adds to: an execute makes an execution, a duplicate one more of the same.
func lastFixed(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	last := parts[len(parts)-1]
	switch last {
	case "execute", "retry", "rerun", "replay", "test":
		return "executions"
	case "import":
		return "workflows"
	case "duplicate":
		return parts[len(parts)-3]
	}
	return last
}

// address draws the path, the query and the headers.
func (f *fuzzer) address(op operation) (path string, headers []string) {
	path = op.path
	query := url.Values{}
	for _, p := range op.Parameters {
		name, schema := p.Value.Name, p.Value.Schema.Value
		switch p.Value.In {
		case openapi3.ParameterInPath:
			before, _, _ := strings.Cut(path, "{"+name+"}")
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(f.pathValue(before, schema)))
		case openapi3.ParameterInQuery:
			if f.oneIn(4) {
				query.Set(name, f.parameter(name, schema))
			}
		case openapi3.ParameterInHeader:
			if f.oneIn(4) {
				headers = append(headers, name, headerSafe(f.parameter(name, schema)))
			}
		}
	}
	if f.oneIn(20) {
		query.Set("unknown", f.text())
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path, headers
}

// pathValue draws an id, of something that is there as often as not.
func (f *fuzzer) pathValue(before string, schema *openapi3.Schema) string {
	parts := strings.Split(strings.Trim(before, "/"), "/")
	known := f.known[parts[len(parts)-1]]
	switch {
	case len(known) > 0 && !f.oneIn(4):
		return pick(f, known)
	case schema.Format == "uuid" && !f.oneIn(4):
		return uuid.NewString()
	}
	if v := f.text(); v != "" && v != "." && v != ".." {
		return v
	}
	return "x"
}

func (f *fuzzer) parameter(name string, schema *openapi3.Schema) string {
	if name == "wait" && !f.oneIn(4) {
		return "1s" // any other would be waited for, rightly
	}
	if f.oneIn(4) {
		v := f.text()
		if name == "wait" {
			return "x" + v
		}
		return v
	}
	switch v := f.value(schema, 0).(type) {
	case string:
		return v
	case []any:
		return fmt.Sprint(len(v))
	default:
		raw, _ := json.Marshal(v) // made of what encodes
		return string(raw)
	}
}

// headerSafe gives what can stand in a header; anything else never leaves the client.
func headerSafe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
}

// body draws a body: what the document gives as an example, something of the schema, or that with something wrong in it.
func (f *fuzzer) body(content *openapi3.MediaType) any {
	switch f.random.IntN(12) {
	case 0:
		return raw(pick(f, []string{"", "{", "null", "[]", `"x"`, `{"a":}`, "{}{}", "\xff\xfe", strings.Repeat("[", 5000), `{"a":1e400}`, `{"__proto__":{}}`}))
	case 1:
		return nil
	case 2, 3, 4, 5:
		if content.Example != nil {
			return f.mutated(content.Example)
		}
	}
	return f.value(content.Schema.Value, 0)
}

// mutated gives a copy of a JSON value in which something may be another.
func (f *fuzzer) mutated(v any) any {
	if f.oneIn(25) {
		return f.junk()
	}
	switch v := v.(type) {
	case map[string]any:
		copied := object{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if !f.oneIn(40) {
				copied[name] = f.mutated(v[name])
			}
		}
		if f.oneIn(40) {
			copied[f.text()] = f.junk()
		}
		return copied
	case []any:
		copied := []any{}
		for _, item := range v {
			copied = append(copied, f.mutated(item))
		}
		return copied
	}
	return v
}

// value draws a value of a schema, now and then one of none.
func (f *fuzzer) value(schema *openapi3.Schema, depth int) any {
	if schema == nil || depth > 6 || f.oneIn(30) {
		return f.junk()
	}
	if len(schema.Enum) > 0 && !f.oneIn(15) {
		return pick(f, schema.Enum)
	}
	for _, of := range [][]*openapi3.SchemaRef{[]*openapi3.SchemaRef(schema.AnyOf), []*openapi3.SchemaRef(schema.OneOf)} {
		if len(of) > 0 {
			return f.value(pick(f, of).Value, depth+1)
		}
	}
	switch {
	case schema.Type.Includes("object"):
		o := object{}
		for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
			if slices.Contains(schema.Required, name) && !f.oneIn(30) || f.oneIn(3) {
				o[name] = f.value(schema.Properties[name].Value, depth+1)
			}
		}
		if f.oneIn(20) {
			o[f.text()] = f.junk()
		}
		return o
	case schema.Type.Includes("array"):
		items := []any{}
		for range f.random.IntN(4) {
			items = append(items, f.value(schema.Items.Value, depth+1))
		}
		return items
	case schema.Type.Includes("integer"), schema.Type.Includes("number"):
		low, high := 0.0, 100_000.0
		if schema.Min != nil {
			low = *schema.Min
		}
		if schema.Max != nil {
			high = *schema.Max
		}
		return int64(low + f.random.Float64()*(high-low))
	case schema.Type.Includes("boolean"):
		return f.oneIn(2)
	case schema.Type.Includes("string"):
		switch schema.Format {
		case "uuid":
			for _, collection := range slices.Sorted(maps.Keys(f.known)) { // in order, for a seed to draw the same
				if f.oneIn(2) {
					return pick(f, f.known[collection])
				}
			}
			return uuid.NewString()
		case "date-time":
			return time.Unix(f.random.Int64N(4e9), 0).UTC().Format(time.RFC3339)
		case "email":
			return f.text() + "@example.com"
		}
		return f.text()
	}
	return f.junk()
}

// text draws a text, often one that has broken something before.
func (f *fuzzer) text() string {
	if f.oneIn(2) {
		b := make([]byte, f.random.IntN(12))
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyzABC0123456789_-. "[f.random.IntN(43)]
		}
		return string(b)
	}
	return pick(f, []string{
		"", "a", "name", "'; DROP TABLE agents; --", `"`, "{{inputs.x}}", "{{", "{{secrets.X}}", "__proto__", "\u0000", "\u202e", "🐈", "%00", "../../etc/passwd", "-1", "0", "1e400", "NaN", "null", "true",
		strings.Repeat("a", 300), strings.Repeat("é", 3000), "a\r\nX-Evil: 1", "\x1b[31m", "2026-02-30T00:00:00Z", "@daily", "* * * * *", "Europe/Berlin", "inputs.a == 1", "1+", "((((", "<script>", "${jndi:ldap://x}", "\\", "%s%d", "ACTIVE", "active",
	})
}

// junk draws any value at all.
func (f *fuzzer) junk() any {
	switch f.random.IntN(9) {
	case 0:
		return nil
	case 1:
		return f.oneIn(2)
	case 2:
		return f.random.Int64() - f.random.Int64()
	case 3:
		return f.random.NormFloat64() * 1e9
	case 4:
		return []any{f.text(), nil, object{}}
	case 5:
		return object{f.text(): f.text(), "stepKey": "a"}
	case 6:
		return object{}
	default:
		return f.text()
	}
}
