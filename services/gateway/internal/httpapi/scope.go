package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
)

// noKey is the scope of a route that no API key may call, because with it a key could make itself, or another, a stronger one.
const noKey = "-"

// driving are the verbs of routes that start or drive work.
var driving = []string{"execute", "test", "cancel", "pause", "resume", "retry", "rerun", "signals", "bulk", "budget", "start", "stop", "invoke", "replay"}

// scopeOf gives the scope that an API key needs for a route, "" when none may call it: what the route says, or its tag with what
// its method does.
func scopeOf(r route) string {
	switch {
	case r.scope == noKey || r.access.anonymous && !r.access.optional:
		return ""
	case r.scope != "":
		return r.scope
	case r.method == http.MethodGet:
		return r.tag + ":read"
	case r.method == http.MethodPost && slices.ContainsFunc(strings.Split(r.path, "/"), func(part string) bool { return slices.Contains(driving, part) }):
		return r.tag + ":execute"
	}
	return r.tag + ":write"
}

// allows tells whether the caller's API key, if that is what was sent, may be used for a route.
func (need access) allows(caller rpc.Caller) error {
	switch {
	case caller.APIKeyID == "" || need.scope != "" && slices.Contains(caller.Scopes, need.scope):
		return nil
	case need.scope == "":
		return errs.New(errs.Forbidden, "no API key may call this route; log in and send the access token as Authorization: Bearer <accessToken>")
	}
	return errs.New(errs.Forbidden, "the API key lacks the scope %s; add it to the key, or send one that has it", need.scope)
}

// security documents how a route is entered.
func (need access) security() []map[string][]string {
	switch {
	case need.optional:
		return []map[string][]string{{}, {"bearer": {}}, {"apiKey": {need.scope}}}
	case need.anonymous:
		return nil
	case need.scope == "":
		return []map[string][]string{{"bearer": {}}}
	}
	return []map[string][]string{{"bearer": {}}, {"apiKey": {need.scope}}}
}

func securitySchemes() map[string]*huma.SecurityScheme {
	scopes := map[string]string{}
	var list strings.Builder
	for _, s := range identity.Scopes() {
		scopes[s.Name] = s.Doc
		list.WriteString("\n- `" + s.Name + "`: " + s.Doc)
	}
	return map[string]*huma.SecurityScheme{
		"bearer": {
			Type: "http", Scheme: "bearer", BearerFormat: "JWT",
			Description: "The accessToken that POST " + prefix + "/auth/login answers.",
		},
		"apiKey": {
			Type: "apiKey", In: "header", Name: "X-API-Key",
			Description: "A key that POST " + prefix + "/api-keys answers. It may call the routes that name one of its scopes:\n" + list.String(),
			Extensions:  map[string]any{"x-scopes": scopes},
		},
	}
}
