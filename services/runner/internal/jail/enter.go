//go:build linux && (amd64 || arm64)

package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// Cell is a jail whose door is still open: this process has given up all but what Close takes.
type Cell struct {
	dataInUse uint64 // at Enter
}

// Enter takes this process and all of its threads into a jail: of other processes and of the
// file system nothing is left. After an error the process must end without having read anything.
func Enter() (Cell, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := closeStrangers(); err != nil {
		return Cell{}, fmt.Errorf("close inherited descriptors: %w", err)
	}
	inUse, err := dataInUse()
	if err != nil {
		return Cell{}, fmt.Errorf("read the memory in use: %w", err)
	}
	if err := leaveFiles(); err != nil {
		return Cell{}, err
	}
	// Other processes of the same user can neither trace this one nor read its memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return Cell{}, fmt.Errorf("hide from other processes: %w", err)
	}
	return Cell{dataInUse: inUse}, nil
}

// Close closes the jail. After nil there is no way out; after an error the process must end
// without having read anything more. Limits can be set once: even to lower them is refused then.
func (c Cell) Close(limits Limits) error {
	if err := c.setLimits(limits); err != nil {
		return err
	}
	return leaveSyscalls(ownCalls)
}

// closeStrangers closes what leaked into this process from others: all but the four
// descriptors of a child and what the Go scheduler polls with.
func closeStrangers() error {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= resultFD {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // the one ReadDir had
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(target, "anon_inode:[event") { // eventpoll and eventfd
			continue
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

func (c Cell) setLimits(limits Limits) error {
	return keepTo([]limit{
		{"core", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"descriptors", unix.RLIMIT_NOFILE, 16},
		{"CPU time", unix.RLIMIT_CPU, limits.CPUSeconds},
		// Not the address space: Go reserves gigabytes of it and uses little.
		{"memory", unix.RLIMIT_DATA, c.dataInUse + limits.Memory},
	})
}

// dataInUse gives the bytes that count against RLIMIT_DATA.
func dataInUse() (uint64, error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 6 {
		return 0, fmt.Errorf("statm has %d fields, wanted 6", len(fields))
	}
	pages, err := strconv.ParseUint(fields[5], 10, 64)
	return pages * uint64(os.Getpagesize()), err
}

// leaveFiles gives up the file system, but for what the rules say, and TCP. The scopes of later Landlock versions are
// left out: on some kernels they keep threads of one process from signalling each other,
// and the filter of system calls covers them.
func leaveFiles(but ...landlock.Rule) error {
	if err := landlock.V5.BestEffort().Restrict(but...); err != nil {
		return fmt.Errorf("Landlock: %w", err)
	}
	// Best effort may have been none.
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return errors.New("Landlock is missing in this kernel or not enabled at boot")
	}
	if !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("Landlock: wanted the root folder to be denied, got: %w", err)
	}
	return nil
}
