// Command fuzz runs every fuzz target of the workspace, one after the other, each for a while, and stops at
// the first failure with the command that repeats it.
//
//	go run ./tools/fuzz [-time 10s] [folder...]
//
// Folders narrow the targets to those below them. It is run in the folder of go.work.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, complaints io.Writer) int {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.SetOutput(complaints)
	each := flags.Duration("time", 10*time.Second, "how long each target runs")
	if flags.Parse(args) != nil {
		return 2
	}
	if *each <= 0 {
		_, _ = fmt.Fprintln(complaints, "fuzz: -time must be more than nothing, like 10s")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := fuzz(ctx, ".", *each, flags.Args(), out); err != nil {
		_, _ = fmt.Fprintln(complaints, "fuzz:", err)
		return 1
	}
	return 0
}

// fuzz runs the targets below root, those in the given folders alone when there are any.
func fuzz(ctx context.Context, root string, each time.Duration, folders []string, out io.Writer) error {
	targets, err := find(root, folders)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target below %s", root)
	}
	for _, t := range targets {
		executions, err := t.fuzz(ctx, root, each)
		if ctx.Err() != nil {
			return fmt.Errorf("stopped at %s", t)
		}
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%-70s %12d executions\n", t, executions)
	}
	return nil
}
