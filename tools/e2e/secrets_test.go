//go:build unix

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// TestSecretsAreOfTheirOwnersExecutions has somebody use another's public agent, and workflow, that name a secret. Both users have one of the
// name, and neither is sent; for their owner it is.
func TestSecretsAreOfTheirOwnersExecutions(t *testing.T) {
	t.Parallel()
	owner, other := user(t), user(t)
	var calls atomic.Int32
	var got atomic.Value
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls.Add(1)
		got.Store(r.Header.Get("Authorization") + " " + string(body))
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(target.Close)
	for c, value := range map[*client]string{owner: "the-owners-secret", other: "the-others-secret"} {
		if a := c.do(t, "PUT", "/secrets/TOKEN", object{"value": value}); a.status != 201 {
			t.Fatal(a)
		}
	}
	public := object{"isPublic": true}
	agent := owner.agent(t, "API", object{"method": "POST", "url": target.URL, "auth": object{"type": "bearer", "token": "{{secrets.TOKEN}}"}})
	plain := owner.agent(t, "API", object{"method": "POST", "url": target.URL, "body": "{{v}}"})
	for _, id := range []string{agent, plain} {
		if a := owner.do(t, "PATCH", "/agents/"+id, public); a.status != 200 {
			t.Fatal(a)
		}
	}
	byConfig := []object{step("a", agent)}
	byInputs := []object{step("a", plain, inputs(object{"v": "{{secrets.TOKEN}}"}))}
	refused := func(what string, e orchestrator.Execution) {
		t.Helper()
		failure := state(t, e, "a").Error
		if e.Status != "FAILED" || failure == nil || failure.Code != runner.CodeForeignSecret || strings.Contains(failure.Message, "-secret") {
			t.Errorf("%s: %s, %+v", what, e.Status, failure)
		}
	}
	refused("another's agent in one's own workflow", other.run(t, other.workflow(t, byConfig), object{}))
	refused("another's workflow with its agent", other.run(t, owner.workflow(t, byConfig, public), object{}))
	refused("another's workflow that hands its secret to an agent", other.run(t, owner.workflow(t, byInputs, public), object{}))
	if n := calls.Load(); n > 0 {
		t.Errorf("%d calls were made: %v", n, got.Load())
	}
	for what, steps := range map[string][]object{"config": byConfig, "inputs": byInputs} {
		if e := owner.run(t, owner.workflow(t, steps), object{}); e.Status != "COMPLETED" || !strings.Contains(fmt.Sprint(got.Load()), "the-owners-secret") {
			t.Errorf("the owner's own, by the %s: %s, sent %v", what, statuses(e), got.Load())
		}
	}
	// Who hands a secret of one's own to another's agent means to.
	if e := other.run(t, other.workflow(t, byInputs), object{}); e.Status != "COMPLETED" || !strings.Contains(fmt.Sprint(got.Load()), "the-others-secret") {
		t.Errorf("one's own secret in one's own inputs: %s, sent %v", statuses(e), got.Load())
	}
}
