//go:build unix

package child

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
	}
	goleak.VerifyTestMain(m)
}

func shell(t *testing.T, dir, script string) (*Process, *os.File) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", script}, Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, Output: out, Orphan: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	return p, out
}

// said waits until the child has written text.
func said(t *testing.T, out *os.File, text string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if raw, _ := os.ReadFile(out.Name()); strings.Contains(string(raw), text) {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("the child never said %q", text)
}

func TestStop(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		grace  time.Duration
	}{
		"by its first signal":         {`trap 'exit 0' INT; echo up; while :; do sleep 0.01; done`, 10 * time.Second},
		"by the second one":           {`trap '' INT; trap 'exit 0' QUIT; echo up; while :; do sleep 0.01; done`, 100 * time.Millisecond},
		"by force, with its children": {`trap '' INT QUIT; echo up; sleep 60 & while :; do sleep 0.01; done`, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, out := shell(t, "/", tc.script)
			said(t, out, "up")
			p.Stop(tc.grace, syscall.SIGINT, syscall.SIGQUIT)
			select {
			case <-p.Done():
			default:
				t.Fatal("Stop returned before the child ended")
			}
			p.Stop(tc.grace, syscall.SIGINT) // again: returns at once
		})
	}
}

func TestStdin(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p, err := Start(Command{Path: "/bin/cat", Stdin: "hello", Dir: "/", Output: out})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if raw, _ := os.ReadFile(out.Name()); string(raw) != "hello" || p.Err() != nil {
		t.Fatalf("read %q, ended with %v", raw, p.Err())
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	_, err := Start(Command{Path: "/nowhere/server", Dir: "/"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/server") {
		t.Fatalf("got %v", err)
	}
}

func TestReach(t *testing.T) {
	top := t.TempDir()
	// Only what is below top counts: what is above belongs to the machine.
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{"open", 0o711}, {"open/shut", 0o700}, {"open/shut/inner", 0o755}} {
		p := filepath.Join(top, d.path)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Chmod(p, 0o755) }()
	}
	if err := os.Chmod(filepath.Join(top, "open/shut"), 0o700); err != nil {
		t.Fatal(err)
	}
	stranger, owner := &Account{Name: "stranger", UID: 54321, GID: 54321}, &Account{Name: "owner", UID: os.Getuid(), GID: os.Getgid()}

	inner, err := filepath.EvalSymlinks(filepath.Join(top, "open/shut/inner"))
	if err != nil {
		t.Fatal(err)
	}
	barred, err := stranger.Reach(inner)
	if err != nil || barred == "" || !strings.HasPrefix(inner, barred) {
		t.Errorf("stranger: barred at %q, %v", barred, err)
	}
	barred, err = owner.Reach(inner)
	if err != nil || strings.HasPrefix(barred, filepath.Dir(filepath.Dir(inner))) {
		t.Errorf("owner: barred at %q, %v", barred, err)
	}
	var ourselves *Account
	if barred, err := ourselves.Reach("/nowhere"); barred != "" || err != nil {
		t.Errorf("ourselves: barred at %q, %v", barred, err)
	}
	if _, err := stranger.Reach(filepath.Join(top, "missing")); err == nil {
		t.Error("a missing folder was called reachable")
	}
}

func writePID(t *testing.T, pid int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(file, []byte(strconv.Itoa(pid)+"\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAwaitPredecessor(t *testing.T) {
	dir := t.TempDir()

	t.Run("names one that stays", func(t *testing.T) {
		p, out := shell(t, dir, "echo up; exec sleep 60")
		said(t, out, "up")
		file := writePID(t, p.PID())
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			err := AwaitPredecessor(t.Context(), "sleep", file, dir)
			if err == nil || !strings.Contains(err.Error(), "kill "+strconv.Itoa(p.PID())) {
				t.Errorf("got %v", err)
			}
			if waited := time.Since(begin); waited != predecessorWait {
				t.Errorf("waited %s", waited)
			}
		})
	})
	t.Run("waits for one that ends", func(t *testing.T) {
		p, out := shell(t, dir, "echo up; sleep 0.2")
		said(t, out, "up")
		if err := AwaitPredecessor(t.Context(), "sh", writePID(t, p.PID()), dir); err != nil {
			t.Fatal(err)
		}
		if Alive(p.PID()) {
			select {
			case <-p.Done():
			case <-time.After(time.Second):
				t.Fatal("it still lives")
			}
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		p, out := shell(t, dir, "echo up; exec sleep 60")
		said(t, out, "up")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := AwaitPredecessor(ctx, "sleep", writePID(t, p.PID()), dir); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("passes by another program with its pid", func(t *testing.T) {
		if err := AwaitPredecessor(t.Context(), "postgres", writePID(t, os.Getpid()), dir); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("needs no file", func(t *testing.T) {
		if err := AwaitPredecessor(t.Context(), "postgres", filepath.Join(dir, "none"), dir); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAwaitRelease(t *testing.T) {
	for name, c := range map[string]struct {
		busy  int // times
		end   error
		want  error
		takes time.Duration
	}{
		"free":           {0, nil, nil, 0},
		"free soon":      {5, nil, nil, 100 * time.Millisecond},
		"another error":  {1, syscall.EACCES, syscall.EACCES, 20 * time.Millisecond},
		"another's":      {1000, nil, syscall.EADDRINUSE, releaseWait + 20*time.Millisecond},
		"refused anyway": {0, syscall.EACCES, syscall.EACCES, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, calls := time.Now(), 0
				err := AwaitRelease(syscall.EADDRINUSE, func() error {
					if calls++; calls <= c.busy {
						return os.NewSyscallError("bind", syscall.EADDRINUSE)
					}
					return c.end
				})
				if !errors.Is(err, c.want) || time.Since(began) != c.takes {
					t.Errorf("%v after %s, want %v after %s", err, time.Since(began), c.want, c.takes)
				}
			})
		})
	}
}
