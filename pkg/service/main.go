package service

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main runs one service as a process of its own, configured by the environment, until
// SIGINT or SIGTERM. It returns the exit code.
func Main(unit Unit) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := unit.Run(ctx, Environ(), os.Stderr, func() {}); err != nil {
		fmt.Fprintln(os.Stderr, "turbocat:", err)
		return 1
	}
	return 0
}

// Environ is the process's environment as a map.
func Environ() map[string]string {
	m := map[string]string{}
	for _, kv := range os.Environ() {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return m
}
