package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
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
		if !strings.HasPrefix(route.Path, "/api/v1") || route.Method == http.MethodHead || strings.HasSuffix(route.Path, "/*") {
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
	if routes < 25 {
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

// TestDocumentHasExamples wants an example of every body that a client may send, one that fits its schema, and no example more.
func TestDocumentHasExamples(t *testing.T) {
	w := start(t, setup{})
	document, _ := loadDocument(t, w)
	var examples map[string]any
	raw, err := os.ReadFile("examples.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &examples); err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil {
				continue
			}
			content := op.RequestBody.Value.Content["application/json"]
			if content == nil || content.Example == nil {
				t.Errorf("%s %s has no example; give examples.json one for %s", method, path, op.OperationID)
				continue
			}
			if err := content.Schema.Value.VisitJSON(content.Example); err != nil {
				t.Errorf("the example of %s does not fit its schema: %v", op.OperationID, err)
			}
			delete(examples, op.OperationID)
		}
	}
	for id := range examples {
		t.Errorf("examples.json has %s, which takes no body", id)
	}
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
		{method: "POST", path: "/api/v1/executions/" + thingID + "/rerun", token: aliceToken, body: `{"from":"a"}`},
		{method: "GET", path: "/api/v1/executions/" + thingID + "/explain", token: aliceToken},
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
