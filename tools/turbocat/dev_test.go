//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/runner"
	"turbocat.io/tools/internal/allinone"
	"turbocat.io/tools/internal/child"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/datadir"
	"turbocat.io/tools/internal/seed"
)

// asTurbocat makes the test binary be turbocat.
const asTurbocat = "TURBOCAT_TEST_AS_TURBOCAT"

const patience = 90 * time.Second

func TestMain(m *testing.M) {
	runner.SandboxMain()
	if os.Getenv(asTurbocat) != "" {
		os.Exit(execute())
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// place is a data folder with a port.
type place struct {
	dir  string
	port int
}

func newPlace(t *testing.T) place {
	t.Helper()
	top, err := os.MkdirTemp("", "turbocat-dev-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	if err := os.Chmod(top, 0o711); err != nil { // the database's user passes through
		t.Fatal(err)
	}
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return place{dir: filepath.Join(top, "data"), port: port}
}

func (p place) url() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

func (p place) command(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), asTurbocat+"=1", "TURBOCAT_DATA_DIR="+p.dir, fmt.Sprintf("PORT=%d", p.port), "TURBOCAT_IDENTITY_BCRYPT_COST=4")
	cmd.Env = append(cmd.Env, environ...)
	return cmd
}

// process is a running turbocat and what it prints.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan error

	mu      sync.Mutex
	out     bytes.Buffer
	changed chan struct{} // closed and replaced when out grows
}

func (i *process) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.changed)
	i.changed = make(chan struct{})
	return i.out.Write(p)
}

func (p place) dev(t *testing.T, environ ...string) *process {
	t.Helper()
	return begin(t, p.command(t, environ, "dev"))
}

func (p place) start(t *testing.T, args ...string) *process {
	t.Helper()
	return begin(t, p.command(t, nil, args...))
}

func begin(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	i := &process{t: t, cmd: cmd, ended: make(chan error, 1), changed: make(chan struct{})}
	i.cmd.Stdout, i.cmd.Stderr = i, i
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { i.ended <- i.cmd.Wait() }()
	t.Cleanup(func() { _ = i.signal(syscall.SIGKILL) })
	return i
}

func (i *process) output() (string, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.out.String(), i.changed
}

// await waits until a text was printed and gives everything so far.
func (i *process) await(text string) string {
	i.t.Helper()
	late := time.After(patience)
	for {
		out, changed := i.output()
		if strings.Contains(out, text) {
			return out
		}
		select {
		case <-changed:
		case err := <-i.ended:
			i.ended <- err
			out, _ = i.output()
			if strings.Contains(out, text) {
				return out
			}
			i.t.Fatalf("ended (%v) before %q:\n%s", err, text, out)
		case <-late:
			i.t.Fatalf("no %q in\n%s", text, out)
		}
	}
}

// signal sends a signal and waits for the end.
func (i *process) signal(s syscall.Signal) error {
	_ = i.cmd.Process.Signal(s)
	select {
	case err := <-i.ended:
		i.ended <- err
		return err
	case <-time.After(patience):
		i.t.Errorf("does not end by %s", s)
		return nil
	}
}

func (p place) login(t *testing.T, email, password string) *client.Client {
	t.Helper()
	c, err := client.Login(t.Context(), p.url(), email, password)
	if err != nil {
		t.Fatalf("%s can not log in: %v", email, err)
	}
	t.Cleanup(c.Close)
	return c
}

var credential = regexp.MustCompile(`(?m)^  (administrator|demo user) +(\S+)  +(Tc1-\S+)$`)

// checkCredentials checks that those printed work, and gives how many there are.
func (p place) checkCredentials(t *testing.T, out string) int {
	t.Helper()
	found := credential.FindAllStringSubmatch(out, -1)
	for _, f := range found {
		p.login(t, f[2], f[3])
	}
	return len(found)
}

const (
	sampleResult = `"records": {"rules": 2178, "periods": 2309, "links": 151}`
	running      = "Running; Ctrl-C stops."
)

func TestStartsOfADataFolder(t *testing.T) {
	t.Parallel()
	p := newPlace(t)

	weak := p.dev(t, "TURBOCAT_ADMIN_PASSWORD=short")
	out := weak.await("turbocat: TURBOCAT_ADMIN_PASSWORD: the password has fewer than 8 characters")
	if err := weak.signal(syscall.SIGTERM); err == nil || strings.Contains(out, "Ready in") {
		t.Errorf("a weak password: %v\n%s", err, out)
	}

	first := p.dev(t)
	out = first.await(running)
	if p.checkCredentials(t, out) != 2 {
		t.Errorf("the first start names not both accounts:\n%s", out)
	}
	for _, want := range []string{"Ready in ", p.url() + "/api/v1/docs", "  zones    running", "  report   completed in ", sampleResult} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in the first start:\n%s", want, out)
		}
	}
	password, err := datadir.FindPassword(p.dir, allinone.DemoPassword)
	if err != nil {
		t.Fatal(err)
	}
	demo := p.login(t, seed.DemoEmail, password)
	for name, status := range map[string]string{
		"Web Scraper": catalog.StatusActive, "Data Transformer": catalog.StatusActive, "API Caller": catalog.StatusActive,
		"LLM Summarizer": catalog.StatusDraft, "Email Sender": catalog.StatusDraft,
	} {
		if agents, err := demo.Agents(t.Context(), name); err != nil || len(agents) != 1 || agents[0].Status != status {
			t.Errorf("%s: %+v, %v", name, agents, err)
		}
	}
	once := p.run(t, 0)
	if again := p.run(t, 0); again.WorkflowID != once.WorkflowID || again.WorkflowVersion != 1 {
		t.Errorf("a second run changed the workflow: %+v", again)
	}
	if x := p.run(t, 1, "--input", "text=@"+p.write(t, "t", "R too short")); x.Status != orchestrator.ExecutionFailed {
		t.Errorf("a text that is none ended %s", x.Status)
	}
	p.testAnAgent(t)
	p.interruptARun(t)
	if err := first.signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	first.await("Stopped.")

	second := p.dev(t, "TURBOCAT_ADMIN_PASSWORD=short") // is no longer read
	out = second.await(running)
	if p.checkCredentials(t, out) != 0 || strings.Contains(out, "records") {
		t.Errorf("the second start repeats the first:\n%s", out)
	}
	if x, err := p.login(t, seed.DemoEmail, password).Execution(t.Context(), once.ID); err != nil || x.Status != orchestrator.ExecutionCompleted {
		t.Errorf("data is lost: %+v, %v", x, err)
	}
	_ = second.signal(syscall.SIGKILL)

	third := p.dev(t)
	third.await(running)
	if x := p.run(t, 0); x.WorkflowID != once.WorkflowID {
		t.Errorf("after a kill: %+v", x)
	}
	if err := third.signal(syscall.SIGINT); err != nil {
		t.Errorf("SIGINT: %v", err)
	}
}

// TestKillInAFirstStart kills at moments of the first start, one after the other: the start that
// follows goes on where it must, and what it tells is true.
func TestKillInAFirstStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, moment := range []string{"makes a new database", "Redis is", "Ready in", "parse    running"} {
		if _, err := os.Stat(filepath.Join(p.dir, "started")); err == nil {
			break // the kill before this one came after the first start was marked
		}
		killed := p.dev(t)
		killed.await(moment)
		_ = killed.signal(syscall.SIGKILL)
	}
	last := p.dev(t)
	out := last.await(running)
	p.checkCredentials(t, out)
	password, err := datadir.FindPassword(p.dir, allinone.DemoPassword)
	if err != nil {
		t.Fatal(err)
	}
	p.login(t, seed.DemoEmail, password)
	p.run(t, 0)
	if err := last.signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// testAnAgent runs a sample agent alone.
func (p place) testAnAgent(t *testing.T) {
	t.Helper()
	test := func(args ...string) (out, errs string, err error) {
		var stdout, stderr bytes.Buffer
		root := newRoot(map[string]string{"TURBOCAT_DATA_DIR": p.dir})
		root.SetArgs(append([]string{"agent", "test", "--url", p.url()}, args...))
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		err = root.ExecuteContext(t.Context())
		return stdout.String(), stderr.String(), err
	}
	out, errs, err := test("Data Transformer", "--input", `data=[{"id":2},{"id":1}]`)
	if err != nil || !strings.Contains(out, `"count"`) || !strings.Contains(errs, `Running "Data Transformer", 1 step, as execution`) || !strings.Contains(errs, "agent  completed in") {
		t.Errorf("the test of an agent says %q, %q, %v", out, errs, err)
	}
	out, _, err = test("Data Transformer", "--json")
	var told exit
	var x orchestrator.Execution
	if !errors.As(err, &told) || json.Unmarshal([]byte(out), &x) != nil || x.Status != orchestrator.ExecutionFailed {
		t.Errorf("without its input it says %q, %v", out, err)
	}
	if _, _, err := test("nobody"); err == nil || !strings.Contains(err.Error(), `you have no agent "nobody"`) {
		t.Errorf("an agent that is not there: %v", err)
	}
}

func TestStopDuringTheSample(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.dev(t)
	d.await("parse    running")
	if err := d.signal(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	out := d.await("Stopped.")
	if strings.Contains(out, running) || strings.Contains(out, "did not complete") {
		t.Errorf("an interrupt is told as a fault:\n%s", out)
	}
}

func (p place) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs the example with `turbocat run` and gives the execution.
func (p place) run(t *testing.T, code int, args ...string) orchestrator.Execution {
	t.Helper()
	args = append([]string{"run", "../../examples/timezones/workflow.yaml", "--json", "--input", "text=@../../examples/timezones/tzdata.zi"}, args...)
	var stdout, stderr bytes.Buffer
	cmd := p.command(t, nil, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	var x orchestrator.Execution
	if got := cmd.ProcessState.ExitCode(); got != code || json.Unmarshal(stdout.Bytes(), &x) != nil || stderr.Len() > 0 {
		t.Fatalf("exit code %d, want %d\n%s\n%s", got, code, stdout.String(), stderr.String())
	}
	return x
}

// interruptARun checks that Ctrl-C ends `turbocat run` with its execution.
func (p place) interruptARun(t *testing.T) {
	t.Helper()
	endless := p.write(t, "endless.yaml", `
name: Endless
agents:
  Endless: {type: CODE, config: {runtime: javascript, source: "function handler() { for (;;) {} }", timeoutMs: 600000}}
steps:
  - {stepKey: a, stepType: AGENT, agent: Endless}
`)
	r := p.start(t, "run", endless)
	r.await("  a  running")
	err := r.signal(syscall.SIGINT)
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != interruptedCode {
		t.Errorf("an interrupted run: %v", err)
	}
	out := r.await("is cancelled")
	id := regexp.MustCompile(`as execution (\S+)`).FindStringSubmatch(out)
	password, err := datadir.FindPassword(p.dir, allinone.DemoPassword)
	if err != nil || id == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := p.login(t, seed.DemoEmail, password)
	if err := c.Follow(t.Context(), id[1], func(client.Event) {}); err != nil {
		t.Fatal(err)
	}
	if x, err := c.Execution(t.Context(), id[1]); err != nil || x.Status != orchestrator.ExecutionCancelled {
		t.Errorf("its execution: %s, %v", x.Status, err)
	}
}

func TestInputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	whole, list, text, binary := write("a.json", `{"a":1,"b":2}`), write("l.json", `[1]`), write("t.txt", "one\ntwo"), write("b", "\xff\xfe")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, `{}`},
		{[]string{"@" + whole, "b=3"}, `{"a":1,"b":3}`},
		{[]string{"t=@" + text}, `{"t":"one\ntwo"}`},
		{[]string{"n=20", "l=[1]", "s=Ann", "q=a=b", "e="}, `{"e":"","l":[1],"n":20,"q":"a=b","s":"Ann"}`},
		{[]string{"@" + list}, "is no JSON object; give one, or a text with --input name=@"},
		{[]string{"t=@" + binary}, "is no UTF-8 text"},
		{[]string{"@" + dir + "/none"}, "can not be read (no such file or directory); check the name"},
		{[]string{"t=@" + dir + "/none"}, "can not be read"},
		{[]string{"word"}, `--input "word" is not understood; write @file.json, name=@file or name=value`},
		{[]string{"=x"}, "is not understood"},
	} {
		got, err := gatherInputs(c.flags)
		if err != nil && !strings.Contains(err.Error(), c.want) || err == nil && string(got) != c.want {
			t.Errorf("%q: %s, %v", c.flags, got, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	d, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	password, err := d.Password(allinone.DemoPassword)
	if err != nil {
		t.Fatal(err)
	}
	here := map[string]string{"TURBOCAT_DATA_DIR": dir}
	for address, want := range map[string]string{
		"http://127.0.0.1:3001": "", "http://localhost:1": "", "http://[::1]:3001": "",
		"https://turbocat.example.com": "no account for https://turbocat.example.com is known; set TURBOCAT_EMAIL", "http://127.0.0.1.example.com": "no account",
	} {
		email, got, err := credentials(here, address)
		if want == "" && (err != nil || email != seed.DemoEmail || got != password) || want != "" && (err == nil || got != "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s, %v", address, email, err)
		}
	}
	if email, got, err := credentials(map[string]string{"TURBOCAT_EMAIL": "a", "TURBOCAT_PASSWORD": "b"}, "https://x"); email != "a" || got != "b" || err != nil {
		t.Errorf("%s, %s, %v", email, got, err)
	}
	if _, _, err := credentials(map[string]string{"TURBOCAT_EMAIL": "a"}, "https://x"); err == nil {
		t.Error("an address without a password is taken")
	}
	if _, _, err := credentials(map[string]string{"TURBOCAT_DATA_DIR": dir + "/none"}, "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "make run") {
		t.Errorf("got %v", err)
	}
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"name one file to run": {"run"},
		"can not be read":      {"run", "/none.yaml"},
	} {
		root := newRoot(map[string]string{})
		root.SetArgs(args)
		root.SetOut(&bytes.Buffer{})
		root.SetErr(&bytes.Buffer{})
		if err := root.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
