package layout

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rule forbids imports. Folders and packages of ours are named without "turbocat.io/".
type rule struct {
	says   string // what holds
	remedy string // what to do instead
	tests  bool   // holds for tests too
	broken func(dir, imported string) bool
}

var (
	sql   = []string{"database/sql", "github.com/jmoiron/sqlx", "github.com/lib/pq"}
	nats  = []string{"github.com/nats-io/nats.go", "github.com/nats-io/nats-server"}
	redis = []string{"github.com/redis/go-redis", "github.com/go-redis"}
	http  = []string{"github.com/gofiber/fiber", "github.com/danielgtaylor/huma"}

	drivers = slices.Concat(sql, nats, redis, http)

	// onlyTests are packages that a program must not hold.
	onlyTests = []string{"testing", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/stretchr/testify"}

	// adapters are the packages of a service's internal that speak to the world by a driver.
	adapters = []string{"postgres", "natsapi", "httpapi", "live", "liveness"}
)

var rules = []rule{
	{
		says: "a service imports no other service", tests: true,
		remedy: "declare what it offers in contracts and call it with bus.Call, or read its events",
		broken: func(dir, imported string) bool {
			return service(dir) != "" && service(imported) != "" && service(dir) != service(imported)
		},
	},
	{
		says: "of the tools only tools/turbocat imports services", tests: true,
		remedy: "hand what is needed over as a service.Unit, from tools/turbocat",
		broken: func(dir, imported string) bool {
			return within(dir, "tools") && dir != "tools/turbocat" && service(imported) != ""
		},
	},
	{
		says: "nothing below services and tools imports what stands above it", tests: true,
		remedy: "move the code to the caller, or what both need to pkg or contracts",
		broken: func(dir, imported string) bool {
			above := service(imported) != "" || within(imported, "tools")
			return above && (within(dir, "pkg") || within(dir, "contracts") || within(dir, "migrations") || within(dir, "examples")) ||
				service(dir) != "" && within(imported, "tools")
		},
	},
	{
		says: "pkg is free of domain words: of contracts it imports errs, rpc, subject, event and audit alone, which every service speaks", tests: true,
		remedy: "pass in what it needs of the domain, or move the code into the service",
		broken: func(dir, imported string) bool {
			return within(dir, "pkg") && within(imported, "contracts") &&
				!slices.Contains([]string{"contracts/errs", "contracts/rpc", "contracts/subject", "contracts/event", "contracts/audit"}, imported)
		},
	},
	{
		says: "contracts declares and does nothing: it imports no driver and no pkg", tests: true,
		remedy: "keep types and names in contracts, and move the mechanism to pkg",
		broken: func(dir, imported string) bool {
			return within(dir, "contracts") && (oneOf(imported, drivers) || within(imported, "pkg"))
		},
	},
	{
		says:   "a service's domain knows no driver, no bus and no adapter",
		remedy: "declare a small interface beside its user and implement it in internal/postgres, natsapi, httpapi or another adapter",
		broken: func(dir, imported string) bool {
			return isDomain(dir) && (oneOf(imported, drivers) || isAdapter(imported) ||
				within(imported, "pkg/bus") || within(imported, "pkg/postgres") || within(imported, "pkg/service"))
		},
	},
	{
		says:   "the engine decides and does nothing else: no clock, I/O, goroutine or randomness",
		remedy: "put it into the input, or let the shell in internal/partition do it",
		broken: func(dir, imported string) bool {
			return dir == "services/orchestrator/internal/engine" &&
				oneOf(imported, []string{"context", "io", "log", "math/rand", "crypto/rand", "net", "os", "sync", "github.com/rs/zerolog"})
		},
	},
	{
		says: "fiber and huma stand in the gateway's httpapi alone, but for the schemas of contractgen", tests: true,
		remedy: "add the route in services/gateway/internal/httpapi",
		broken: func(dir, imported string) bool {
			schemas := dir == "tools/contractgen" && within(imported, "github.com/danielgtaylor/huma")
			return oneOf(imported, http) && dir != "services/gateway/internal/httpapi" && !schemas
		},
	},
	{
		says:   "NATS is spoken in pkg/bus and in adapters alone",
		remedy: "use pkg/bus, or put it into the service's internal/natsapi",
		broken: func(dir, imported string) bool {
			return oneOf(imported, nats) && !within(dir, "pkg/bus") && !isAdapter(dir) && !within(dir, "tools")
		},
	},
	{
		says:   "SQL is spoken in pkg/postgres and in internal/postgres of a service alone",
		remedy: "put the statement into the service's internal/postgres, behind an interface of the domain",
		broken: func(dir, imported string) bool {
			return oneOf(imported, sql) && !within(dir, "pkg/postgres") && dir != "pkg/service" && !strings.HasSuffix(dir, "/internal/postgres") && !within(dir, "tools")
		},
	},
	{
		says:   "a main knows its service and pkg/service alone",
		remedy: "wire it in the service's New",
		broken: func(dir, imported string) bool {
			return strings.Contains(dir, "/cmd/") && isOurs(imported) && imported != "pkg/service" && imported != service(dir)
		},
	},
	{
		says:   "what only tests use stands in tests",
		remedy: "move the code into a _test.go file, or into a package whose name ends in test",
		broken: func(_, imported string) bool {
			return oneOf(imported, onlyTests) || strings.HasSuffix(imported, "test") && isOurs(imported)
		},
	},
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range brokenRules(s.dir(), imported, s.test) {
				t.Errorf("%s imports %s\n\trule:   %s\n\tremedy: %s", s.path, imported, r.says, r.remedy)
			}
		}
	}
}

// TestRulesBite shows for every rule an import that breaks it and no other, and what none forbids.
func TestRulesBite(t *testing.T) {
	broken := map[string]bool{}
	for _, tc := range []struct {
		dir, imported string
		test          bool
		want          string // the beginning of the rule; "" when it is fine
	}{
		{"services/gateway/internal/httpapi", "turbocat.io/services/catalog", false, "a service imports no other"},
		{"services/gateway", "turbocat.io/services/catalog/internal/agent", true, "a service imports no other"},
		{"services/catalog", "turbocat.io/services/catalog/internal/agent", false, ""},
		{"tools/internal/allinone", "turbocat.io/services/gateway", false, "of the tools only"},
		{"tools/turbocat", "turbocat.io/services/gateway", false, ""},
		{"pkg/bus", "turbocat.io/services/gateway", false, "nothing below"},
		{"services/runner", "turbocat.io/tools/internal/child", false, "nothing below"},
		{"pkg/bus", "turbocat.io/contracts/orchestrator", false, "pkg is free"},
		{"pkg/bus", "turbocat.io/contracts/errs", false, ""},
		{"contracts/event", "github.com/nats-io/nats.go", true, "contracts declares"},
		{"contracts/event", "turbocat.io/pkg/bus", false, "contracts declares"},
		{"services/catalog/internal/agent", "turbocat.io/pkg/postgres/listing", false, "a service's domain"},
		{"services/catalog/internal/agent", "turbocat.io/services/catalog/internal/postgres", false, "a service's domain"},
		{"services/catalog/internal/agent", "github.com/redis/go-redis/v9", false, "a service's domain"},
		{"services/catalog/internal/agent", "github.com/jmoiron/sqlx", true, ""},
		{"services/identity/internal/liveness", "github.com/redis/go-redis/v9", false, ""},
		{"services/orchestrator/internal/engine", "math/rand/v2", false, "the engine decides"},
		{"services/orchestrator/internal/engine", "net/http", false, "the engine decides"},
		{"services/catalog", "github.com/gofiber/fiber/v2/middleware/cors", false, "fiber and huma"},
		{"services/gateway/internal/httpapi", "github.com/gofiber/fiber/v2", false, ""},
		{"tools/contractgen", "github.com/danielgtaylor/huma/v2", false, ""},
		{"tools/contractgen", "github.com/gofiber/fiber/v2", false, "fiber and huma"},
		{"pkg/service", "github.com/nats-io/nats.go/jetstream", false, "NATS is spoken"},
		{"services/runner/internal/natsapi", "github.com/nats-io/nats.go/jetstream", false, ""},
		{"services/catalog", "github.com/lib/pq", false, "SQL is spoken"},
		{"services/catalog/internal/postgres", "github.com/lib/pq", false, ""},
		{"services/catalog/cmd/catalog", "turbocat.io/pkg/bus", false, "a main knows"},
		{"pkg/bus", "testing", false, "what only tests use"},
		{"tools/turbocat", "turbocat.io/pkg/postgres/pgtest", false, "what only tests use"},
		{"pkg/bus", "testing", true, ""},
	} {
		found := brokenRules(tc.dir, tc.imported, tc.test)
		switch {
		case tc.want == "" && len(found) > 0:
			t.Errorf("%s may import %s, but: %s", tc.dir, tc.imported, found[0].says)
		case tc.want != "" && (len(found) == 0 || !slices.ContainsFunc(found, func(r rule) bool { return strings.HasPrefix(r.says, tc.want) })):
			t.Errorf("%s imports %s and nothing says %q", tc.dir, tc.imported, tc.want)
		}
		for _, r := range found {
			broken[r.says] = true
		}
	}
	for _, r := range rules {
		if !broken[r.says] {
			t.Errorf("no case breaks the rule: %s", r.says)
		}
	}
}

func brokenRules(dir, imported string, test bool) []rule {
	imported = strings.TrimPrefix(imported, "turbocat.io/")
	var found []rule
	for _, r := range rules {
		if (r.tests || !test) && r.broken(dir, imported) {
			found = append(found, r)
		}
	}
	return found
}

// within tells whether a folder or package is parent or below it.
func within(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

func oneOf(imported string, parents []string) bool {
	return slices.ContainsFunc(parents, func(p string) bool { return within(imported, p) })
}

// service gives services/<name> of what stands there, else "".
func service(name string) string {
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 || parts[0] != "services" {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

func isOurs(imported string) bool {
	return oneOf(imported, []string{"contracts", "examples", "migrations", "pkg", "services", "tools"})
}

func isAdapter(name string) bool {
	_, inner, ok := strings.Cut(name, "/internal/")
	return ok && service(name) != "" && slices.Contains(adapters, strings.Split(inner, "/")[0])
}

func isDomain(dir string) bool {
	return service(dir) != "" && strings.Contains(dir, "/internal/") && !isAdapter(dir)
}
