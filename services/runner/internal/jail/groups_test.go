//go:build linux && (amd64 || arm64)

package jail

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestGroupsOf(t *testing.T) {
	t.Parallel()
	const (
		v1     = "36 35 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n37 35 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
		v2     = "40 35 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		bound  = "41 35 0:33 /kubepods/a /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n"
		broken = "\n1 2 3\n36 35 0:30 / /sys - cgroup\n - - -\n"
	)
	for name, c := range map[string]struct {
		mounts, own string
		want        Groups
	}{
		"version 1": {v1, "4:memory:/a/b\n8:pids:/\n", Groups{"memory": {"/sys/fs/cgroup/memory/a/b", 1}, "pids": {"/sys/fs/cgroup/pids", 1}}},
		"both":      {v2 + v1, "4:memory:/a\n0::/user.slice\n", Groups{"memory": {"/sys/fs/cgroup/memory/a", 1}, "pids": {"/sys/fs/cgroup/unified/user.slice", 2}}},
		"version 2": {v2, "0::/system.slice/turbocat.service\n", Groups{
			"memory": {"/sys/fs/cgroup/unified/system.slice/turbocat.service", 2}, "pids": {"/sys/fs/cgroup/unified/system.slice/turbocat.service", 2},
		}},
		"container": {bound, "0::/kubepods/a/b\n", Groups{"memory": {"/sys/fs/cgroup/b", 2}, "pids": {"/sys/fs/cgroup/b", 2}}},
		"nothing":   {broken, "x\n0:\n", Groups{}},
	} {
		if got := groupsOf(c.mounts, c.own); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// hoard takes memory that the limits of a process do not count, as much as the first line of the job says.
func hoard(out io.Writer) error {
	var size int
	if _, err := fmt.Fscan(os.Stdin, &size); err != nil {
		return err
	}
	taken, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(taken); i += os.Getpagesize() {
		taken[i] = 1
	}
	_, err = fmt.Fprintln(out, "taken")
	return err
}

// TestGroups bounds children by control groups, where this process may write any; which it has stands in the log.
func TestGroups(t *testing.T) {
	groups := FindGroups()
	t.Logf("control groups: %v", groups)
	for controller, g := range groups {
		gone := exec.CommandContext(t.Context(), "/bin/true")
		if err := gone.Run(); err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(g.Folder, groupPrefix+strconv.Itoa(gone.Process.Pid)+"-1")
		kept := filepath.Join(g.Folder, groupPrefix+strconv.Itoa(os.Getpid())+"-kept")
		for _, folder := range []string{left, kept} {
			if err := os.Mkdir(folder, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		FindGroups()
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Errorf("%s: the group of a process that is no more stays: %v", controller, err)
		}
		if err := os.Remove(kept); err != nil {
			t.Errorf("%s: the group of a process that lives is removed: %v", controller, err)
		}
	}
	for _, c := range []struct {
		size    int
		starves bool
	}{{32 << 20, false}, {256 << 20, true}} {
		child, err := Host{Groups: groups}.Start("/proc/self/exe", "__hoard")
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Bound(16 << 20); err != nil {
			t.Fatal(err)
		}
		var folders []string
		for controller, g := range child.groups {
			folders = append(folders, g.Folder)
			raw, err := os.ReadFile(filepath.Join(g.Folder, "cgroup.procs"))
			if err != nil || strings.TrimSpace(string(raw)) != strconv.Itoa(child.cmd.Process.Pid) {
				t.Errorf("in the group of %s stand %q: %v", controller, raw, err)
			}
			if threads, err := os.ReadFile(filepath.Join(g.Folder, "pids.max")); controller == pidsController && (err != nil || strings.TrimSpace(string(threads)) != strconv.Itoa(groupThreads)) {
				t.Errorf("threads are bounded by %q: %v", threads, err)
			}
		}
		_, _ = fmt.Fprintln(child.Job, c.size)
		said, err := io.ReadAll(child.Result)
		exit := child.Close()
		starves := c.starves && len(groups[memoryController].Folder) > 0
		if err != nil || exit.Starved != starves || (string(said) == "taken\n") == starves {
			t.Errorf("%d bytes: it says %q, %v, and ends with %+v", c.size, said, err, exit)
		}
		for over := time.Now().Add(10 * time.Second); len(folders) > 0; {
			if _, err := os.Stat(folders[0]); os.IsNotExist(err) {
				folders = folders[1:]
			} else if time.Now().After(over) {
				t.Fatalf("%v are there", folders)
			}
		}
	}
}
