package httpapi_test

import (
	"strings"
	"testing"

	"turbocat.io/contracts/orchestrator"
)

// TestIdempotencyKeysAreCarried wants the routes that create to hand the client's key to the service, and others not to.
func TestIdempotencyKeysAreCarried(t *testing.T) {
	w := start(t, setup{})
	w.state = orchestrator.ExecutionCompleted // nothing waits
	const agent, workflow, execution, template = "/agents/" + thingID, "/workflows/" + thingID, "/executions/" + thingID, "/templates/" + thingID
	carried := map[string]string{ // the RPC of a route
		"/agents": "catalog.create_agent", agent + "/duplicate": "catalog.duplicate_agent", agent + "/test": "orchestrator.submit",
		"/workflows": "catalog.create_workflow", workflow + "/duplicate": "catalog.duplicate_workflow", "/workflows/import": "catalog.import_workflow",
		workflow + "/execute": "orchestrator.submit", workflow + "/triggers": "orchestrator.create_trigger", workflow + "/triggers/" + thingID + "/rotate": "orchestrator.rotate_trigger",
		execution + "/retry": "orchestrator.retry", execution + "/replay": "orchestrator.replay", execution + "/rerun": "orchestrator.rerun", execution + "/signals/{name}": "orchestrator.signal",
		"/templates": "catalog.create_template", template + "/instantiate": "catalog.instantiate_template",
		"/api-keys": "identity.create_api_key", "/api-keys/" + thingID + "/rotate": "identity.rotate_api_key",
		"/webhooks": "telemetry.create_webhook", "/webhooks/" + thingID + "/rotate": "telemetry.rotate_webhook",
	}
	post := func(path, key string) {
		body := `{}`
		if strings.HasSuffix(path, "/rerun") {
			body = `{"from":"a"}`
		}
		w.do(request{method: "POST", path: "/api/v1" + path, token: aliceToken, body: body, header: map[string]string{"Idempotency-Key": key}})
	}
	document, _ := loadDocument(t, w)
	for path, item := range document.Paths.Map() {
		if item.Post == nil {
			continue
		}
		route := strings.TrimPrefix(strings.NewReplacer("{id}", thingID, "{triggerId}", thingID).Replace(path), "/api/v1")
		method, carries := carried[route]
		takes, repeated := item.Post.Parameters.GetByInAndName("header", "Idempotency-Key") != nil, item.Post.Description
		switch {
		case takes && !carries:
			t.Errorf("POST %s takes an Idempotency-Key, and this test does not know where it goes", route)
		case !takes && carries:
			t.Errorf("POST %s takes no Idempotency-Key", route)
		case takes == (repeated != ""):
			t.Errorf("POST %s: takes an Idempotency-Key is %t, and what comes of sending it twice is %q; it needs one of them", route, takes, repeated)
		}
		if !carries {
			continue
		}
		key := "key of " + route
		post(route, key)
		if n, caller := w.called(method); n == 0 || caller.IdempotencyKey != key {
			t.Errorf("%s: %d calls of %s, the last with the key %q, want %q", route, n, method, caller.IdempotencyKey, key)
		}
	}
	post(workflow+"/validate", "k")
	if n, caller := w.called("catalog.validate_workflow"); n != 1 || caller.IdempotencyKey != "" {
		t.Errorf("%d calls, the last with the key %q", n, caller.IdempotencyKey)
	}
}
