//go:build linux && (amd64 || arm64)

package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Groups are the control groups of this process in which each child can have one of its own, by controller; empty when there are none
// that it may write, as in most pods. They bound what the limits of a process do not count, and are gone with the child.
type Groups map[string]Group

// Group is a folder of a file system of control groups.
type Group struct {
	Folder  string
	Version int // 1 or 2
}

const (
	memoryController = "memory"
	pidsController   = "pids"
	// groupPrefix begins the names of the groups of children.
	groupPrefix = "turbocat-"
	// beyond is what a child may take beside the memory of its limits, which count less than the kernel does: when both count the
	// same, the code is to run into the limits, for then it is told.
	beyond = 64 << 20
	// groupThreads is how many threads a child may have.
	groupThreads = maxThreads
)

// FindGroups looks for control groups that this process may write, and removes what earlier ones have left in them.
func FindGroups() Groups {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	found := Groups{}
	for controller, group := range groupsOf(string(mounts), string(own)) {
		group.sweep()
		if group.serves(controller) {
			found[controller] = group
		}
	}
	return found
}

// groupsOf reads where this process stands, by controller, from its mountinfo and cgroup files; see cgroups(7) and proc_pid_mountinfo(5).
func groupsOf(mountinfo, cgroup string) Groups {
	paths := map[string]string{} // by controller; "" is version 2
	for _, line := range strings.Split(cgroup, "\n") {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 { // 4:memory:/a/b
			for _, controller := range strings.Split(fields[1], ",") {
				paths[controller] = fields[2]
			}
		}
	}
	found := Groups{}
	for _, line := range strings.Split(mountinfo, "\n") { // 36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
		before, after, _ := strings.Cut(line, " - ")
		at, of := strings.Fields(before), strings.Fields(after)
		if len(at) < 5 || len(of) < 3 {
			continue
		}
		within := func(own string) string { return filepath.Join(at[4], strings.TrimPrefix(own, path.Clean(at[3]))) }
		for _, controller := range []string{memoryController, pidsController} {
			_, has := found[controller]
			switch own, there := paths[controller]; {
			case of[0] == "cgroup" && there && slices.Contains(strings.Split(of[2], ","), controller):
				found[controller] = Group{within(own), 1}
			case of[0] == "cgroup2" && !there && !has:
				found[controller] = Group{within(paths[""]), 2}
			}
		}
	}
	return found
}

// sweep removes the groups of children of processes that are no more.
func (g Group) sweep() {
	left, _ := filepath.Glob(filepath.Join(g.Folder, groupPrefix+"*"))
	for _, folder := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), groupPrefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(unix.Kill(n, 0), unix.ESRCH) {
			_ = os.Remove(folder)
		}
	}
}

// serves tells whether a group with the controller can be made here. In version 2 that is so for who has none but itself in its own group:
// it then goes to one of its own, beside those of its children.
func (g Group) serves(controller string) bool {
	if g.Version == 2 && !g.delegates(controller) {
		return false
	}
	probe, err := g.make("probe")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(probe.Folder) }()
	return probe.limit(controller, beyond) == nil
}

func (g Group) delegates(controller string) bool {
	control := filepath.Join(g.Folder, "cgroup.subtree_control")
	if raw, err := os.ReadFile(control); err == nil && slices.Contains(strings.Fields(string(raw)), controller) {
		return true
	}
	enable := func() error { return os.WriteFile(control, []byte("+"+controller), 0) }
	if enable() == nil {
		return true
	}
	self := []byte(strconv.Itoa(os.Getpid()))
	own, err := g.make("runner")
	if err != nil || own.write("cgroup.procs", self) != nil || enable() == nil {
		return err == nil
	}
	// Others are in the group, too.
	if g.write("cgroup.procs", self) == nil {
		_ = os.Remove(own.Folder)
	}
	return false
}

func (g Group) make(name string) (Group, error) {
	made := Group{filepath.Join(g.Folder, groupPrefix+strconv.Itoa(os.Getpid())+"-"+name), g.Version}
	err := os.Mkdir(made.Folder, 0o755)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return made, err
}

func (g Group) write(file string, content []byte) error {
	return os.WriteFile(filepath.Join(g.Folder, file), content, 0)
}

// limit bounds what those in the group may use together: bytes of memory, or groupThreads threads.
func (g Group) limit(controller string, memory uint64) error {
	switch {
	case controller == pidsController:
		return g.write("pids.max", []byte(strconv.Itoa(groupThreads)))
	case g.Version == 1:
		err := g.write("memory.limit_in_bytes", strconv.AppendUint(nil, memory, 10))
		_ = g.write("memory.swappiness", []byte("0"))
		return err
	}
	_ = g.write("memory.swap.max", []byte("0")) // without swap there is no such file
	return g.write("memory.max", strconv.AppendUint(nil, memory, 10))
}

// killed tells whether the kernel has killed one of the group for want of memory.
func (g Group) killed() bool {
	file := "memory.events"
	if g.Version == 1 {
		file = "memory.oom_control"
	}
	raw, err := os.ReadFile(filepath.Join(g.Folder, file))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(raw) {
		if count, is := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); is {
			return string(count) != "0"
		}
	}
	return false
}

// made counts the groups of this process.
var made atomic.Uint64

// hold gives a child groups of its own, and takes what it has back when that fails.
func (gs Groups) hold(pid int) (Groups, error) {
	if len(gs) == 0 {
		return nil, nil
	}
	name, own := strconv.FormatUint(made.Add(1), 10), Groups{}
	for controller, group := range gs {
		g, err := group.make(name)
		if err == nil {
			own[controller] = g
			if err = g.write("cgroup.procs", []byte(strconv.Itoa(pid))); errors.Is(err, unix.ESRCH) {
				err = nil // it has ended, and tells why itself
			}
		}
		if err == nil && controller == pidsController {
			err = g.limit(controller, 0)
		}
		if err != nil {
			own.remove()
			return nil, fmt.Errorf("give the child a control group: %w", err)
		}
	}
	return own, nil
}

// bound bounds the memory of those in the groups.
func (gs Groups) bound(memory uint64) error {
	g, has := gs[memoryController]
	if !has {
		return nil
	}
	return g.limit(memoryController, memory+beyond)
}

// starved tells whether one in the groups was killed for want of memory.
func (gs Groups) starved() bool {
	g, has := gs[memoryController]
	return has && g.killed()
}

// remove removes groups in which nobody is any more. What is left the next runner sweeps away.
func (gs Groups) remove() {
	for _, g := range gs {
		_ = os.Remove(g.Folder)
	}
}
