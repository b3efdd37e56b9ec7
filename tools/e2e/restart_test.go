//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/child"
)

func TestRestartKeepsEverything(t *testing.T) {
	i := own(t, "restart")
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	c := register(t, i.url)
	workflow := c.workflow(t, []object{step("a", c.code(t, `function handler(input) { console.log("logged"); return input }`), inputs(object{"n": "{{inputs.n}}"}))})
	before := c.run(t, workflow, object{"n": 1})
	events := c.all(t, before.ID, "")
	c.logs(t, before.ID, "", 1)
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	first := i.printed()
	told := regexp.MustCompile(`admin@turbocat\.dev\s+(\S+)`).FindStringSubmatch(first)
	if told == nil || !strings.Contains(first, i.url+"/api/v1") {
		t.Fatalf("the first start does not tell the address and the credentials:\n%s", first)
	}

	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	// The access token is one of before.
	after := c.execution(t, before.ID)
	same(t, "the outputs", after.Outputs, string(before.Outputs))
	if statuses(after) != statuses(before) || !after.CreatedAt.Equal(before.CreatedAt) {
		t.Errorf("the execution was %+v and is %+v", before, after)
	}
	if again := c.all(t, before.ID, ""); !slices.Equal(again, events) {
		t.Errorf("the events were %s and are %s", names(t, events), names(t, again))
	}
	c.logs(t, before.ID, "", 1)
	same(t, "the outputs of a run after the restart", c.run(t, workflow, object{"n": 2}).Outputs, `{"a":{"n":2}}`)
	data[identity.Session](t, c.do(t, "POST", "/auth/refresh", object{"refreshToken": c.session.RefreshToken}), 200)

	admin := &client{url: i.url}
	admin.session = data[identity.Session](t, admin.do(t, "POST", "/auth/login", object{"email": "admin@turbocat.dev", "password": told[1]}), 200)
	if got := data[orchestrator.Execution](t, admin.do(t, "GET", "/executions/"+before.ID, nil), 200); admin.session.User.Role != "ADMIN" || got.ID != before.ID {
		t.Errorf("%+v sees %+v", admin.session.User, got)
	}
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	if second := strings.TrimPrefix(i.printed(), first); strings.Contains(second, told[1]) || !strings.Contains(second, i.url+"/api/v1") {
		t.Errorf("the second start prints\n%s", second)
	}
}

// TestRefusedStarts checks that a start that can not succeed ends with one sentence.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	home(t)
	i := lab.started
	if i == nil {
		t.Skip("SKIPPED: the installation was not started by the tests")
	}
	other, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]struct {
		environ []string
		say     string
	}{
		"taken port":          {[]string{"TURBOCAT_DATA_DIR=" + t.TempDir()}, strings.TrimPrefix(i.url, "http://127.0.0.1:")},
		"taken data folder":   {[]string{"PORT=" + strconv.Itoa(other)}, i.data},
		"no port":             {[]string{"PORT=http"}, "PORT"},
		"unusable folder":     {[]string{"PORT=" + strconv.Itoa(other), "TURBOCAT_DATA_DIR=" + i.output}, i.output},
		"PostgreSQL not here": {[]string{"PORT=" + strconv.Itoa(other), "TURBOCAT_DATA_DIR=" + t.TempDir(), "TURBOCAT_PG_BIN=/nowhere"}, "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), i.program, i.args...)
			cmd.Env = append(slices.Clone(i.environ), f.environ...)
			var out, complaint bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &complaint
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("it ends with %v\n%s", err, out.String())
			}
			text := complaint.String()
			if !strings.HasPrefix(text, "turbocat: ") || strings.Count(text, "\n") != 1 || !strings.Contains(text, f.say) {
				t.Errorf("it says\n%s", text)
			}
		})
	}
}
