//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// profileOnSignal writes a CPU profile of what happens between one SIGUSR1 and the next into
// path, until ctx ends. Only bench asks for it: no service of Turbocat serves profiles.
func profileOnSignal(ctx context.Context, path string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		defer signal.Stop(signals)
		var out *os.File
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			if out != nil {
				pprof.StopCPUProfile()
				_ = out.Close()
				_ = os.Rename(out.Name(), path)
				out = nil
				continue
			}
			var err error
			if out, err = os.Create(path + ".part"); err == nil {
				err = pprof.StartCPUProfile(out)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "turbocat: no profile:", err)
				out = nil
			}
		}
	}()
}
