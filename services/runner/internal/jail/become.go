//go:build linux && (amd64 || arm64)

package jail

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocked "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Become takes this process into a jail and makes it a program: of the file system that may read what p names and execute itself, of
// other processes, the network and writable files it has nothing. Without limits how much memory and processor time it may use it limits
// itself, before it reads anything of a job; more than it has then it can never have. Become returns only with an error, after which the
// process must end.
func Become(p Program) error {
	runtime.LockOSThread()
	if err := closeStrangers(); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	running, err := threadsOfHost()
	if err != nil {
		return fmt.Errorf("count the threads of the host: %w", err)
	}
	if p.Speaks {
		if err := unix.Dup3(resultFD, 1, 0); err != nil {
			return fmt.Errorf("have it answer on its standard output: %w", err)
		}
		unix.CloseOnExec(resultFD)
	}
	limits := []limit{
		{"core", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"descriptors", unix.RLIMIT_NOFILE, 64},
		{"stack", unix.RLIMIT_STACK, 8 << 20},
		// It counts the threads of all processes of the user, of whom the host may have any number.
		{"threads", unix.RLIMIT_NPROC, running + maxThreads},
	}
	if err := keepTo(limits); err != nil {
		return err
	}
	executables := []string{p.Path}
	if p.Loader != "" {
		executables = append(executables, p.Loader)
	}
	if err := leaveFiles(
		landlock.PathAccess(landlocked.AccessFSReadFile|landlocked.AccessFSExecute, executables...),
		landlock.PathAccess(landlocked.AccessFSReadFile|landlocked.AccessFSReadDir, p.Folders...),
		landlock.PathAccess(landlocked.AccessFSReadFile, p.Files...),
	); err != nil {
		return err
	}
	if err := leaveSyscalls(programCalls); err != nil {
		return err
	}
	if p.Limits.CPUSeconds > 0 { // last, for what is here now has other memory than what comes
		if err := keepTo([]limit{{"CPU time", unix.RLIMIT_CPU, p.Limits.CPUSeconds}, {"memory", unix.RLIMIT_DATA, p.Limits.Memory}}); err != nil {
			return err
		}
	}
	return fmt.Errorf("become %s: %w", p.Path, syscall.Exec(p.Path, p.Args, []string{"TZ=UTC"}))
}

// limit is one of a process.
type limit struct {
	name     string
	resource int
	value    uint64
}

// keepTo sets limits, which can not be raised again.
func keepTo(limits []limit) error {
	for _, l := range limits {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit the %s: %w", l.name, err)
		}
	}
	return nil
}

// maxThreads is how many threads a program may have more than there were on the host when it began.
const maxThreads = 256

// threadsOfHost gives how many threads there are, of whomever.
func threadsOfHost() (uint64, error) {
	raw, err := os.ReadFile("/proc/loadavg") // 0.20 0.18 0.12 1/80 11206
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "/")
	count, _, _ := strings.Cut(rest, " ")
	return strconv.ParseUint(count, 10, 64)
}
