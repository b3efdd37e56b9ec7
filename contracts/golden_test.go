package contracts_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"turbocat.io/contracts"
	"turbocat.io/contracts/event"
)

const goldenDir = "testdata/golden"

// goldenMessage is the file of a message that is not structured.
type goldenMessage struct {
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
}

// TestGoldenFiles reads every file as its consumers do, those of types that are no longer sent too.
func TestGoldenFiles(t *testing.T) {
	current := map[string]contracts.Message{}
	for _, m := range slices.Concat(contracts.Events(), contracts.Messages()) {
		current[m.Name] = m
		if files, _ := filepath.Glob(filepath.Join(goldenDir, m.Name, "*.json")); len(files) == 0 {
			t.Errorf("%s has no golden file; add %s/%s/001-<what it shows>.json, and its line to MANIFEST", m.Name, goldenDir, m.Name)
		}
	}
	for _, file := range goldenFiles(t) {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(goldenDir, file))
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Dir(file)
			m, isCurrent := current[name]
			var specversion struct{ SpecVersion string }
			if err := json.Unmarshal(raw, &specversion); err != nil {
				t.Fatal(err)
			}
			if specversion.SpecVersion != "" {
				e := checkStructured(t, name, raw)
				if isCurrent {
					checkEncoder(t, m, e, raw)
				}
				return
			}
			var g goldenMessage
			if err := strict(raw, &g); err != nil {
				t.Fatal(err)
			}
			if len(g.Headers) > 0 {
				checkBinary(t, name, g)
			}
			if isCurrent {
				checkMessage(t, m, g)
			}
		})
	}
}

// checkStructured lets the CloudEvents SDK judge an event.
func checkStructured(t *testing.T, name string, raw []byte) cloudevents.Event {
	e, err := event.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if e.Type() != name || e.Time().IsZero() || e.Subject() == "" || e.DataContentType() != "application/json" {
		t.Errorf("the attributes are %s", e.Context)
	}
	for name := range e.Extensions() {
		checkExtensionName(t, name)
	}
	if p, ok := e.Extensions()["p"].(int32); !ok || p < 0 {
		t.Errorf("p is %#v, not an integer", e.Extensions()["p"])
	}
	n, _ := e.Extensions()["n"].(string)
	if _, err := strconv.ParseUint(n, 10, 64); err != nil {
		t.Errorf("n is %#v, not a decimal number in a string", e.Extensions()["n"])
	}
	return e
}

// checkEncoder wants today's encoder to make the very bytes of the file, and its attributes to be listed.
func checkEncoder(t *testing.T, m contracts.Message, e cloudevents.Event, raw []byte) {
	data := checkData(t, m.Data, e.Data())
	parts := strings.Split(event.Path(m.Name), ".")
	version, err := strconv.Atoi(strings.TrimPrefix(parts[2], "v"))
	if err != nil {
		t.Fatal(err)
	}
	extension := func(name string) string { s, _ := e.Extensions()[name].(string); return s }
	number, _ := strconv.ParseUint(extension("n"), 10, 64)
	partition, _ := e.Extensions()["p"].(int32)
	encoded, err := event.Type[any]{Entity: parts[0], Name: parts[1], Version: version}.Encode(event.Meta{
		ID: e.ID(), Source: e.Source(), Subject: e.Subject(), Time: e.Time(), RequestID: extension("requestid"),
		Traceparent: extension("traceparent"), Partition: int(partition), Number: number,
	}, data)
	if err != nil || !bytes.Equal(encoded, raw) {
		t.Errorf("the encoder gives other bytes now, %v:\n%s\n%s\nwhat has to change otherwise than by a new optional field becomes a new version", err, encoded, raw)
	}
	var attributes map[string]any
	if err := json.Unmarshal(raw, &attributes); err != nil {
		t.Fatal(err)
	}
	delete(attributes, "data")
	values := map[string]string{}
	for name, v := range attributes {
		values[name] = fmt.Sprint(v)
	}
	checkFields(t, contracts.EventAttributes(), values)
}

// checkBinary makes a CloudEvent of headers and body, as the SDK's binding for NATS does.
func checkBinary(t *testing.T, name string, g goldenMessage) {
	e := cloudevents.New(g.Headers[event.HeaderSpecVersion])
	for header, value := range g.Headers {
		attribute, isAttribute := strings.CutPrefix(header, "ce-")
		switch {
		case header == event.HeaderContentType:
			e.SetDataContentType(value)
		case !isAttribute || header == event.HeaderSpecVersion:
		case header == event.HeaderID:
			e.SetID(value)
		case header == event.HeaderType:
			e.SetType(value)
		case header == event.HeaderSource:
			e.SetSource(value)
		case header == event.HeaderSubject:
			e.SetSubject(value)
		case attribute == "time":
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				t.Error(err)
			}
			e.SetTime(at)
		default:
			checkExtensionName(t, attribute)
			e.SetExtension(attribute, value)
		}
	}
	e.DataEncoded = g.Body
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if e.Type() != name {
		t.Errorf("the type is %s", e.Type())
	}
}

// checkMessage wants what the list says of a message to hold for the file.
func checkMessage(t *testing.T, m contracts.Message, g goldenMessage) {
	if (m.Mode == contracts.Plain) != (g.Headers == nil) {
		t.Errorf("it has headers %v and the list says %s", g.Headers, m.Mode)
	}
	if g.Headers != nil {
		checkFields(t, m.Headers, g.Headers)
	}
	if !subjectPattern(m.Subject).MatchString(g.Subject) {
		t.Errorf("the subject is %s; the list says %s", g.Subject, m.Subject)
	}
	if m.Data == nil {
		if g.Body != nil {
			t.Errorf("it has a body and the list says none: %s", g.Body)
		}
		return
	}
	encoded, err := json.Marshal(checkData(t, m.Data, g.Body))
	if err != nil || !bytes.Equal(encoded, g.Body) {
		t.Errorf("the body encodes otherwise now, %v:\n%s\n%s", err, encoded, g.Body)
	}
}

// checkData decodes into the Go type and wants nothing to be lost.
func checkData(t *testing.T, typ reflect.Type, raw []byte) any {
	v := reflect.New(typ)
	if err := strict(raw, v.Interface()); err != nil {
		t.Fatalf("%s does not decode: %v", typ, err)
	}
	again, err := json.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(document(t, again), document(t, raw)) {
		t.Errorf("decoded and encoded again it is\n%s\nand was\n%s", again, raw)
	}
	return v.Elem().Interface()
}

// checkFields wants the values to be those that are listed: all that must be, and no other.
func checkFields(t *testing.T, fields []contracts.Field, values map[string]string) {
	listed := map[string]bool{}
	for _, f := range fields {
		listed[f.Name] = true
		value, ok := values[f.Name]
		switch {
		case !ok:
			if !f.Optional {
				t.Errorf("%s is missing", f.Name)
			}
		case f.Value != "" && value != f.Value:
			t.Errorf("%s is %q, not %q", f.Name, value, f.Value)
		case f.Pattern != "" && !regexp.MustCompile(f.Pattern).MatchString(value):
			t.Errorf("%s is %q, not of %s", f.Name, value, f.Pattern)
		}
	}
	for name := range values {
		if !listed[name] {
			t.Errorf("%s is not listed in contracts/events.go or contracts/messages.go", name)
		}
	}
}

// checkExtensionName holds to what CloudEvents asks of names: lower-case letters and digits, 20 at most.
func checkExtensionName(t *testing.T, name string) {
	if !cloudevents.IsExtensionNameValid(name) || !regexp.MustCompile("^[a-z0-9]{1,20}$").MatchString(name) {
		t.Errorf("%q is no name for an extension of a CloudEvent", name)
	}
}

// TestGoldenFilesStay keeps the files as they were when they were added.
func TestGoldenFilesStay(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(goldenDir, "MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(manifest)) {
		sum, file, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("MANIFEST has the line %q; want the output of sha256sum", line)
		}
		sums[file] = sum
		b, err := os.ReadFile(filepath.Join(goldenDir, file))
		if err != nil {
			t.Errorf("%s is gone; golden files stay for ever: restore it", file)
		} else if sumOf(b) != sum {
			t.Errorf("%s has changed; golden files stay as they are: restore it, and add another beside it", file)
		}
	}
	for _, file := range goldenFiles(t) {
		if sums[file] != "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(goldenDir, file))
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s is not in %s/MANIFEST; append the line\n%s  %s", file, goldenDir, sumOf(b), file)
	}
}

// goldenFiles gives the files below goldenDir as type/name.json.
func goldenFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "*"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for i, file := range files {
		below, err := filepath.Rel(goldenDir, file)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = filepath.ToSlash(below)
		if !regexp.MustCompile(`^[a-z0-9_.]+/\d{3}-[a-z0-9-]+\.json$`).MatchString(files[i]) {
			t.Errorf("%s is no name for a golden file; want <type>/<nnn>-<what-it-shows>.json", files[i])
		}
	}
	return files
}

func sumOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// strict decodes JSON and refuses fields that v does not know.
func strict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// document decodes JSON and keeps numbers as they are written.
func document(t *testing.T, raw []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
