//go:build unix

// Command testenv runs a command, usually go test, beside a PostgreSQL and a Redis of its own, and removes
// both afterwards:
//
//	go run ./tools/testenv -- go test ./pkg/...
//
// The command finds them in TURBOCAT_TEST_DATABASE_URL (a superuser's) and TURBOCAT_TEST_REDIS_URL; with
// REQUIRE_INTEGRATION=1 a test that lacks them fails instead of being skipped. The exit code is the command's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"turbocat.io/pkg/service"
	"turbocat.io/tools/internal/pginstall"
	"turbocat.io/tools/internal/postgresd"
	"turbocat.io/tools/internal/redisd"
)

// endGrace is what the command gets to end after a signal.
const endGrace = 10 * time.Second

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "testenv: name the command to run, for instance: testenv -- go test ./...")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code, err := within(ctx, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	return code
}

// within runs the command between the start and the end of its servers.
func within(ctx context.Context, args []string) (code int, err error) {
	install, err := pginstall.FromEnviron(service.Environ())
	if err != nil {
		return 0, err
	}
	install.Say = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "testenv: "+format+"\n", args...) }
	binaries, err := pginstall.Ensure(ctx, install)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "turbocat-test-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the database's user passes through
		return 0, err
	}
	pg, err := postgresd.Start(ctx, postgresd.Options{Dir: filepath.Join(dir, "postgres"), Binaries: binaries, NoFsync: true})
	if err != nil {
		return 0, err
	}
	defer pg.Stop()
	redis, err := redisd.Start(ctx, filepath.Join(dir, "redis"))
	if err != nil {
		return 0, err
	}
	defer redis.Stop()
	return command(ctx, args, []string{
		"TURBOCAT_TEST_DATABASE_URL=" + pg.URL(),
		"TURBOCAT_TEST_REDIS_URL=" + redis.URL(),
		"REQUIRE_INTEGRATION=1",
	})
}

// command runs args in a process group, so that a signal to us ends all of its processes: go test
// does not pass signals on to the tests it runs.
func command(ctx context.Context, args, environ []string) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(cmd.Environ(), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%s can not be run: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case err = <-ended:
		case <-time.After(endGrace):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if err == nil {
			err = errors.New("interrupted")
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	case err != nil:
		return 0, fmt.Errorf("%s: %w", args[0], err)
	default:
		return 0, nil
	}
}
