//go:build unix

package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// roleVariable makes the test binary a child that behaves in some way.
const roleVariable = "CHILD_TEST_ROLE"

const patience = 30 * time.Second

// playing is the environment of the test's own program in a role. It says where to write what it covered, or it would
// complain of that on stderr.
func playing(role string) []string {
	return []string{roleVariable + "=" + role, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
}

// play is what a child does; it never returns.
func play(role string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	switch role {
	case "good":
		fmt.Println("ready", os.Getpid())
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready", os.Getpid())
	case "silent":
		fmt.Println("still starting")
	case "refusing":
		fmt.Println("looking at the configuration")
		fmt.Fprintln(os.Stderr, "turbocat: PORT is wrong")
		os.Exit(3)
	case "brief":
		fmt.Println("ready", os.Getpid())
		os.Exit(0)
	case "talking":
		talk()
	case "leaving an heir":
		heir, err := Start(Command{Path: "/proc/self/exe", Env: playing("deaf"), Output: os.Stdout, Orphan: syscall.SIGCONT})
		fmt.Println("ready", os.Getpid())
		fmt.Println("heir", heir.PID(), err)
		os.Exit(1)
	case "supervising":
		s := Supervisor{
			Command: func() Command { return Command{Path: "/proc/self/exe", Env: playing("good")} },
			Ready:   func(line string) bool { return strings.HasPrefix(line, "ready") },
			Line:    func(int, string) {}, Down: func(Down) {},
			Up:       func(up Up) { fmt.Println("supervises", up.PID) },
			Patience: patience, Grace: patience,
		}
		if err := s.Run(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	<-terminated
	os.Exit(0)
}

// talk writes the same lines to both outputs at once, in pieces.
func talk() {
	fmt.Println("ready", os.Getpid())
	var both sync.WaitGroup
	for _, out := range []*os.File{os.Stdout, os.Stderr} {
		both.Go(func() {
			for i := range 200 {
				_, _ = fmt.Fprintf(out, "%s %d %s\n", out.Name(), i, strings.Repeat("x", i*10))
			}
		})
	}
	both.Wait()
	for _, piece := range []string{"in ", "three ", "pieces\r\n\n\n", strings.Repeat("y", longestLine), "z\n", "cut off"} {
		_, _ = os.Stdout.WriteString(piece)
	}
}

// watch is a supervisor of a child in a role, and what it was told.
type watch struct {
	t      *testing.T
	cancel context.CancelFunc
	result chan error
	ups    chan Up
	downs  chan Down

	mu    sync.Mutex
	lines []string
}

func supervise(t *testing.T, role string, change func(*Supervisor)) *watch {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{t: t, cancel: cancel, result: make(chan error, 1), ups: make(chan Up, 100), downs: make(chan Down, 100)}
	s := Supervisor{
		Command: func() Command { return Command{Path: program, Name: "child", Env: playing(role)} },
		Ready:   func(line string) bool { return strings.HasPrefix(line, "ready ") },
		Line: func(_ int, line string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lines = append(w.lines, line)
		},
		Up: func(up Up) { w.ups <- up }, Down: func(down Down) { w.downs <- down },
		Patience: patience, Grace: patience,
	}
	if change != nil {
		change(&s)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.result <- s.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *watch) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines)
}

func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("it takes too long")
		panic("unreachable")
	}
}

func (w *watch) stop() error {
	w.t.Helper()
	w.cancel()
	return next(w.t, w.result)
}

func TestSupervisorStartsAgain(t *testing.T) {
	t.Parallel()
	w := supervise(t, "good", nil)
	up := next(t, w.ups)
	if up.Again || up.Said != "ready "+strconv.Itoa(up.PID) {
		t.Fatalf("the first start is told as %+v", up)
	}
	for failures := range 4 {
		if err := syscall.Kill(up.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		down := next(t, w.downs)
		longest := firstPause << failures
		if down.PID != up.PID || down.How != "was killed by SIGKILL" || down.Again < longest/2 || down.Again > longest {
			t.Errorf("end %d is told as %+v", failures, down)
		}
		began := time.Now()
		again := next(t, w.ups)
		if !again.Again || again.PID == up.PID || again.Said != "ready "+strconv.Itoa(again.PID) || time.Since(began) < down.Again/2 {
			t.Errorf("start %d comes after %s as %+v", failures+2, time.Since(began), again)
		}
		up = again
	}
	if err := w.stop(); err != nil || Alive(up.PID) {
		t.Errorf("it stops with %v, alive: %v", err, Alive(up.PID))
	}
	if len(w.ups)+len(w.downs) > 0 {
		t.Error("an ordered stop is told as an end")
	}
}

func TestSupervisorTellsHowAChildEnds(t *testing.T) {
	t.Parallel()
	w := supervise(t, "brief", nil)
	next(t, w.ups)
	if down := next(t, w.downs); down.How != "ended with exit code 0" {
		t.Errorf("got %+v", down)
	}
	w = supervise(t, "good", nil)
	pid := next(t, w.ups).PID
	_ = syscall.Kill(pid, syscall.SIGTERM)
	if down := next(t, w.downs); down.How != "ended with exit code 0" || down.PID != pid {
		t.Errorf("got %+v", down)
	}
}

func TestSupervisorGivesUpAFirstStart(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]StartError{
		"refusing": {How: "ended with exit code 3", Exited: true, Last: []string{"looking at the configuration", "turbocat: PORT is wrong"}},
		"silent":   {How: "was not ready after 2s", Last: []string{"still starting"}},
		"missing":  {How: "can not be started: cannot run /nowhere/program: no such file or directory"},
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			w := supervise(t, role, func(s *Supervisor) {
				if role == "silent" {
					s.Patience = 2 * time.Second
				}
				if role == "missing" {
					s.Command = func() Command { return Command{Path: "/nowhere/program"} }
				}
			})
			var got *StartError
			if err := next(t, w.result); !errors.As(err, &got) || got.How != want.How || got.Exited != want.Exited || !slices.Equal(got.Last, want.Last) {
				t.Errorf("got %+v", err)
			}
			if len(w.ups)+len(w.downs) > 0 {
				t.Error("it was told as one that worked")
			}
			w.result <- nil
		})
	}
}

// A configuration that went wrong since the first start does not end the supervision.
func TestSupervisorGoesOnAfterTheFirstStart(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	roles := make(chan string, 5)
	for _, r := range []string{"brief", "refusing", "", "refusing", "good"} {
		roles <- r
	}
	w := supervise(t, "", func(s *Supervisor) {
		s.Command = func() Command {
			role := <-roles
			if role == "" {
				return Command{Path: "/nowhere/program"}
			}
			return Command{Path: program, Env: playing(role)}
		}
	})
	next(t, w.ups)
	var hows []string
	for range 4 {
		hows = append(hows, next(t, w.downs).How)
	}
	want := []string{"ended with exit code 0", "ended with exit code 3", "can not be started: cannot run /nowhere/program: no such file or directory", "ended with exit code 3"}
	if !slices.Equal(hows, want) {
		t.Errorf("it ends as %q", hows)
	}
	if up := next(t, w.ups); !up.Again {
		t.Errorf("it works as %+v", up)
	}
}

func TestSupervisorKillsWhoDoesNotStop(t *testing.T) {
	t.Parallel()
	w := supervise(t, "deaf", func(s *Supervisor) { s.Grace = 100 * time.Millisecond })
	pid := next(t, w.ups).PID
	if err := w.stop(); err == nil || err.Error() != "did not end within 100ms of SIGTERM and was killed" || Alive(pid) {
		t.Errorf("it stops with %v, alive: %v", err, Alive(pid))
	}
}

func TestSupervisorStopsInAPause(t *testing.T) {
	t.Parallel()
	w := supervise(t, "brief", nil)
	for range 3 {
		next(t, w.downs)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if ups := len(w.ups); ups > 4 {
		t.Errorf("it was started %d times", ups)
	}
}

func TestSupervisorTakesWholeLines(t *testing.T) {
	t.Parallel()
	w := supervise(t, "talking", nil)
	next(t, w.ups)
	if err := w.stop(); err != nil { // what was not read yet is read then
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, line := range w.said() {
		first, _, _ := strings.Cut(line, " ")
		got[first] = append(got[first], line)
	}
	for _, out := range []string{os.Stdout.Name(), os.Stderr.Name()} {
		for i := range 200 {
			if want := fmt.Sprintf("%s %d %s", out, i, strings.Repeat("x", i*10)); i >= len(got[out]) || got[out][i] != strings.TrimRight(want, "\n") {
				t.Fatalf("line %d of %s is not whole", i, out)
			}
		}
		delete(got, out)
	}
	long := strings.Repeat("y", longestLine)
	if len(got) != 4 || got["in"][0] != "in three pieces" || got[long] == nil || got["z"] == nil || got["cut"][0] != "cut off" {
		t.Errorf("besides there are %d kinds of lines", len(got))
	}
}

// Who holds a dead child's output open keeps nobody waiting.
func TestSupervisorDoesNotWaitForHeirs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: it takes /proc")
	}
	w := supervise(t, "leaving an heir", nil)
	next(t, w.ups)
	down := next(t, w.downs)
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	var heir int
	for _, line := range w.said() {
		if _, err := fmt.Sscanf(line, "heir %d", &heir); err == nil {
			_ = syscall.Kill(heir, syscall.SIGKILL)
		}
	}
	if down.How != "ended with exit code 1" || heir == 0 {
		t.Errorf("it ends as %+v and left the heir %d", down, heir)
	}
}

func TestChildrenEndWithAKilledSupervisor(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux tells children that their parent has died")
	}
	w := supervise(t, "supervising", func(s *Supervisor) {
		s.Ready = func(line string) bool { return strings.HasPrefix(line, "supervises ") }
	})
	up := next(t, w.ups)
	var pid int
	if _, err := fmt.Sscanf(up.Said, "supervises %d", &pid); err != nil || !Alive(pid) {
		t.Fatalf("%q: %v", up.Said, err)
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the child is in the group %d: Ctrl-C would reach it (%v)", group, err)
	}
	_ = syscall.Kill(up.PID, syscall.SIGKILL)
	next(t, w.downs)
	deadline := time.Now().Add(patience)
	for runs(pid) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child outlives its supervisor")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// runs tells whether a process runs; one that has ended and that nobody has asked for does not.
func runs(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, found := strings.Cut(string(raw), ") ")
	return err == nil && found && !strings.HasPrefix(state, "Z")
}

func TestPauses(t *testing.T) {
	const ms = time.Millisecond
	doubling := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10000 * ms, 10000 * ms}
	for random, share := range map[float64]time.Duration{0: 2, 0.5: 3, 1: 4} { // quarters of the longest
		var p pauses
		for i, longest := range slices.Concat(doubling, doubling[:3]) {
			worked := steady - 1
			if i == len(doubling) {
				worked = steady
			}
			if got := p.next(worked, random); got != longest/4*share {
				t.Errorf("pause %d is %s, want %s", i, got, longest/4*share)
			}
		}
		p.failures = 1_000_000
		if got := p.next(0, 1); got != longestPause {
			t.Errorf("after very many failures: %s", got)
		}
	}
}
