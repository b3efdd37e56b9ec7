//go:build unix

package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// predecessorWait is how long a start waits for a killed predecessor's child.
const predecessorWait = 10 * time.Second

// releaseWait is how long a start waits for what a killed predecessor held. A child that it was just
// starting has copies of all its descriptors until the child's own program begins.
const releaseWait = time.Second

// AwaitRelease calls take until it gives something else than the error busy, for at most a second.
func AwaitRelease(busy error, take func() error) error {
	deadline := time.Now().Add(releaseWait)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for ; ; <-poll.C {
		err := take()
		if !errors.Is(err, busy) || time.Now().After(deadline) {
			return err
		}
	}
}

// AwaitPredecessor waits up to 10 s until the program that wrote pidFile, and works in dir, has
// ended; then it names the pid to stop. A missing or unreadable file means there is none.
func AwaitPredecessor(ctx context.Context, program, pidFile, dir string) error {
	pid, _ := ReadPID(pidFile)
	if pid == 0 {
		return nil
	}
	deadline := time.NewTimer(predecessorWait)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for Alive(pid) && worksIn(pid, program, dir) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("%s with the pid %d still works on %s; stop it with: kill %d", program, pid, dir, pid)
		case <-poll.C:
		}
	}
	return nil
}

// ReadPID gives the pid on the first line of a file and the text after it; 0 when there is none.
func ReadPID(file string) (pid int, rest string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, ""
	}
	first, rest, _ := strings.Cut(string(raw), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0, rest
	}
	return pid, rest
}

// Alive tells whether any process has the pid.
func Alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
