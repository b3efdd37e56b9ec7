package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/services/gateway/internal/httpapi"
)

// goldenDocument is the document that was last agreed to.
const goldenDocument = "../../../../contracts/openapi.json"

var update = flag.Bool("update", false, "write "+goldenDocument)

// TestDocumentIsTheGoldenOne shows every change of the API in a file that is reviewed.
func TestDocumentIsTheGoldenOne(t *testing.T) {
	w := start(t, setup{})
	got := w.do(request{method: "GET", path: "/api/v1/openapi.json"})
	if got.status != 200 {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	var live bytes.Buffer
	if err := json.Indent(&live, []byte(got.text), "", "  "); err != nil {
		t.Fatal(err)
	}
	live.WriteByte('\n')
	if *update {
		if err := os.WriteFile(goldenDocument, live.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(goldenDocument)
	if err != nil {
		t.Fatalf("%v; run `make contracts`", err)
	}
	if !bytes.Equal(live.Bytes(), golden) {
		was, is := firstDifference(golden, live.Bytes())
		t.Errorf("contracts/openapi.json is not the document that is served; run `make contracts`\nit has  %s\nserved %s", was, is)
	}
}

// firstDifference gives the first line that differs, as it is in each.
func firstDifference(a, b []byte) (string, string) {
	linesA, linesB := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(linesA), len(linesB)) {
		if linesA[i] != linesB[i] {
			return strings.TrimSpace(linesA[i]), strings.TrimSpace(linesB[i])
		}
	}
	return "fewer or more lines", "than this"
}

func loadDocument(t *testing.T, w *world) (*openapi3.T, routers.Router) {
	t.Helper()
	got := w.do(request{method: "GET", path: "/api/v1/openapi.json"})
	if got.status != 200 {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	document, err := openapi3.NewLoader().LoadFromData([]byte(got.text))
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(context.Background()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return document, router
}

func TestDocumentHasEveryRoute(t *testing.T) {
	w := start(t, setup{})
	document, _ := loadDocument(t, w)
	if document.OpenAPI != "3.1.0" {
		t.Errorf("version %s", document.OpenAPI)
	}
	parameter := regexp.MustCompile(`:(\w+)`)
	routes := 0
	for _, route := range httpapi.Routes(w.api) {
		if route.Method == http.MethodHead || strings.HasSuffix(route.Path, "/*") {
			continue
		}
		routes++
		path := parameter.ReplaceAllString(route.Path, "{$1}")
		item := document.Paths.Value(path)
		if item == nil || item.GetOperation(route.Method) == nil {
			t.Errorf("%s %s is not in the document", route.Method, path)
			continue
		}
		op := item.GetOperation(route.Method)
		if op.Summary == "" || len(op.Tags) == 0 || op.OperationID == "" {
			t.Errorf("%s %s has no summary, tags or id", route.Method, path)
		}
	}
	if routes < 80 {
		t.Errorf("only %d routes", routes)
	}
	body := document.Paths.Value("/api/v1/workflows").Post.RequestBody.Value.Content["application/json"].Schema.Value
	if body.Properties["steps"] == nil || body.Properties["concurrency"] == nil {
		t.Errorf("POST workflows documents %v", body.Properties)
	}
	if document.Paths.Value("/api/v1/workflows/{id}/execute").Post.RequestBody.Value.Required {
		t.Error("the body of execute is documented as required")
	}
}

// TestDocumentHasExamples wants examples of every body, every answer and every error, each fitting its schema, and of every parameter whose
// schema does not list what it may be; and in examples.json none that is not shown.
func TestDocumentHasExamples(t *testing.T) {
	w := start(t, setup{})
	document, _ := loadDocument(t, w)
	shown := map[string]bool{} // by section and name in examples.json
	for path, item := range document.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody != nil {
				shown["bodies "+op.OperationID] = true
				for kind, content := range op.RequestBody.Value.Content {
					checkExample(t, "the body of "+op.OperationID, kind, content.Schema.Value, content.Example)
				}
			}
			for status, response := range op.Responses.Map() {
				what := op.OperationID + "." + status
				shown["answers "+what] = true
				for kind, content := range response.Value.Content {
					if content.Examples == nil {
						checkExample(t, what, kind, content.Schema.Value, content.Example)
					}
					for name, example := range content.Examples {
						checkExample(t, what, kind, content.Schema.Value, example.Value.Value)
						if status >= "400" {
							shown["errors "+name] = true
							checkFailure(t, what, name, example.Value.Value)
							continue
						}
						shown["answers "+name], shown["answers "+strings.TrimPrefix(strings.TrimPrefix(name, "List"), "Envelope")] = true, true
						if id := lookup(example.Value.Value, "data", "id"); op == item.Get && strings.HasSuffix(path, "/{id}") && id != op.Parameters.GetByInAndName("path", "id").Schema.Value.Examples[0] {
							t.Errorf("%s shows %v, not what its path names", what, id)
						}
					}
				}
			}
			for _, p := range op.Parameters {
				schema, what := p.Value.Schema.Value, "the parameter "+p.Value.Name+" of "+op.OperationID
				if len(schema.Examples) == 0 && schema.Enum == nil && schema.Default == nil && !schema.Type.Is(openapi3.TypeBoolean) {
					t.Errorf("%s has no example", what)
				}
				for _, example := range schema.Examples {
					checkExample(t, what, "", schema, example)
					shown[fmt.Sprint("ids ", example)] = true
				}
			}
		}
	}
	for _, name := range exampleNames(t) {
		if !shown[name] {
			t.Errorf("nothing shows what examples.json has among %s", name)
		}
	}
}

// exampleNames gives what examples.json has, by section and name; ids by what they are.
func exampleNames(t *testing.T) []string {
	t.Helper()
	var file struct {
		IDs                     map[string]string
		Bodies, Answers, Errors map[string]any
	}
	raw, err := os.ReadFile("examples.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, id := range file.IDs {
		names = append(names, "ids "+id)
	}
	for section, examples := range map[string]map[string]any{"bodies": file.Bodies, "answers": file.Answers, "errors": file.Errors} {
		for name := range examples {
			names = append(names, section+" "+name)
		}
	}
	return names
}

// checkFailure wants an example of an error to be of its code and to say something.
func checkFailure(t *testing.T, what, code string, example any) {
	t.Helper()
	if message, _ := lookup(example, "error", "message").(string); message == "" || lookup(example, "error", "code") != code {
		t.Errorf("%s shows %v as a %s; give examples.json an error of that code", what, example, code)
	}
}

// checkExample wants an example that is one of its schema. In a stream of events each is to be a CloudEvent, as its place says.
func checkExample(t *testing.T, what, kind string, schema *openapi3.Schema, example any) {
	t.Helper()
	text, isText := example.(string)
	switch {
	case example == nil || isText && text == "":
		t.Errorf("%s as %s has no example; give examples.json one", what, kind)
		return
	case kind == "text/event-stream":
		messages := strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n")
		for i, message := range messages {
			id, data, _ := strings.Cut(message, "\nevent: ")
			kind, data, _ := strings.Cut(data, "\ndata: ")
			if what == "listExecutionLogs.200" {
				var l telemetry.LogLine
				if err := json.Unmarshal([]byte(data), &l); err != nil || kind != "line" || id != fmt.Sprintf("id: %d-%s", l.CreatedAt.UnixMicro(), l.ID) {
					t.Errorf("%s has the line %s (%v)", what, message, err)
				}
				continue
			}
			e, err := event.Decode([]byte(data))
			if err != nil || id != fmt.Sprintf("id: %d", i+1) || kind != e.Type() {
				t.Errorf("%s has the event %s (%v)", what, message, err)
			}
		}
	}
	if err := schema.VisitJSON(example, openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation()); err != nil {
		t.Errorf("the example of %s does not fit its schema: %v", what, err)
	}
}

// lookup gives a value inside of objects; nil when it is not there.
func lookup(value any, path ...string) any {
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

func TestAnswersMatchTheDocument(t *testing.T) {
	w := start(t, setup{})
	_, router := loadDocument(t, w)
	for _, r := range []request{
		{method: "GET", path: "/api/v1/users/me", token: aliceToken},
		{method: "GET", path: "/api/v1/users/me"},
		{method: "POST", path: "/api/v1/auth/login", body: `{"email":"a@x.io","password":"x"}`},
		{method: "POST", path: "/api/v1/auth/login", body: `{}`},
		{method: "GET", path: "/api/v1/secrets", token: aliceToken},
		{method: "PUT", path: "/api/v1/secrets/NEW", token: aliceToken, body: `{"value":"x"}`},
		{method: "PUT", path: "/api/v1/secrets/KEY", token: aliceToken, body: `{"value":"x"}`},
		{method: "PUT", path: "/api/v1/secrets/1", token: aliceToken, body: `{"value":"x"}`},
		{method: "DELETE", path: "/api/v1/secrets/KEY", token: aliceToken},
		{method: "DELETE", path: "/api/v1/secrets/nope", token: aliceToken},
		{method: "POST", path: "/api/v1/auth/forgot-password", body: `{"email":"a@x.io"}`},
		{method: "POST", path: "/api/v1/auth/reset-password", body: `{"token":"good","password":"x"}`},
		{method: "GET", path: "/api/v1/dev/mail", token: aliceToken},
		{method: "GET", path: "/api/v1/users/me/sessions", token: aliceToken},
		{method: "DELETE", path: "/api/v1/users/me/sessions", token: aliceToken},
		{method: "DELETE", path: "/api/v1/users/me/sessions/" + thingID, token: aliceToken},
		{method: "GET", path: "/api/v1/users", token: aliceToken},
		{method: "GET", path: "/api/v1/users/" + thingID, token: aliceToken},
		{method: "PATCH", path: "/api/v1/users/" + thingID, token: aliceToken, body: `{"active":false}`},
		{method: "GET", path: "/api/v1/api-keys?userId=" + thingID + "&revoked=true", token: aliceToken},
		{method: "POST", path: "/api/v1/api-keys", token: aliceToken, body: `{"name":"ci","scopes":["agents:read"]}`},
		{method: "PATCH", path: "/api/v1/api-keys/" + thingID, token: aliceToken, body: `{"expiresAt":null}`},
		{method: "POST", path: "/api/v1/api-keys/" + thingID + "/rotate", token: aliceToken},
		{method: "DELETE", path: "/api/v1/api-keys/" + thingID, token: aliceToken},
		{method: "GET", path: "/api/v1/agents", token: aliceToken},
		{method: "GET", path: "/api/v1/agents/" + thingID, token: aliceToken},
		{method: "GET", path: "/api/v1/workflows", token: aliceToken},
		{method: "GET", path: "/api/v1/executions/" + thingID, token: aliceToken},
		{method: "GET", path: "/api/v1/executions/" + thingID, token: bobToken},
		{method: "POST", path: "/api/v1/workflows/" + thingID + "/execute", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/cancel", token: aliceToken},
		{method: "POST", path: "/api/v1/workflows/" + thingID + "/triggers", token: aliceToken, body: `{"name":"n","type":"SCHEDULE","cron":"@daily"}`},
		{method: "POST", path: "/api/v1/workflows/" + thingID + "/triggers/preview", token: aliceToken, body: `{"cron":"@daily"}`},
		{method: "GET", path: "/api/v1/workflows/" + thingID + "/triggers", token: aliceToken},
		{method: "GET", path: "/api/v1/workflows/" + thingID + "/triggers/" + thingID, token: aliceToken},
		{method: "PATCH", path: "/api/v1/workflows/" + thingID + "/triggers/" + thingID, token: aliceToken, body: `{"enabled":false}`},
		{method: "DELETE", path: "/api/v1/workflows/" + thingID + "/triggers/" + thingID, token: aliceToken},
		{method: "GET", path: "/api/v1/workflows/" + thingID + "/triggers/" + thingID + "/skips", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/pause", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/resume", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/signals/paid", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/retry", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/replay", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/rerun", token: aliceToken, body: `{"from":"a"}`},
		{method: "GET", path: "/api/v1/executions/" + thingID + "/explain", token: aliceToken},
		{method: "GET", path: "/api/v1/executions/" + thingID + "/steps/think/calls", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/" + thingID + "/steps/think/budget", token: aliceToken, body: `{"approved":true,"comment":"so","maxCostUsd":2.5}`},
		{method: "GET", path: "/api/v1/events?after=1&limit=5", token: aliceToken},
		{method: "GET", path: "/api/v1/dead-letters?reason=NO_INPUT&replayed=false", token: aliceToken},
		{method: "GET", path: "/api/v1/dead-letters?reason=NONE", token: aliceToken},
		{method: "GET", path: "/api/v1/dead-letters/counts", token: aliceToken},
		{method: "GET", path: "/api/v1/dead-letters/" + thingID, token: aliceToken},
		{method: "POST", path: "/api/v1/dead-letters/" + thingID + "/replay", token: aliceToken},
		{method: "GET", path: "/api/v1/event-types", token: aliceToken},
		{method: "POST", path: "/api/v1/executions/bulk", token: aliceToken, body: `{"action":"CANCEL","filter":{}}`},
		{method: "GET", path: "/api/v1/executions/" + thingID + "/logs?level=INFO", token: aliceToken},
	} {
		got := w.do(r)
		req, err := http.NewRequest(r.method, r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		route, params, err := router.FindRoute(req)
		if err != nil {
			t.Errorf("%s %s: %v", r.method, r.path, err)
			continue
		}
		err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
			Status:                 got.status, Header: got.header, Body: io.NopCloser(bytes.NewBufferString(got.text)),
			Options: &openapi3filter.Options{IncludeResponseStatus: true},
		})
		if err != nil {
			t.Errorf("%s %s answers %d %s: %v", r.method, r.path, got.status, got.text, err)
		}
	}
}

func TestDocsPage(t *testing.T) {
	w := start(t, setup{})
	got := w.do(request{method: "GET", path: "/api/v1/docs"})
	if got.status != 200 || !strings.Contains(got.text, "/api/v1/openapi.json") {
		t.Fatalf("status %d: %s", got.status, got.text)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(got.text, -1)
	if len(assets) < 3 {
		t.Fatalf("assets %v in %s", assets, got.text)
	}
	for _, asset := range assets {
		if !strings.HasPrefix(asset[1], "/api/v1/docs/") {
			t.Errorf("%s is not served by us", asset[1])
			continue
		}
		if got := w.do(request{method: "GET", path: asset[1]}); got.status != 200 || got.text == "" {
			t.Errorf("%s: status %d", asset[1], got.status)
		}
	}
	if csp := got.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self' 'unsafe-inline'") {
		t.Errorf("policy %q", csp)
	}
}
