package code

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keepWarm has the executor keep n sandboxes ready until the test ends.
func keepWarm(t testing.TB, e *Executor, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	var warm sync.WaitGroup
	warm.Go(func() { e.Warm(ctx, n) })
	t.Cleanup(func() {
		cancel()
		warm.Wait()
	})
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func bothReady(e *Executor) func() bool { return func() bool { return len(e.scripts.idle) == 2 } }

func TestWarmSandboxServesOneAttempt(t *testing.T) {
	e := newExecutor(t)
	keepWarm(t, e, 2)
	eventually(t, "two sandboxes are ready", bothReady(e))
	before := sandboxes(t)
	if len(before) != 2 {
		t.Fatalf("got sandboxes %v, wanted two", before)
	}
	job := task(`globalThis.mine = (globalThis.mine ?? 0) + 1; function handler() { return mine }`, nil)
	for range 3 {
		if output, err := e.Run(t.Context(), job); err != nil || string(output) != "1" {
			t.Fatalf("got %s, %v", output, err)
		}
		eventually(t, "two sandboxes are ready again", bothReady(e))
		after := sandboxes(t)
		stayed := slices.DeleteFunc(slices.Clone(after), func(pid int) bool { return !slices.Contains(before, pid) })
		if len(after) != 2 || len(stayed) != 1 {
			t.Fatalf("after an attempt there are %v, before it there were %v", after, before)
		}
		before = after
	}
}

func TestSandboxesThatDiedWhileTheyWaitedFailNobody(t *testing.T) {
	e := newExecutor(t)
	keepWarm(t, e, 2)
	eventually(t, "two sandboxes are ready", bothReady(e))
	for _, pid := range sandboxes(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if output, err := e.Run(t.Context(), task(`function handler() { return "alive" }`, nil)); err != nil || string(output) != `"alive"` {
		t.Fatalf("got %s, %v", output, err)
	}
	eventually(t, "two others are ready", bothReady(e))
	if now := sandboxes(t); len(now) != 2 {
		t.Fatalf("got sandboxes %v, wanted two", now)
	}
}

func TestWarmSandboxHasTheLimitsOfItsJob(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the limits of a process that hides itself are for root to read")
	}
	e := newExecutor(t)
	keepWarm(t, e, 1)
	var seen []uint64 // limits of memory
	for _, mb := range []uint64{64, 256} {
		eventually(t, "a sandbox is ready", func() bool { return len(e.scripts.idle) == 1 })
		s, err := e.scripts.take(t.Context(), limits(config{memoryMb: mb, timeout: 7 * time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", sandboxes(t)[0]))
		s.child.Close()
		e.scripts.replace(s)
		if err != nil {
			t.Fatal(err)
		}
		if limit := strings.Join(strings.Fields(string(text)), " "); !strings.Contains(limit, "Max cpu time 12 12 ") {
			t.Errorf("the CPU time is not limited to 12 s:\n%s", text)
		}
		var soft uint64
		_, data, _ := strings.Cut(string(text), "Max data size")
		if _, err := fmt.Sscan(data, &soft); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, soft)
	}
	if wide, slack := seen[1]-seen[0], uint64(16<<20); wide < 2*192<<20-slack || wide > 2*192<<20+slack {
		t.Errorf("limits of memory for 64 and 256 MiB: %d", seen)
	}
}

func TestWarmLeavesNoSandbox(t *testing.T) {
	e := newExecutor(t)
	ctx, cancel := context.WithCancel(t.Context())
	var warm sync.WaitGroup
	warm.Go(func() { e.Warm(ctx, 1000) })
	eventually(t, "as many as there may be", func() bool { return len(e.scripts.idle) == maxIdle })
	cancel()
	warm.Wait()
	if left := sandboxes(t); len(left) > 0 {
		t.Fatalf("sandboxes are left: %v", left)
	}
	if output, err := e.Run(t.Context(), task(`function handler() { return 1 }`, nil)); err != nil || string(output) != "1" {
		t.Fatalf("after the end: %s, %v", output, err)
	}
}
