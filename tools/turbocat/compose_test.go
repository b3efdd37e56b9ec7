//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/redistest"
	"turbocat.io/tools/internal/child"
)

const top = "../.."

// composed is as much of docker-compose.yml as there is to hold.
type composed struct {
	Services map[string]struct {
		Image       string
		Build       *struct{ Context, Dockerfile string }
		Command     []string
		Restart     string
		Environment map[string]string
		Volumes     []string
		Ports       []string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		Healthcheck struct {
			Test    []string
			Disable bool
		}
		DependsOn yaml.Node `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var interpolated = regexp.MustCompile(`\$\{([A-Z_]+)(:\?|:-)([^}]*)\}`)

// compose reads docker-compose.yml with the variables of an environment.
func compose(t *testing.T, environ map[string]string) composed {
	t.Helper()
	text := interpolated.ReplaceAllStringFunc(read(t, "docker-compose.yml"), func(found string) string {
		parts := interpolated.FindStringSubmatch(found)
		if value := environ[parts[1]]; value != "" {
			return value
		}
		if parts[2] == ":?" {
			t.Errorf("%s is needed and not given", parts[1])
		}
		return parts[3]
	})
	var c composed
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// filledIn gives what .env.example asks for.
func filledIn(t *testing.T) map[string]string {
	t.Helper()
	environ := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(read(t, ".env.example"), -1) {
		environ[found[1]] = found[2]
		if found[2] == "" {
			environ[found[1]] = fmt.Sprintf("%x", sha256.Sum256([]byte(found[1]))) // as openssl rand -hex 32 does, but always the same
		}
	}
	environ["TURBOCAT_ADMIN_PASSWORD"] = "Correct-horse-9"
	return environ
}

// readersOf gives who reads each variable, as docs/configuration.md has it: in a column, or by the service of whose section it is.
func readersOf(t *testing.T) map[string][]string {
	t.Helper()
	readers, section := map[string][]string{}, ""
	variable := regexp.MustCompile("`([A-Z][A-Z0-9_]+)`")
	for line := range strings.Lines(read(t, "docs/configuration.md")) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.ToLower(strings.Trim(title, "` \n"))
		}
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| `") || len(cells) < 4 {
			continue
		}
		by := []string{section}
		if section == "servers" || section == "keys" {
			by = strings.Split(strings.ReplaceAll(strings.TrimSpace(cells[2]), "`", ""), ", ")
		}
		for _, found := range variable.FindAllStringSubmatch(cells[1], -1) {
			readers[found[1]] = append(readers[found[1]], by...)
		}
	}
	return readers
}

// TestComposeNamesWhatThereIs holds docker-compose.yml, .env.example and the Dockerfile against the files, variables, commands and ports that there are.
func TestComposeNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	c := compose(t, filledIn(t))
	used := map[string]bool{}
	for _, found := range interpolated.FindAllStringSubmatch(read(t, "docker-compose.yml"), -1) {
		used[found[1]] = true
	}
	for name := range filledIn(t) {
		if !used[name] {
			t.Errorf(".env.example has %s, which docker-compose.yml does not use", name)
		}
	}
	readers := readersOf(t)
	scraped := read(t, "deploy/prometheus/prometheus.yml")
	var names []string
	awaited := map[string]bool{} // whose end somebody waits for
	for name, s := range c.Services {
		if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "" || tag == "latest" {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, named := c.Volumes[source]; !named {
				if _, err := os.Stat(filepath.Join(top, source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		var needs map[string]struct{ Condition string }
		if of := s.DependsOn; of.Kind == yaml.MappingNode || of.Kind == yaml.AliasNode {
			if err := s.DependsOn.Decode(&needs); err != nil {
				t.Error(err)
			}
		}
		for need, until := range needs {
			if until.Condition == "service_completed_successfully" {
				awaited[need] = true
			}
			if _, there := c.Services[need]; !there {
				t.Errorf("%s depends on %s, which there is not", name, need)
			}
		}
		if s.Build == nil {
			continue
		}
		names = append(names, name)
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
		if _, err := os.Stat(filepath.Join(top, s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if found, rest, err := newRoot(nil).Find(s.Command); err != nil || !found.Runnable() || found.Name() == "serve" && len(rest) != 1 {
			t.Errorf("%s: there is no command %v: %v", name, s.Command, err)
		}
		for variable := range s.Environment {
			if !slices.Contains(readers[variable], name) && !slices.Contains(readers[variable], "all") && variable != "TURBOCAT_"+strings.ToUpper(name)+"_OPS_ADDRESS" && name != "admin" {
				t.Errorf("%s is given %s, which by docs/configuration.md %v read", name, variable, readers[variable])
			}
		}
		if s.Command[0] != "serve" {
			continue
		}
		if s.Environment["TURBOCAT_"+strings.ToUpper(name)+"_OPS_ADDRESS"] != "0.0.0.0:9090" || !strings.Contains(scraped, "names: ["+name+"], type: A, port: 9090") ||
			!slices.Equal(s.Healthcheck.Test, []string{"CMD", "/usr/local/bin/turbocat", "health", "http://127.0.0.1:9090"}) {
			t.Errorf("%s is not watched where it can be: %v, %v", name, s.Environment, s.Healthcheck.Test)
		}
	}
	for name, s := range c.Services {
		if (s.Restart == "no") != awaited[name] {
			t.Errorf("%s: what runs once, and only that, must be waited for by a service, or `up --wait` takes its end for a failure", name)
		}
	}
	slices.Sort(names)
	if want := []string{"admin", "catalog", "gateway", "identity", "migrate", "orchestrator", "runner", "telemetry"}; !slices.Equal(names, want) {
		t.Errorf("of ours there are %v, want %v", names, want)
	}
	if module := read(t, "tools/go.mod"); !strings.Contains(module, "nats-server/v2 v"+strings.TrimSuffix(strings.TrimPrefix(c.Services["nats"].Image, "nats:"), "-alpine")) {
		t.Errorf("NATS is %s, which the tests do not run with", c.Services["nats"].Image)
	}
	for name, port := range map[string]string{"gateway": c.Services["gateway"].Environment["PORT"], "prometheus": "9090", "grafana": "3000"} {
		if ports := c.Services[name].Ports; len(ports) != 1 || !strings.HasPrefix(ports[0], "127.0.0.1:") || !strings.HasSuffix(ports[0], ":"+port) {
			t.Errorf("%s listens on %s, and published are %v", name, port, ports)
		}
	}
	dockerfile := read(t, "deploy/Dockerfile")
	for _, found := range regexp.MustCompile(`(?m)^(?:ARG BASE=|FROM )(\S+)`).FindAllStringSubmatch(dockerfile, -1) {
		if _, tag, ok := strings.Cut(found[1], ":"); found[1] != "${BASE}" && (!ok || tag == "" || tag == "latest") {
			t.Errorf("the Dockerfile begins with %s, which has no version", found[1])
		}
	}
	for _, found := range regexp.MustCompile(`(?m)^ARG ([A-Z]+)`).FindAllStringSubmatch(dockerfile, -1) {
		if !strings.Contains(dockerfile, "${"+found[1]+"}") {
			t.Errorf("the Dockerfile does not use its argument %s", found[1])
		}
	}
	for _, want := range []string{"CGO_ENABLED=0", "./tools/turbocat", "USER 65532:65532", `ENTRYPOINT ["/usr/local/bin/turbocat"]`, "ARG GO=" + regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.work"))[1] + "\n"} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile has no %q", want)
		}
	}
}

// composedNATS starts a NATS server as deploy/nats/nats.conf says, but for its place.
func composedNATS(t *testing.T, environ map[string]string) string {
	t.Helper()
	for name, value := range environ {
		t.Setenv(name, value)
	}
	o, err := server.ProcessConfigFile(filepath.Join(top, "deploy/nats/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", -1, 0, t.TempDir(), true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS is not ready")
	}
	return s.Addr().String()
}

// TestComposeServes starts what docker-compose.yml starts, with the environment that it gives, but for the addresses of servers and listeners: the
// schemas are made, all six services become ready, the administrator is made, and can log in.
func TestComposeServes(t *testing.T) {
	if testing.Short() {
		t.Skip()
	}
	c := compose(t, filledIn(t))
	database, redis := pgtest.URL(t, nil), redistest.URL(t)
	nats := "nats://turbocat:" + filledIn(t)["NATS_PASSWORD"] + "@" + composedNATS(t, c.Services["nats"].Environment)
	free, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free)
	environ := func(name string) map[string]string {
		given := map[string]string{}
		for variable, value := range c.Services[name].Environment {
			switch {
			case variable == "DATABASE_URL":
				value = database
			case variable == "REDIS_URL":
				value = redis
			case variable == "NATS_URL":
				value = nats
			case variable == "PORT":
				value = port
			case strings.HasSuffix(variable, "_OPS_ADDRESS"):
				value = "127.0.0.1:0"
			}
			given[variable] = value
		}
		return given
	}
	run := func(name string) string {
		t.Helper()
		var out bytes.Buffer
		root := newRoot(environ(name))
		root.SetArgs(c.Services[name].Command)
		root.SetOut(&out)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := root.ExecuteContext(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return out.String()
	}
	run("migrate")
	run("migrate") // a second time changes nothing
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 8)
	begun := 0
	defer func() {
		stop()
		for range begun {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	ready := make(chan string, 8)
	for _, u := range units() {
		begun++
		go func() { ended <- u.Run(ctx, environ(u.Name), io.Discard, func() { ready <- u.Name }) }()
	}
	for range begun {
		select {
		case <-ready:
		case err := <-ended:
			begun--
			t.Fatalf("a service ends: %v", err)
		case <-time.After(patience):
			t.Fatal("the services are not ready")
		}
	}
	if said := run("admin"); said != "The administrator admin@example.com is made.\n" {
		t.Errorf("it says %q", said)
	}
	if said := run("admin"); said != "The administrator admin@example.com is there already.\n" {
		t.Errorf("a second time it says %q", said)
	}
	conn, err := bus.Connect(ctx, nats, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := bus.Call(ctx, conn, identity.Login, rpc.Caller{}, identity.LoginRequest{Email: "admin@example.com", Password: "Correct-horse-9"})
	if err != nil || session.User.Role != rpc.RoleAdmin {
		t.Errorf("%+v, %v", session.User, err)
	}
	for _, test := range []struct {
		url  string
		want string
	}{{"http://127.0.0.1:" + port + "/", ""}, {"http://127.0.0.1:1", "refused"}, {"http://127.0.0.1:" + port + "/api/v1", "1"}} {
		root := newRoot(nil)
		var out bytes.Buffer
		root.SetArgs([]string{"health", test.url})
		root.SetOut(&out)
		if err := root.ExecuteContext(ctx); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v %s", test.url, err, out.String())
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
