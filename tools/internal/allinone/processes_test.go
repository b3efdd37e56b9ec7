//go:build unix

package allinone

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/child"
)

const (
	// behaviourVariable makes the test binary a `serve` that behaves in some way.
	behaviourVariable = "ALLINONE_TEST_BEHAVIOUR"
	// diaryVariable names the file to which it appends what it does.
	diaryVariable = "ALLINONE_TEST_DIARY"

	patience = 30 * time.Second
)

// serve is a process of the fleet; it never returns.
func serve(behaviour string, args []string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	name := args[1]
	var ready Ready
	ready.Ready = name
	switch behaviour {
	case "refuses":
		fmt.Fprintln(os.Stderr, `{"level":"info","message":"reading"}`)
		fmt.Fprintln(os.Stderr, "turbocat: the port is wrong;\n  correct it")
		os.Exit(1)
	case "panics":
		fmt.Fprintln(os.Stderr, `{"level":"info","message":"reading"}`)
		panic("no such luck")
	}
	if name == natsName {
		u, err := url.Parse(os.Getenv("NATS_URL"))
		if err != nil {
			panic(err)
		}
		ready.Address = u.Host
		if u.Port() == "0" {
			ready.Address = "127.0.0.1:" + strconv.Itoa(20000+os.Getpid()%10000)
		}
	}
	note("start " + name)
	fmt.Fprintf(os.Stderr, `{"level":"info","service":%q,"message":"ready"}`+"\n", name)
	fmt.Fprintln(os.Stderr, "not of a log")
	line, _ := json.Marshal(ready)
	fmt.Println(string(line))
	<-terminated
	note("stop " + name)
	os.Exit(0)
}

func note(entry string) {
	f, err := os.OpenFile(os.Getenv(diaryVariable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(entry + "\n")
	}
	if err != nil {
		panic(err)
	}
}

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits for a pattern and gives what its group matched.
func (b *buffer) await(t *testing.T, pattern string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		found := regexp.MustCompile(pattern).FindStringSubmatch(b.String())
		if found != nil {
			return found[len(found)-1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", pattern, b.String())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// inProcesses are options whose processes are the test binary, with the environment they get.
func inProcesses(t *testing.T, behaviour string, out io.Writer, names ...string) (o Options, environ map[string]string, diary string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	diary = filepath.Join(t.TempDir(), "diary")
	o = Options{Door: "door", Out: out, Environ: map[string]string{
		behaviourVariable: behaviour, diaryVariable: diary, "GOCOVERDIR": os.Getenv("GOCOVERDIR"),
	}}
	for _, name := range names {
		o.Units = append(o.Units, service.Unit{Name: name})
	}
	return InProcesses(o, program), o.Environ, diary
}

func pids(table string) map[string]int {
	found := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^  (\w+) +(\d+)`).FindAllStringSubmatch(table, -1) {
		found[m[1]], _ = strconv.Atoi(m[2])
	}
	return found
}

func TestProcessesStartAgainAndStopInOrder(t *testing.T) {
	t.Parallel()
	var out, logs buffer
	o, environ, diary := inProcesses(t, "works", &out, "a", "door", "b")
	nats, err := o.startNATS(t.Context(), "/the/folder", &logs)
	if err != nil {
		t.Fatal(err)
	}
	address := nats.URL()
	u := startUnits(o.Units, o.Door, environ, &logs)
	u.open()
	if err := u.awaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := o.processes("http://the-door:1")
	lines := strings.Split(table, "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[1], "  a ") || !strings.HasSuffix(lines[4], "  http://the-door:1") || !strings.Contains(table, "127.0.0.1:") {
		t.Errorf("the table is\n%s", table)
	}
	before := pids(table)
	for name, pid := range before {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out.await(t, name+` \(pid `+strconv.Itoa(pid)+`\) was killed by SIGKILL; it is started again in \d+ms\.\n`)
		again := out.await(t, name+` works again as pid (\d+)\.\n`)
		if now := pids(o.processes(""))[name]; strconv.Itoa(now) != again || now == pid {
			t.Errorf("%s was %d, is told to be %s and stands in the table as %d", name, pid, again, now)
		}
	}
	if _, at, _ := strings.Cut(address, "@"); nats.URL() != address || strings.HasSuffix(at, ":0") || !strings.Contains(o.processes(""), at) {
		t.Errorf("NATS moved from %s to %s", address, nats.URL())
	}
	if args, err := os.ReadFile("/proc/" + strconv.Itoa(pids(o.processes(""))[natsName]) + "/cmdline"); err == nil && string(args) != "turbocat\x00serve\x00nats\x00--dir\x00/the/folder\x00" {
		t.Errorf("everybody may read %q", args)
	}

	u.stop()
	nats.Stop()
	raw, err := os.ReadFile(diary)
	if err != nil {
		t.Fatal(err)
	}
	did := strings.Fields(strings.ReplaceAll(string(raw), " ", ":"))
	stops := did[len(did)-4:]
	if len(did) != 12 || did[0] != "start:nats" || stops[0] != "stop:door" || stops[3] != "stop:nats" {
		t.Errorf("the processes did %q", did)
	}
	for name, pid := range pids(o.processes("")) {
		if child.Alive(pid) {
			t.Errorf("%s outlives its stop", name)
		}
	}
	for range 3 {
		if err := <-u.ended; err != nil {
			t.Errorf("an ordered stop is no fault: %v", err)
		}
	}

	kinds := map[string]int{}
	for line := range strings.Lines(logs.String()) {
		var entry struct{ Level, Service, Message string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%q is no line of a log", line)
		}
		kinds[entry.Level+" "+entry.Service+" "+strings.Split(entry.Message, ";")[0]]++
	}
	for _, name := range slices.Collect(maps.Keys(before)) {
		for _, want := range []string{"info " + name + " ready", "error " + name + " not of a log"} {
			if kinds[want] != 2 {
				t.Errorf("%q is logged %d times", want, kinds[want])
			}
		}
		if want := "error " + name + " the process was killed by SIGKILL"; kinds[want] != 1 {
			t.Errorf("%q is logged %d times", want, kinds[want])
		}
	}
}

func TestAProcessThatDoesNotStartIsNoLoop(t *testing.T) {
	t.Parallel()
	for behaviour, want := range map[string]string{
		"refuses": `^the port is wrong;\n  correct it$`,
		"panics":  `^a ended with exit code 2 at its first start; it said last:\n(?s:.*)no such luck(?s:.*)$`,
	} {
		var out, logs buffer
		o, environ, _ := inProcesses(t, behaviour, &out, "a")
		u := startUnits(o.Units, o.Door, environ, &logs)
		err := u.awaitReady(t.Context())
		u.stop()
		if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) || out.String() != "" {
			t.Errorf("%s: %v\n%s", behaviour, err, out.String())
		}
		if nats, err := o.startNATS(t.Context(), "/the/folder", &logs); err == nil {
			nats.Stop()
			t.Errorf("NATS started all the same")
		}
	}
}

func TestFirstFault(t *testing.T) {
	for want, e := range map[string]child.StartError{
		"PORT is wrong; correct it": {How: "ended with exit code 1", Exited: true, Last: []string{`{"level":"info"}`, "turbocat: PORT is wrong; correct it"}},
		"a was killed by SIGSEGV at its first start; it said last:\n  turbocat: not the reason": {How: "was killed by SIGSEGV", Last: []string{"turbocat: not the reason"}},
		"a ended with exit code 2 at its first start; it said last:\n  {}\n  panic":             {How: "ended with exit code 2", Exited: true, Last: []string{"{}", "panic"}},
		"a was not ready after 55s at its first start":                                          {How: "was not ready after 55s"},
	} {
		if got := firstFault("a", &e).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestGrace(t *testing.T) {
	for want, environ := range map[time.Duration]map[string]string{
		13 * time.Second: forDevelopment(nil),
		70 * time.Second: {"TURBOCAT_GATEWAY_DRAIN_TIMEOUT": "1m", "TURBOCAT_RUNNER_DRAIN_MS": "3000"},
		10 * time.Second: {"TURBOCAT_GATEWAY_DRAIN_TIMEOUT": "soon", "TURBOCAT_RUNNER_DRAIN_MS": "-5"},
	} {
		if got := grace(environ); got != want {
			t.Errorf("%v gives %s, want %s", environ, got, want)
		}
	}
}

// A process must have failed, with its reason, before the installation gives up without one.
func TestProcessesGiveUpFirst(t *testing.T) {
	if startWithin >= readyTimeout {
		t.Errorf("%s is not less than %s", startWithin, readyTimeout)
	}
}
