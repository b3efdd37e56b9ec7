package agent_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/services/catalog/internal/agent"
)

func schemas(t testing.TB) agent.Schemas {
	t.Helper()
	s, err := agent.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// faults gives the details of a VALIDATION_ERROR as "field code", one a line.
func faults(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *errs.Error
	if !errors.As(err, &e) || e.Code != errs.Validation {
		t.Fatalf("not a VALIDATION_ERROR: %v", err)
	}
	var lines []string
	for _, d := range e.Details {
		if d.Message == "" {
			t.Errorf("no message for %s", d.Field)
		}
		lines = append(lines, d.Field+" "+string(d.Code))
	}
	return strings.Join(lines, "\n")
}

const code = `{"runtime":"javascript","source":"function handler(i){return i}"}`

func TestNewDefaults(t *testing.T) {
	a, err := schemas(t).New([]byte(`{"name":"sum","type":"CODE","config":{ "runtime":"javascript", "source":"x<y" }}`))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(a)
	const want = `{"id":"","userId":"","name":"sum","description":"","type":"CODE","status":"DRAFT","version":1,` +
		`"config":{"runtime":"javascript","source":"x\u003cy"},"inputSchema":null,"outputSchema":null,"tags":[],"isPublic":false,` +
		`"createdAt":"0001-01-01T00:00:00Z","updatedAt":"0001-01-01T00:00:00Z"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if string(a.Config) != `{ "runtime":"javascript", "source":"x<y" }` {
		t.Errorf("the config is not as written: %s", a.Config)
	}
}

func TestNew(t *testing.T) {
	with := func(config string) string { return `{"name":"n","type":"CODE","config":` + config + `}` }
	llm := func(config string) string {
		return `{"name":"n","type":"LLM","status":"ACTIVE","config":` + config + `}`
	}
	api := func(config string) string { return `{"name":"n","type":"API","config":` + config + `}` }
	data := func(config string) string { return `{"name":"n","type":"DATA","config":` + config + `}` }
	long := strings.Repeat("ü", 201)
	for _, c := range []struct{ name, body, want string }{
		{"not JSON", `{"name":`, " bad_json"},
		{"not UTF-8", "{\"name\":\"\xff\"}", " bad_json"},
		{"not an object", `[1]`, " bad_type"},
		{"null", `null`, " bad_type"},
		{"deep", strings.Repeat("[", 300) + strings.Repeat("]", 300), " bad_value"},
		{"empty", `{}`, "name required\ntype required\nconfig required"},
		{"null where required", `{"name":null,"type":null,"config":null}`, "name required\ntype required\nconfig required"},
		{
			"wrong types", `{"name":1,"type":2,"config":[],"description":{},"status":[],"tags":"x","isPublic":"yes","inputSchema":"s","outputSchema":3}`,
			"name bad_type\ndescription bad_type\ntype bad_type\nstatus bad_type\nconfig bad_type\ntags bad_type\nisPublic bad_type\ninputSchema bad_type\noutputSchema bad_type",
		},
		{"bad enums", `{"name":"n","type":"MAGIC","status":"ON","config":{}}`, "type bad_enum\nstatus bad_enum"},
		{"unknown field", `{"name":"n","type":"CODE","config":` + code + `,"nam":1,"z z":2}`, "nam unknown_field\n[\"z z\"] unknown_field"},
		{"read-only fields are ignored", `{"id":"x","userId":1,"version":9,"createdAt":0,"updatedAt":0,"sourceId":0,"name":"n","type":"CODE","config":` + code + `}`, ""},
		{"empty name", `{"name":"","type":"CODE","config":` + code + `}`, "name out_of_range"},
		{"long name", `{"name":"` + long + `","type":"CODE","config":` + code + `}`, "name out_of_range"},
		{"longest name", `{"name":"` + long[2:] + `","type":"CODE","config":` + code + `}`, ""},
		{"NUL in name", `{"name":"a\u0000","type":"CODE","config":` + code + `}`, "name bad_value"},
		{"tags", `{"name":"n","type":"CODE","config":` + code + `,"tags":["",1,"` + long + `","ok"]}`, "tags[0] out_of_range\ntags[1] bad_type\ntags[2] out_of_range"},
		{"too many tags", `{"name":"n","type":"CODE","config":` + code + `,"tags":["a"` + strings.Repeat(`,"a"`, 20) + `]}`, "tags out_of_range"},

		{"CODE", with(code), ""},
		{"CODE whole", with(`{"runtime":"python","source":"x","files":{},"entry":"handler","timeoutMs":3e4,"memoryMb":128,"allowHosts":["a.b"]}`), ""},
		{"CODE files", with(`{"runtime":"typescript","files":{"a.ts":"x"}}`), ""},
		{"CODE main file", with(`{"runtime":"typescript","files":{"lib/a.ts":"x","b.ts":"y"},"main":"b.ts"}`), ""},
		{"CODE without main file", with(`{"runtime":"typescript","files":{"a.ts":"x","main.js":"y"}}`), "config.main bad_value"},
		{"CODE with another main file", with(`{"runtime":"typescript","files":{"a.ts":"x"},"main":"b.ts"}`), "config.main bad_value"},
		{"CODE main file of a source", with(`{"runtime":"typescript","source":"x","main":"b.ts"}`), "config.main unknown_field"},
		{"CODE file outside", with(`{"runtime":"typescript","files":{"../a.ts":"x"}}`), "config bad_value"},
		{
			"CODE faults", with(`{"runtime":"ruby","timeoutMs":0,"memoryMb":"x","entry":"a b","extra":1,"allowHosts":[1]}`),
			"config required\nconfig.allowHosts[0] bad_type\nconfig.entry bad_value\nconfig.extra unknown_field\nconfig.memoryMb bad_type\nconfig.runtime bad_enum\nconfig.timeoutMs out_of_range",
		},
		{"CODE without source", with(`{"runtime":"javascript"}`), "config required"},
		{"CODE source and files", with(`{"runtime":"javascript","source":"x","files":{"a.js":"y"}}`), "config.files out_of_range"},
		{"CODE largest source", with(`{"runtime":"javascript","source":"` + strings.Repeat("é", catalog.MaxCodeSource/2) + `"}`), ""},
		{"CODE source too large", with(`{"runtime":"javascript","source":"` + strings.Repeat("é", catalog.MaxCodeSource/2) + `x"}`), "config.source out_of_range"},
		{
			"CODE files too large", with(`{"runtime":"python","files":{"b.py":"` + strings.Repeat("x", catalog.MaxCodeSource+1) + `","a.py":"` + strings.Repeat("x", catalog.MaxCodeSource+1) + `","main.py":""}}`),
			"config.files[\"a.py\"] out_of_range\nconfig.files[\"b.py\"] out_of_range",
		},
		{"CODE empty files", with(`{"runtime":"javascript","files":{}}`), "config required"},
		{"huge number", with(`{"runtime":"javascript","source":"x","timeoutMs":1e999999999}`), "config out_of_range"},
		{"tiny number", with(`{"runtime":"javascript","source":"x","timeoutMs":1e-999999999}`), "config out_of_range"},

		{"API", api(`{"url":"https://x/{{id}}"}`), ""},
		{"API whole", api(`{"method":"GET","url":"https://x","headers":{},"query":{"a":1},"body":null,"auth":{"type":"bearer","token":"t"},` +
			`"retry":{"count":0,"delayMs":1000,"statusCodes":[]},"responseType":"auto","successStatus":["2xx","404"],"timeoutMs":30000}`), ""},
		{"API bad auth", api(`{"url":"https://x","auth":{"type":"basic","username":"u","pasword":"p"}}`), "config.auth.password required\nconfig.auth.pasword unknown_field"},
		{"API key", api(`{"url":"https://x","auth":{"type":"apiKey","value":"v"},"successStatus":[200,"3XX"]}`), ""},
		{
			"API key in query", api(`{"url":"https://x","auth":{"type":"apiKey","value":"v","in":"query"},"successStatus":[99,"6xx"]}`),
			"config.auth.name required\nconfig.successStatus[0] out_of_range\nconfig.successStatus[1] bad_value",
		},
		{"API bad auth type", api(`{"url":"https://x","auth":{"type":"digest"}}`), "config.auth.type bad_enum"},
		{"API bad retry", api(`{"url":"https://x","retry":{"statusCodes":[200,"x"]}}`), "config.retry.statusCodes[1] bad_type"},
		{"API bad url", api(`{"url":"file:///etc/passwd"}`), "config.url bad_value"},
		{"API bad template", api(`{"url":"https://x/{{","headers":{"a":"{{b.}}"}}`), "config.url bad_template\nconfig.headers.a bad_template"},
		{"API pages", api(`{"url":"https://x","pagination":{"type":"cursor","cursorPath":"meta.next","param":"c","itemsPath":"data[0]","maxPages":100}}`), ""},
		{
			"API bad pages", api(`{"url":"https://x","pagination":{"type":"offset","start":2,"maxPages":101,"x":1}}`),
			"config.pagination.maxPages out_of_range\nconfig.pagination.start out_of_range\nconfig.pagination.type bad_enum\nconfig.pagination.x unknown_field",
		},
		{"API pages of another way", api(`{"url":"https://x","pagination":{"type":"link","cursorPath":"a"}}`), "config.pagination.cursorPath unknown_field"},
		{"API a cursor that is nowhere", api(`{"url":"https://x","pagination":{"type":"cursor"}}`), "config.pagination.cursorPath required"},
		{"API secrets", api(`{"url":"https://x/{{secrets.KEY}}","headers":{"a":"Bearer {{secrets.my-key_2}}"}}`), ""},
		{
			"API secrets that are none", api(`{"url":"https://x","headers":{"a":"{{secrets}}","b":"{{secrets[0]}}","c":"{{secrets.K.x}}","d":"{{secrets[\"a b\"]}}"}}`),
			"config.headers.a bad_template\nconfig.headers.b bad_template\nconfig.headers.c bad_template\nconfig.headers.d bad_template",
		},
		{"CODE secrets", `{"name":"n","type":"CODE","config":{"runtime":"javascript","source":"1","secrets":["KEY","my-key"]}}`, ""},
		{"CODE secrets that are none", `{"name":"n","type":"CODE","config":{"runtime":"javascript","source":"1","secrets":["a b"]}}`, "config.secrets[0] bad_value"},
		{"CODE of a pool", `{"name":"n","type":"CODE","config":{"runtime":"javascript","source":"1","runner":"gpu-2_A"}}`, ""},
		{"API of a pool", api(`{"url":"https://x","runner":"eu"}`), ""},
		{"API of two labels", api(`{"url":"https://x","runner":["gpu","eu"]}`), ""},
		{"API of too many labels", api(`{"url":"https://x","runner":["a","b","c","d","e"]}`), "config.runner bad_value"},
		{"API of no label", api(`{"url":"https://x","runner":[]}`), "config.runner bad_value"},
		{"DATA of a pool", `{"name":"n","type":"DATA","config":{"operation":"sort","sort":[{"field":"a"}],"runner":"eu"}}`, ""},
		{"API of labels that are none", api(`{"url":"https://x","runner":"a.b"}`), "config.runner bad_value"},
		{"API of labels that are no texts", api(`{"url":"https://x","runner":[1]}`), "config.runner bad_value"},
		{"WORKFLOW of a pool", `{"name":"n","type":"WORKFLOW","config":{"workflowId":"01930000-0000-7000-8000-000000000001","runner":"a"}}`, "config.runner unknown_field"},
		{"DATA secrets", `{"name":"n","type":"DATA","config":{"operation":"sort","sort":[{"field":"{{secrets.K}}"}]}}`, "config.sort[0].field bad_value\nconfig.sort[0].field not_applicable"},
		{"WORKFLOW secrets", `{"name":"n","type":"WORKFLOW","config":{"workflowId":"01930000-0000-7000-8000-000000000001","inputs":{"a":["{{secrets.K}}"]}}}`, "config.inputs.a[0] not_applicable"},

		{"DATA", data(`{"operation":"filter","field":"a","operator":"eq","value":1}`), ""},
		{"DATA pipeline", data(`{"pipeline":[{"operation":"sort","sort":[{"field":"x"}]}],"timeoutMs":1000}`), ""},
		{"DATA neither", data(`{}`), "config.operation required"},
		{"DATA both", data(`{"operation":"unique","pipeline":[{"operation":"unique"}]}`), "config.operation unknown_field"},
		{
			"DATA faults", data(`{"pipeline":[{"operation":"sort","by":"x"},{"operation":"shuffle"},{},{"operation":"filter","field":"a..b","operator":"is","value":1}]}`),
			"config.pipeline[0].by unknown_field\nconfig.pipeline[0].sort required\nconfig.pipeline[1].operation bad_enum\nconfig.pipeline[2].operation required\n" +
				"config.pipeline[3].field bad_value\nconfig.pipeline[3].operator bad_enum",
		},
		{
			"DATA expressions", data(`{"pipeline":[{"operation":"filter","expr":"row.a > "},{"operation":"map","fields":{"x":{"expr":"steps.y + 1"},"y":{"expr":"row.a * input.b"}}},{"operation":"transform","fields":{"expr":{"expr":"[row"}}}]}`),
			"config.pipeline[0].expr bad_value\nconfig.pipeline[1].fields.x.expr bad_value\nconfig.pipeline[2].fields.expr.expr bad_value",
		},
		{"DATA too deep", data(`{"operation":"map","fields":{"a":{"value":` + strings.Repeat("[", 62) + strings.Repeat("]", 62) + `}}}`), "config bad_value"},
		{"DATA too large", data(`{"operation":"map","fields":{"a":{"value":"` + strings.Repeat("x", catalog.MaxDataConfig) + `"}}}`), "config out_of_range"},
		{"a name twice", data(`{"operation":"pick","fields":["a"],"fields":["b"]}`), "config.fields bad_value"},
		{"a name twice within", with(`{"runtime":"javascript","files":{"a.js":"x","\u0061.js":"y"}}`), "config.files[\"a.js\"] bad_value"},

		{"LLM", llm(`{"providers":[{"type":"anthropic","model":"m"},{"type":"openai","name":"local","baseUrl":"http://127.0.0.1:11434/v1","apiKey":"{{secrets.KEY}}"}],"model":"m"}`), ""},
		{
			"LLM with all", llm(`{"providers":[{"type":"openai"}],"model":"m","system":"s {{a}}","prompt":"{{q}}","images":["{{i}}","https://x/y.png","data:image/png;base64,AA"],"temperature":1.5,` +
				`"maxTokens":5,"topP":1,"frequencyPenalty":1,"presencePenalty":-1,"stop":["x"],"responseFormat":{"type":"json","schema":{"type":"object"}},"maxTurns":3,"memory":{"key":"{{user}}"},` +
				`"tools":[{"agentId":"0193b7f0-0000-7000-8000-000000000000","name":"t","description":"d","parameters":{"type":"object"}},{"mcp":{"name":"s","url":"https://m/x","headers":{"X-Key":"{{secrets.K}}"},"allow":["a"]}},{"mcp":{"name":"p","program":"docs"}}],` +
				`"budgets":[{"scope":"user","period":"day","maxCostUsd":1,"action":"downgrade","model":"n"},{"scope":"step","maxTokens":10}],"timeoutMs":1000,"runner":"eu"}`), "",
		},
		{"LLM without a model", llm(`{"providers":[{"type":"openai"}]}`), "config.providers[0].model required"},
		{
			"LLM faults", llm(`{"providers":[{"type":"gemini","model":"m","apiKey":"sk-123","baseUrl":"ftp://x"}],"temperature":3,"images":["file:///x"],"maxTurns":0,"responseFormat":{"type":"json","schema":{"type":"objekt"}}}`),
			"config.images[0] bad_value\nconfig.maxTurns out_of_range\nconfig.providers[0].baseUrl bad_value\nconfig.providers[0].type bad_enum\nconfig.temperature out_of_range\n" +
				"config.providers[0].apiKey bad_value\nconfig.responseFormat.schema.type bad_enum",
		},
		{
			"LLM secrets that a model would read", llm(`{"providers":[{"type":"openai","model":"m"}],"system":"{{secrets.K}}","prompt":"a {{secrets.K}}","memory":{"key":"{{secrets.K}}"}}`),
			"config.system not_applicable\nconfig.prompt not_applicable\nconfig.memory.key not_applicable",
		},
		{
			"LLM of anthropic alone", llm(`{"providers":[{"type":"anthropic","model":"m"}],"temperature":1.1,"frequencyPenalty":1,"presencePenalty":1}`),
			"config.frequencyPenalty not_applicable\nconfig.presencePenalty not_applicable\nconfig.temperature out_of_range",
		},
		{
			"LLM tools", llm(`{"providers":[{"type":"openai","model":"m"}],"tools":[{"name":"a"},{"agentId":"0193b7f0-0000-7000-8000-000000000000","name":"b","description":"d","parameters":{"type":"array"}},` +
				`{"agentId":"0193b7f0-0000-7000-8000-000000000000","name":"b","description":"d"},{"mcp":{"name":"s","command":"rm"}},{"mcp":{"name":"s","url":"https://x","headers":{"a b":"c"}}},{"mcp":{"name":"q","url":"https://x","program":"docs"}},{"mcp":{"name":"r","program":"docs","headers":{"X-K":"v"}}},{"mcp":{"name":"u"}}]}`),
			"config.tools[0].agentId required\nconfig.tools[0].description required\nconfig.tools[3].mcp.command unknown_field\n" +
				"config.tools[1].parameters.type bad_value\nconfig.tools[2].name bad_value\nconfig.tools[3].mcp.url required\nconfig.tools[4].mcp.name bad_value\nconfig.tools[4].mcp.headers[\"a b\"] bad_value\n" +
				"config.tools[5].mcp.program not_applicable\nconfig.tools[6].mcp.headers not_applicable\nconfig.tools[7].mcp.url required",
		},
		{
			"LLM budgets", llm(`{"providers":[{"type":"openai","model":"m"}],"budgets":[{"scope":"user"},{"scope":"day","maxTokens":1},{"scope":"step","maxTokens":1,"action":"downgrade"}]}`),
			"config.budgets[0] required\nconfig.budgets[1].scope bad_enum\nconfig.budgets[2].model required",
		},
		{"WORKFLOW active", `{"name":"n","type":"WORKFLOW","status":"ACTIVE","config":{"workflowId":"0193b7f0-0000-7000-8000-000000000000","inputs":{"x":1},"detached":true,"timeoutMs":1000}}`, ""},
		{"WORKFLOW bad id", `{"name":"n","type":"WORKFLOW","config":{"workflowId":"x"}}`, "config.workflowId bad_value"},
		{"python active", `{"name":"n","type":"CODE","status":"ACTIVE","config":{"runtime":"python","source":"x"}}`, ""},
		{"hosts active", `{"name":"n","type":"CODE","status":"ACTIVE","config":{"runtime":"javascript","source":"x","allowHosts":["a.b","*.b","c.d:8443"]}}`, ""},
		{"hosts of python active", `{"name":"n","type":"CODE","status":"ACTIVE","config":{"runtime":"python","source":"x","allowHosts":["a.b"]}}`, ""},
		{
			"no hosts", with(`{"runtime":"javascript","source":"x","allowHosts":["https://a.b","a.b/c","*","a.*.b","a b","a.b:0","","-a"]}`),
			"config.allowHosts[0] bad_value\nconfig.allowHosts[1] bad_value\nconfig.allowHosts[2] bad_value\nconfig.allowHosts[3] bad_value\n" +
				"config.allowHosts[4] bad_value\nconfig.allowHosts[5] bad_value\nconfig.allowHosts[6] bad_value\nconfig.allowHosts[7] bad_value",
		},
		{"oauth2 active", `{"name":"n","type":"API","status":"ACTIVE","config":{"url":"https://x","auth":{"type":"oauth2","tokenUrl":"https://t","clientId":"i","clientSecret":"s"}}}`, ""},
		{"DATA active", `{"name":"n","type":"DATA","status":"ACTIVE","config":{"operation":"reduce","reducer":"sum","field":"n"}}`, ""},
		{"bearer active", `{"name":"n","type":"API","status":"ACTIVE","config":{"url":"https://x","auth":{"type":"bearer","token":"t"}}}`, ""},
		{"javascript active", `{"name":"n","type":"CODE","status":"ACTIVE","config":` + code + `}`, ""},

		{"good schemas", `{"name":"n","type":"CODE","config":` + code + `,"inputSchema":{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"integer"}}},"outputSchema":true}`, ""},
		{"bad schema", `{"name":"n","type":"CODE","config":` + code + `,"inputSchema":{"type":"objekt","properties":{"a":{"minimum":"x"}}}}`, "inputSchema.properties.a.minimum bad_type\ninputSchema.type bad_enum"},
		{
			"foreign schema", `{"name":"n","type":"CODE","config":` + code + `,"inputSchema":{"$ref":"file:///etc/passwd"},"outputSchema":{"$ref":"https://example.com/x"}}`,
			"inputSchema bad_value\noutputSchema bad_value",
		},
		{"schema with a broken pattern", `{"name":"n","type":"CODE","config":` + code + `,"inputSchema":{"pattern":"("}}`, "inputSchema.pattern bad_value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schemas(t).New([]byte(c.body))
			if got := faults(t, err); got != c.want {
				t.Errorf("faults of %s\n got %q\nwant %q\n%+v", c.body, got, c.want, err)
			}
		})
	}
}

// TestExpressionsAreCheckedWhenSaved wants to be told where an expression over rows is wrong.
func TestExpressionsAreCheckedWhenSaved(t *testing.T) {
	for text, want := range map[string]string{
		"row.a + * 2": "column 9", "row.a +\n  )": "line 2, column 3", "steps.x": "there is no steps; write row.steps for a field of the row",
	} {
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = schemas(t).New([]byte(`{"name":"n","type":"DATA","config":{"operation":"filter","expr":` + string(raw) + `}}`))
		var refused *errs.Error
		if !errors.As(err, &refused) || len(refused.Details) != 1 || refused.Details[0].Field != "config.expr" || !strings.Contains(refused.Details[0].Message, want) {
			t.Errorf("%q: %+v, want %s", text, refused, want)
		}
	}
}

func TestPatch(t *testing.T) {
	s := schemas(t)
	base, err := s.New([]byte(`{"name":"n","description":"d","type":"CODE","config":` + code + `,"inputSchema":{"type":"object"},"tags":["a"],"isPublic":true}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, body, want string
		version          int
	}{
		{"nothing", `{}`, "", 1},
		{"name only", `{"name":"m"}`, "", 1},
		{"null clears", `{"description":null,"inputSchema":null,"tags":null,"isPublic":null,"status":null}`, "", 2},
		{"same config", `{"config":` + code + `}`, "", 1},
		{"new config", `{"config":{"runtime":"javascript","source":"y"}}`, "", 2},
		{"name can not be cleared", `{"name":null}`, "name required", 0},
		{"config can not be cleared", `{"config":null}`, "config required", 0},
		{"type without its config", `{"type":"API"}`, "config.runtime unknown_field\nconfig.source unknown_field\nconfig.url required", 0},
		{"type with its config", `{"type":"API","config":{"url":"https://x"}}`, "", 2},
		{"read-only is ignored", `{"version":7,"id":"x"}`, "", 1},
		{"unknown field", `{"verzion":7}`, "verzion unknown_field", 0},
		{"active and typescript", `{"status":"ACTIVE","config":{"runtime":"typescript","source":"y"}}`, "", 2},
		{"active and python", `{"status":"ACTIVE","config":{"runtime":"python","source":"y"}}`, "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := s.Patch(base, []byte(c.body))
			if got := faults(t, err); got != c.want {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
			if c.want == "" && next.Version != c.version {
				t.Errorf("version %d, want %d", next.Version, c.version)
			}
		})
	}
	cleared, _ := s.Patch(base, []byte(`{"description":null,"inputSchema":null,"tags":null,"isPublic":null}`))
	if cleared.Description != "" || string(cleared.InputSchema) != "null" || cleared.Tags == nil || len(cleared.Tags) > 0 || cleared.IsPublic || cleared.Name != "n" {
		t.Errorf("not cleared: %+v", cleared)
	}
	if base.Description != "d" || len(base.Tags) != 1 {
		t.Errorf("the base changed: %+v", base)
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"name":"n","type":"API","config":{"url":"https://x/{{id}}","auth":{"type":"oauth2"}},"inputSchema":{"type":"object"}}`))
	f.Add([]byte(`{"name":"n","type":"DATA","config":{"pipeline":[{"operation":"unique"}]},"tags":["a"]}`))
	f.Add([]byte(`{"type":"CODE","config":{"timeoutMs":1e99999999}}`))
	s := schemas(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := s.New(body)
		if faults(t, err) != "" {
			return
		}
		if !json.Valid(a.Config) || !json.Valid(a.InputSchema) || a.Name == "" {
			t.Fatalf("accepted %q as %+v", body, a)
		}
	})
}
