//go:build unix

// Command turbocat is Turbocat's command line: the whole installation in one process, each of its services
// alone, and what is needed to operate them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"turbocat.io/pkg/service"
	"turbocat.io/services/runner"
	"turbocat.io/tools/internal/bench"
)

func main() {
	// User code runs in a process of this binary; it must see nothing that is set up below.
	runner.SandboxMain()
	os.Exit(execute())
}

// gcPercent lets the heap grow further before it is collected than Go's default: what lives
// in it is small beside what passes through.
const gcPercent = 300

func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A second signal ends at once.
	context.AfterFunc(ctx, stop)
	environ := service.Environ()
	if environ["GOGC"] == "" {
		debug.SetGCPercent(gcPercent)
	}
	if path := environ[bench.ProfileVariable]; path != "" {
		profileOnSignal(ctx, path)
	}
	err := newRoot(environ).ExecuteContext(ctx)
	var told exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &told):
		return int(told)
	default:
		fmt.Fprintln(os.Stderr, "turbocat:", err)
		return 1
	}
}

// exit is a fault that the user was told of already, with the exit code.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// isTerminal tells whether a person looks at f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
