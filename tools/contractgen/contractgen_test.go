package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"turbocat.io/contracts"
)

var (
	root     = sync.OnceValues(workspace)
	allFiles = sync.OnceValues(func() (map[string][]byte, error) {
		dir, err := root()
		if err != nil {
			return nil, err
		}
		return generate(dir)
	})
)

func generated(t *testing.T) (string, map[string][]byte) {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := allFiles()
	if err != nil {
		t.Fatal(err)
	}
	return dir, files
}

// TestFilesAreUpToDate compares every generated file with what its declarations give now.
func TestFilesAreUpToDate(t *testing.T) {
	dir, files := generated(t)
	for name, content := range files {
		on, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err != nil:
			t.Errorf("%v; run `make contracts`", err)
		case !bytes.Equal(on, content):
			t.Errorf("%s is not what its declarations give; run `make contracts`", name)
		}
	}
	stale, err := leftovers(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stale {
		t.Errorf("%s is made by nothing any more; run `make contracts`", name)
	}
	if len(files) < 100 {
		t.Errorf("only %d files are generated", len(files))
	}
}

func TestOutputIsAlwaysTheSame(t *testing.T) {
	dir, first := generated(t)
	second, err := generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range first {
		if !bytes.Equal(content, second[name]) {
			t.Errorf("%s differs from one run to the next", name)
		}
	}
}

// compiler finds schemas among files, by their paths, and nowhere else.
func compiler(t *testing.T, files map[string][]byte) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	c.AssertFormat()
	for name, content := range files {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.AddResource("mem:///"+name, schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return c
}

func compile(t *testing.T, c *jsonschema.Compiler, name string) *jsonschema.Schema {
	t.Helper()
	schema, err := c.Compile("mem:///" + name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return schema
}

func TestEverySchemaCompiles(t *testing.T) {
	_, files := generated(t)
	c := compiler(t, files)
	for name := range files {
		if strings.HasSuffix(name, ".json") {
			compile(t, c, name)
		}
	}
}

// TestGoldenFilesFitTheirSchemas lets the schemas judge what was and is sent.
func TestGoldenFilesFitTheirSchemas(t *testing.T) {
	dir, files := generated(t)
	c := compiler(t, files)
	golden := filepath.Join(dir, "contracts", "testdata", "golden")
	judged := 0
	check := func(name string, schema *jsonschema.Schema, raw []byte) {
		t.Helper()
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		judged++
	}
	for _, m := range slices.Concat(contracts.Events(), contracts.Messages()) {
		names, err := fs.Glob(os.DirFS(golden), m.Name+"/*.json")
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d golden files, %v", m.Name, len(names), err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(filepath.Join(golden, name))
			if err != nil {
				t.Fatal(err)
			}
			if m.Mode == contracts.Batched {
				check(name, compile(t, c, schemaDir+"/"+eventSchema(m)), raw)
				continue
			}
			var parts struct{ Headers, Body json.RawMessage }
			if err := json.Unmarshal(raw, &parts); err != nil {
				t.Fatal(err)
			}
			if m.Mode == contracts.Binary {
				check(name, compile(t, c, schemaDir+"/"+headersSchema(m)), parts.Headers)
			}
			if m.Data != nil {
				check(name, compile(t, c, schemaDir+"/"+bodySchema(m)), parts.Body)
			}
		}
	}
	if judged < 30 {
		t.Errorf("only %d values were judged", judged)
	}
}

// TestSchemasRefuse shows that the schemas say something.
func TestSchemasRefuse(t *testing.T) {
	_, files := generated(t)
	c := compiler(t, files)
	for _, tc := range []struct{ schema, value, because string }{
		{"event/io.turbocat.execution.created.v1.json", `{"specversion":"1.0"}`, "missing"},
		{"message/io.turbocat.step.failed.v1.body.json", `{"code":1,"message":"m","retryable":false}`, "want string"},
		{"message/log.batch.v1.body.json", `{"lines":[{"level":"LOUD"}]}`, "must be one of"},
		{"message/io.turbocat.step.ready.v1.headers.json", `{"ce-dispatch":"one"}`, "does not match"},
		{"rpc/orchestrator.get_execution.v1.request.json", `{}`, "missing"},
		{"rpc/orchestrator.get_execution.v1.response.json", `{"error":"x"}`, "want object"},
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(tc.value))
		if err != nil {
			t.Fatal(err)
		}
		if err := compile(t, c, schemaDir+"/"+tc.schema).Validate(value); err == nil || !strings.Contains(err.Error(), tc.because) {
			t.Errorf("%s of %s: %v", tc.schema, tc.value, err)
		}
	}
}

// TestSchemasAccept shows what a reader must not refuse: null where Go writes it, raw JSON, and new members.
func TestSchemasAccept(t *testing.T) {
	_, files := generated(t)
	c := compiler(t, files)
	for schema, value := range map[string]string{
		"message/io.turbocat.step.completed.v1.body.json": `[null, {"a": 1e400}]`,
		"message/io.turbocat.step.ready.v1.body.json":     `{"config": null, "input": "text", "new": 1}`,
		"rpc/error.json": `{"code": "NOT_FOUND", "message": "m", "new": {}}`,
		"rpc/catalog.list_agents.v1.response.json": `{"items": null, "pagination": {"page": 1, "pageSize": 20, "total": 0, "totalPages": 0, "nextCursor": null}}`,
	} {
		parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
		if err != nil {
			t.Fatal(err)
		}
		if err := compile(t, c, schemaDir+"/"+schema).Validate(parsed); err != nil {
			t.Errorf("%s: %v", schema, err)
		}
	}
}
