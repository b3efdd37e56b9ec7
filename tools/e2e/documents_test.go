//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	c := guest(t)
	doc, err := openapi3.NewLoader().LoadFromData(c.do(t, "GET", "/openapi.json", nil).body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("the document is OpenAPI %s", doc.OpenAPI)
	}
	for _, route := range []string{
		"POST /auth/register", "POST /auth/login", "POST /auth/refresh", "POST /auth/logout", "GET /users/me", "PATCH /users/me",
		"GET /agents", "POST /agents", "GET /agents/{id}", "PATCH /agents/{id}", "DELETE /agents/{id}",
		"GET /workflows", "POST /workflows", "GET /workflows/{id}", "PATCH /workflows/{id}", "DELETE /workflows/{id}",
		"POST /workflows/{id}/execute", "GET /workflows/{id}/executions",
		"GET /executions", "GET /executions/{id}", "GET /executions/{id}/logs", "GET /executions/{id}/events", "POST /executions/{id}/cancel",
	} {
		method, path, _ := strings.Cut(route, " ")
		if item := doc.Paths.Value("/api/v1" + path); item == nil || item.GetOperation(method) == nil {
			t.Errorf("the document lacks %s", route)
		}
	}

	get := func(path string) answer {
		t.Helper()
		a, err := c.send(t.Context(), "GET", path, nil)
		if err != nil || a.status != 200 || len(a.body) == 0 {
			t.Fatalf("%v %s", err, a)
		}
		return a
	}
	page := string(get("/api/v1/docs").body)
	if !strings.Contains(page, "/api/v1/openapi.json") {
		t.Errorf("the page does not name the document: %s", page)
	}
	base, err := url.Parse(c.url + "/api/v1/docs")
	if err != nil {
		t.Fatal(err)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(assets) < 2 {
		t.Errorf("the page has no assets: %s", page)
	}
	for _, asset := range assets {
		u, err := base.Parse(asset[1])
		if err != nil || u.Host != base.Host {
			t.Errorf("the asset %s is not ours", asset[1])
			continue
		}
		get(u.Path)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	c := guest(t)
	for _, path := range []string{"/health", "/health/live", "/health/ready"} {
		a, err := c.send(t.Context(), "GET", path, nil)
		if err != nil || a.status != 200 {
			t.Errorf("%v %s", err, a)
		}
		if problem := a.malformed(); problem != "" {
			t.Errorf("%s: %s", problem, a)
		}
		if path != "/health" {
			continue
		}
		for _, part := range []string{"gateway", "identity", "catalog", "orchestrator", "runner", "telemetry", "postgres", "nats", "redis", "latencyMs"} {
			if !strings.Contains(string(a.body), `"`+part+`"`) {
				t.Errorf("%s is not in %s", part, a)
			}
		}
	}
}

// TestListsAreSortedAsDocumented asks each list for each order that the document names.
func TestListsAreSortedAsDocumented(t *testing.T) {
	t.Parallel()
	c := admin(t)
	doc, err := documentOf(c.url)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{
		"/workflows/{id}": c.workflow(t, []object{}),
		"/webhooks/{id}":  data[telemetry.IssuedWebhook](t, c.do(t, "POST", "/webhooks", object{"url": "https://example.com", "enabled": false}), 201).ID,
	}
	orders := 0
	for _, op := range operationsOf(doc) {
		sortBy := op.Parameters.GetByInAndName("query", "sortBy")
		if sortBy == nil {
			continue
		}
		path := strings.TrimPrefix(op.path, "/api/v1")
		for collection, id := range ids {
			path = strings.Replace(path, collection, strings.TrimSuffix(collection, "{id}")+id, 1)
		}
		if len(sortBy.Schema.Value.Enum) == 0 {
			t.Errorf("%s does not say by what it is sorted", op.path)
		}
		for _, field := range sortBy.Schema.Value.Enum {
			for _, order := range []string{"asc", "desc"} {
				orders++
				page[json.RawMessage](t, c.do(t, "GET", fmt.Sprintf("%s?sortBy=%s&sortOrder=%s", path, field, order), nil))
			}
		}
		if e := fault(t, c.do(t, "GET", path+"?sortBy=x%27;DROP%20TABLE%20users&pageSize=0", nil), errs.Validation); len(e.Details) != 2 {
			t.Errorf("%s: faults are not told at once: %+v", op.path, e)
		}
	}
	if orders < 40 {
		t.Errorf("only %d orders", orders)
	}
}
