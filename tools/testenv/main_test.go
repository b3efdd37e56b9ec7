//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelled runs a shell script within the environment; its temporary folders stand below the returned one.
func shelled(t *testing.T, ctx context.Context, script string) (code int, left []os.DirEntry, err error) {
	t.Helper()
	top, err := os.MkdirTemp("", "testenv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	if err := os.Chmod(top, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", top)
	code, err = within(ctx, []string{"/bin/sh", "-c", script})
	left, rerr := os.ReadDir(top)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return code, left, err
}

func TestCommandSeesServersAndGivesItsCode(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	code, left, err := shelled(t, t.Context(), `echo "$TURBOCAT_TEST_DATABASE_URL $TURBOCAT_TEST_REDIS_URL $REQUIRE_INTEGRATION" > `+out+`; exit 7`)
	if err != nil || code != 7 {
		t.Fatalf("code %d, %v", code, err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Fields(string(raw))
	if len(said) != 3 || !strings.HasPrefix(said[0], "postgres://") || !strings.HasPrefix(said[1], "redis://") || said[2] != "1" {
		t.Errorf("the command saw %q", said)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSignalEndsTheCommandAndCleansUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	up := filepath.Join(t.TempDir(), "up")
	go func() {
		for {
			if _, err := os.Stat(up); err == nil {
				cancel()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	// Like go test, the shell passes no signal on to what it runs.
	_, left, err := shelled(t, ctx, `touch `+up+`; sleep 600; exit 0`)
	if err == nil {
		t.Error("no error")
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnknownCommand(t *testing.T) {
	if _, err := command(t.Context(), []string{"/nowhere/command"}, nil); err == nil || !strings.Contains(err.Error(), "/nowhere/command") {
		t.Errorf("got %v", err)
	}
	if code := run(nil); code != 2 {
		t.Errorf("code %d without a command", code)
	}
}
