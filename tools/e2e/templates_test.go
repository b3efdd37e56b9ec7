//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
)

func TestTemplates(t *testing.T) {
	t.Parallel()
	c, other, nobody := user(t), user(t), guest(t)
	body := object{
		"name": "greeting", "type": "WORKFLOW", "category": "e2e", "tags": []string{"hello"},
		"content": object{
			"agents": object{"Greet": object{"type": "CODE", "config": object{"runtime": "javascript", "source": "function handler({name}) { return 'Hello, ' + name }"}}},
			"steps":  []object{{"stepKey": "greet", "stepType": "AGENT", "agent": "Greet", "inputs": object{"name": "{{inputs.name}}"}}}, "outputs": object{"text": "{{greet.output}}"},
		},
	}
	answered := c.do(t, "POST", "/templates", body)
	shape(t, "a template", data[object](t, answered, 201), "id userId name description type category tags content version isPublic isOfficial usageCount rating ratingCount ownRating createdAt updatedAt")
	made := data[catalog.Template](t, answered, 201)
	if made.Version != 1 || made.IsPublic || made.IsOfficial || made.UsageCount != 0 || made.Rating != nil || answered.header.Get("ETag") != `"1"` {
		t.Errorf("made %+v", made)
	}
	path := "/templates/" + made.ID
	for _, who := range []*client{other, nobody} {
		fault(t, who.do(t, "GET", path, nil), errs.NotFound)
		if got := who.do(t, "GET", "/templates?search=greeting&category=e2e", nil); strings.Contains(string(got.body), made.ID) {
			t.Errorf("somebody else's private template is listed: %s", got)
		}
	}
	fault(t, nobody.as("made-up").do(t, "GET", "/templates", nil), errs.Unauthorized)
	fault(t, nobody.do(t, "GET", "/templates?Search=greeting", nil), errs.Validation)
	if found, _ := page[catalog.Template](t, nobody.do(t, "GET", "/templates?search=scrap+page&type=WORKFLOW", nil)); len(found) != 1 || found[0].Name != "Web Scraper" {
		t.Errorf("scrap page finds %+v", found)
	}
	fault(t, c.do(t, "PATCH", path, object{"isPublic": true}, "If-Match", `"7"`), errs.PreconditionFailed)
	if got := data[catalog.Template](t, c.do(t, "PATCH", path, object{"isPublic": true}, "If-Match", `"1"`), 200); got.Version != 2 || !got.IsPublic {
		t.Errorf("changed %+v", got)
	}
	data[catalog.Template](t, nobody.do(t, "GET", path, nil), 200)

	// Made by many at a time, it is counted exactly, and each has something that runs.
	const times = 8
	var group sync.WaitGroup
	instances := make([]catalog.TemplateInstance, times)
	for i := range times {
		group.Go(func() {
			instances[i] = data[catalog.TemplateInstance](t, other.do(t, "POST", path+"/instantiate", object{"name": fmt.Sprintf("greeting %d", i), "customizations": object{"status": "ACTIVE"}}), 201)
		})
	}
	group.Wait()
	first := instances[0]
	if first.ResourceType != "WORKFLOW" || first.ID == nil || first.Workflow == nil || first.Workflow.Name != "greeting 0" || first.Workflow.UserID != other.session.User.ID || len(first.Agents) != 1 || first.Workflow.SourceID == nil {
		t.Fatalf("made %+v", first)
	}
	if e := other.run(t, *first.ID, object{"name": "Ada"}); string(e.Outputs) != `{"text":"Hello, Ada"}` {
		t.Errorf("it gives %s, %+v", e.Outputs, e.Error)
	}
	for who, rating := range map[*client]int{c: 5, other: 2} {
		data[catalog.Template](t, who.do(t, "POST", path+"/rate", object{"rating": 1}), 200)
		if got := data[catalog.Template](t, who.do(t, "POST", path+"/rate", object{"rating": rating}), 200); got.OwnRating == nil || *got.OwnRating != rating {
			t.Errorf("rated %+v", got)
		}
	}
	fault(t, c.do(t, "POST", path+"/rate", object{"rating": 6}), errs.Validation)
	if got := data[catalog.Template](t, c.do(t, "GET", path, nil), 200); got.UsageCount != times || got.RatingCount != 2 || got.Rating == nil || *got.Rating != 3.5 {
		t.Errorf("it is told as %+v", got)
	}
	faults := fault(t, c.do(t, "POST", "/templates", object{"name": "bad", "type": "STEP", "content": object{"step": object{"stepKey": "a", "stepType": "AGENT", "agent": "Nobody"}}}), errs.Validation)
	if !hasField(faults, "content.step.agent") {
		t.Errorf("%+v", faults)
	}
	if got := c.do(t, "DELETE", path, nil); got.status != 204 {
		t.Error(got)
	}
	fault(t, nobody.do(t, "GET", path, nil), errs.NotFound)
	other.run(t, *first.ID, object{"name": "still"}) // what was made of it stays
}

// TestOfficialTemplates makes all six, and runs those that need nothing but a server.
func TestOfficialTemplates(t *testing.T) {
	t.Parallel()
	page1 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `<html><head><title>A &amp; B</title><script>no()</script></head><body><h1>Hi</h1> <a href="/next">on</a></body></html>`)
	}))
	t.Cleanup(page1.Close)
	c := user(t)
	official, pagination := page[catalog.Template](t, guest(t).do(t, "GET", "/templates?isOfficial=true&sortOrder=desc", nil))
	if pagination.Total != 6 || official[0].Name != "Web Scraper" {
		t.Fatalf("there are %d, %+v", pagination.Total, official)
	}
	categories := data[[]catalog.TemplateCategory](t, guest(t).do(t, "GET", "/templates/categories", nil), 200)
	if len(categories) < 4 {
		t.Errorf("categories %+v", categories)
	}
	made := map[string]catalog.TemplateInstance{}
	for _, o := range official {
		made[o.Name] = data[catalog.TemplateInstance](t, c.do(t, "POST", "/templates/"+o.ID+"/instantiate", object{"status": "ACTIVE"}), 201)
		fault(t, c.do(t, "DELETE", "/templates/"+o.ID, nil), errs.NotFound)
	}
	e := c.run(t, *made["Web Scraper"].ID, object{"url": page1.URL})
	if want := `{"title":"A & B","text":"Hi on","links":[{"href":"` + page1.URL + `/next","text":"on"}]}`; string(e.Outputs) != want {
		t.Errorf("the scraper gives %s, %+v\nwant %s", e.Outputs, e.Error, want)
	}
	e = c.run(t, *made["Data Pipeline"].ID, object{"rows": []object{{"category": "a", "amount": 1}, {"category": "b", "amount": 5}, {"category": "a"}, {"category": "a", "amount": 2}}})
	if !strings.Contains(string(e.Outputs), `"kept":3`) || strings.Index(string(e.Outputs), `"b"`) > strings.Index(string(e.Outputs), `"a"`) {
		t.Errorf("the pipeline gives %s, %+v", e.Outputs, e.Error)
	}
}
