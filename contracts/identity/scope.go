package identity

import "slices"

// Scope is something that an API key may be used for.
type Scope struct {
	Name string // <tag of the routes>:<read, write or execute>
	Doc  string
}

// Scopes gives the closed list of all of them. A route's scope is derived from its tag and its method in the gateway, which
// fails its tests when a route needs one that is not listed here.
func Scopes() []Scope {
	return []Scope{
		{"agents:execute", "test agents"},
		{"agents:read", "list and show agents"},
		{"agents:write", "make, change and delete agents"},
		{"analytics:read", "read figures of executions, workflows and agents; for the key of an ADMIN also how the installation is"},
		{"audit:read", "read the audit trail: what one did and what was done to one's things; for the key of an ADMIN all of it"},
		{"dead-letters:execute", "send dead letters once more; for the key of an ADMIN"},
		{"dead-letters:read", "list and show dead letters; for the key of an ADMIN"},
		{"events:read", "list and follow the events of all of one's executions"},
		{"events:write", "bring in events from outside"},
		{"executions:execute", "cancel, pause, resume, signal, retry, rerun and replay executions, and decide their budgets"},
		{"executions:read", "list and show executions, with their logs and events"},
		{"secrets:read", "list the names of secrets"},
		{"secrets:write", "make, change and delete secrets"},
		{"templates:read", "list and show one's own templates, beside the public ones"},
		{"templates:write", "make, change, delete and rate templates, and make agents and workflows of them"},
		{"triggers:read", "list and show triggers"},
		{"triggers:write", "make, change and delete triggers"},
		{"users:read", "show one's own account; for the key of an ADMIN all accounts"},
		{"webhooks:execute", "have webhooks sent a test, or events again"},
		{"webhooks:read", "list and show webhooks, and what was sent to them"},
		{"webhooks:write", "make, change and delete webhooks"},
		{"workflows:execute", "start executions of workflows"},
		{"workflows:read", "list and show workflows"},
		{"workflows:write", "make, change and delete workflows"},
	}
}

// ScopeNames gives their names.
func ScopeNames() []string {
	var names []string
	for _, s := range Scopes() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}
