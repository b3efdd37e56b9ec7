package httpapi_test

import (
	"testing"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
)

// TestDeniedIsRecordedFirst has somebody denied an operation by a service and by a scope. The trail is told before the answer is
// given; when it can not be, that is the answer.
func TestDeniedIsRecordedFirst(t *testing.T) {
	w := start(t, setup{})
	byRole := request{method: "DELETE", path: "/api/v1/workflows/" + thingID, token: aliceToken}
	byScope := request{method: "DELETE", path: "/api/v1/secrets/KEY?x=1", header: withKey(keyOf("agents:read"))}
	for i, tt := range []struct {
		request
		want audit.Denial
		user string
	}{
		{byRole, audit.Denial{Operation: "deleteWorkflow", Path: "/api/v1/workflows/" + thingID, Reason: "only the owner may delete the workflow"}, alice.UserID},
		{byScope, audit.Denial{Operation: "deleteSecret", Path: "/api/v1/secrets/KEY", Reason: "the API key lacks the scope secrets:write; add it to the key, or send one that has it"}, alice.UserID},
	} {
		if got := w.do(tt.request); got.status != 403 {
			t.Errorf("answered %d %s", got.status, got.text)
		}
		calls, caller := w.called("identity.record_denied")
		w.mu.Lock()
		got := w.denied
		w.mu.Unlock()
		if calls != i+1 || got != tt.want || caller.UserID != tt.user || caller.IP == "" || caller.RequestID == "" {
			t.Errorf("%d calls, the last of %+v by %+v", calls, got, caller)
		}
	}
	for _, r := range []request{
		{method: "GET", path: "/api/v1/users/me"},
		{method: "GET", path: "/api/v1/users/me", token: aliceToken},
		{method: "GET", path: "/api/v1/executions/" + thingID, token: "no.such.token"},
	} {
		w.do(r)
	}
	if calls, _ := w.called("identity.record_denied"); calls != 2 {
		t.Errorf("%d calls, also of what is not denied", calls)
	}
	w.mu.Lock()
	w.unrecorded = errs.New(errs.DependencyUnavailable, "the database does not answer; try again")
	w.mu.Unlock()
	if got := w.do(byRole); got.status != 503 {
		t.Errorf("what can not be recorded is answered %d %s", got.status, got.text)
	}
}

// deny plays the audit trail.
func (w *world) deny(_ rpc.Caller, d audit.Denial) (rpc.Empty, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied = d
	return rpc.Empty{}, w.unrecorded
}
