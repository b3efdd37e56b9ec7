// Package jail starts child processes that can do nothing but compute, and talk over the
// pipes they were given. The operating system is the boundary, not the program inside:
// Start gives a child with its own session, no environment, no descriptors and, under
// root, no privileges. The child calls Enter, by which it gives up the file system, and,
// before it reads anything of the job, Cell.Close, by which it gives up the network, other
// processes and all memory and CPU time above its limits, for good. Between the two it may
// wait as long as it likes, so that it is there when a job comes.
package jail

import "errors"

// ErrUnsupported says that this system has no jail.
var ErrUnsupported = errors.New("a jail needs Linux on amd64 or arm64, with Landlock and seccomp")

// Limits are what a jailed process may use from Cell.Close on.
type Limits struct {
	Memory     uint64 // bytes beside those in use at Enter
	CPUSeconds uint64 // from the start of the process
}

// Exit is how a child ended.
type Exit struct {
	Reason string // "exit status 2", "signal: killed"
	Stderr string // the first 16 KiB of it
	// Starved tells that the kernel has killed it because its control group had no memory left.
	Starved bool
}
