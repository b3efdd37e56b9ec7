//go:build amd64 || arm64

package jail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// inmates are what a child of this test binary does, by its first argument.
var inmates = map[string]func(out io.Writer) error{
	"__look":       look,
	"__attempts":   attempts,
	"__files":      files,
	"__threads":    threads,
	"__spin":       spin,
	"__hang":       hang,
	"__stderr":     floodStderr,
	"__descriptor": descriptor,
	"__hoard":      hoard,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && inmates[os.Args[1]] != nil {
		if err := inmates[os.Args[1]](os.NewFile(resultFD, "result")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// enter takes an inmate all the way in.
func enter(limits Limits) error {
	cell, err := Enter()
	if err != nil {
		return err
	}
	return cell.Close(limits)
}

var roomy = Limits{Memory: 64 << 20, CPUSeconds: 10}

// answersOf runs an inmate to its end and gives the lines it wrote, by their first word.
func answersOf(t *testing.T, inmate string) map[string]string {
	t.Helper()
	child, err := Host{}.Start("/proc/self/exe", inmate)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	answers := map[string]string{}
	for lines := bufio.NewScanner(child.Result); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		answers[name] = value
	}
	if exit := child.Close(); exit.Reason != "exit status 0" {
		t.Fatalf("%s ended with %s after %v: %s", inmate, exit.Reason, answers, exit.Stderr)
	}
	return answers
}

func look(out io.Writer) error {
	fmt.Fprintln(out, "environment", strings.Join(os.Environ(), " "))
	groups, err := os.Getgroups()
	fmt.Fprintln(out, "identity", os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups)
	session, errSession := unix.Getsid(0)
	fmt.Fprintln(out, "session", session == os.Getpid() && unix.Getpgrp() == os.Getpid())
	if err := errors.Join(err, errSession, enter(roomy)); err != nil {
		return err
	}
	fmt.Fprintln(out, "entered")
	return nil
}

func TestChildStartsWithNothing(t *testing.T) {
	got := answersOf(t, "__look")
	if got["environment"] != strings.Join(environment, " ") {
		t.Errorf("environment: %q", got["environment"])
	}
	if os.Geteuid() == 0 && got["identity"] != "65534 65534 65534 65534 []" {
		t.Errorf("identity: %q", got["identity"])
	}
	if got["session"] != "true" {
		t.Error("the child has no session of its own")
	}
	if _, ok := got["entered"]; !ok {
		t.Error("the child did not enter")
	}
}

type attempt struct {
	name string
	call uintptr
	args [6]uintptr
}

func attempts(out io.Writer) error {
	if err := enter(roomy); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	memory := uintptr(unsafe.Pointer(&buffer[0]))
	passwd, err := unix.BytePtrFromString("/etc/passwd")
	if err != nil {
		return err
	}
	path := uintptr(unsafe.Pointer(passwd))
	const here = ^uintptr(99) // AT_FDCWD
	parent := uintptr(os.Getppid())
	self := uintptr(os.Getpid())
	for _, a := range []attempt{
		{"openat", unix.SYS_OPENAT, [6]uintptr{here, path}},
		{"openat2", unix.SYS_OPENAT2, [6]uintptr{here, path, memory, 24}},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [6]uintptr{here, memory}},
		{"fstatfs", unix.SYS_FSTATFS, [6]uintptr{0, memory}},
		{"statx", unix.SYS_STATX, [6]uintptr{here, path, 0, 0, memory}},
		{"readlinkat", unix.SYS_READLINKAT, [6]uintptr{here, path, memory, 4096}},
		{"getdents64", unix.SYS_GETDENTS64, [6]uintptr{0, memory, 4096}},
		{"unlinkat", unix.SYS_UNLINKAT, [6]uintptr{here, path}},
		{"mkdirat", unix.SYS_MKDIRAT, [6]uintptr{here, path}},
		{"chdir", unix.SYS_CHDIR, [6]uintptr{path}},
		{"chroot", unix.SYS_CHROOT, [6]uintptr{path}},
		{"mount", unix.SYS_MOUNT, [6]uintptr{path, path}},
		{"memfd_create", unix.SYS_MEMFD_CREATE, [6]uintptr{path}},
		{"dup", unix.SYS_DUP, [6]uintptr{0}},
		{"fcntl", unix.SYS_FCNTL, [6]uintptr{0, unix.F_GETFD}},
		{"ioctl", unix.SYS_IOCTL, [6]uintptr{0, unix.TIOCSTI, memory}},
		{"pipe2", unix.SYS_PIPE2, [6]uintptr{memory}},
		{"inotify_init1", unix.SYS_INOTIFY_INIT1, [6]uintptr{}},

		{"socket_inet", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}},
		{"socket_inet6", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET6, unix.SOCK_DGRAM}},
		{"socket_unix", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
		{"socket_netlink", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW}},
		{"socketpair", unix.SYS_SOCKETPAIR, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0, memory}},
		{"sendmsg", unix.SYS_SENDMSG, [6]uintptr{0, memory}},
		{"recvmsg", unix.SYS_RECVMSG, [6]uintptr{0, memory}},

		{"fork", unix.SYS_CLONE, [6]uintptr{uintptr(unix.SIGCHLD)}},
		{"new_user_namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}},
		{"new_mount_namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWNS | unix.CLONE_THREAD}},
		{"clone3", unix.SYS_CLONE3, [6]uintptr{memory, 88}},
		{"execve", unix.SYS_EXECVE, [6]uintptr{path}},
		{"execveat", unix.SYS_EXECVEAT, [6]uintptr{here, path}},
		{"unshare", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}},
		{"setns", unix.SYS_SETNS, [6]uintptr{0}},
		{"wait4", unix.SYS_WAIT4, [6]uintptr{^uintptr(0), 0, unix.WNOHANG}},

		{"kill_parent", unix.SYS_KILL, [6]uintptr{parent, 0}},
		{"kill_all", unix.SYS_KILL, [6]uintptr{^uintptr(0), 0}},
		{"tkill_parent", unix.SYS_TKILL, [6]uintptr{parent, 0}},
		{"tgkill_parent", unix.SYS_TGKILL, [6]uintptr{parent, parent, 0}},
		{"rt_sigqueueinfo", unix.SYS_RT_SIGQUEUEINFO, [6]uintptr{parent, 0, memory}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, [6]uintptr{parent}},
		{"pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, [6]uintptr{0}},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{0}},
		{"ptrace", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, parent}},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{parent, memory, 1, memory, 1}},
		{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, [6]uintptr{parent, memory, 1, memory, 1}},
		{"kcmp", unix.SYS_KCMP, [6]uintptr{self, parent}},

		{"prlimit64", unix.SYS_PRLIMIT64, [6]uintptr{0, unix.RLIMIT_DATA, 0, memory}},
		{"prctl", unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_DUMPABLE, 1}},
		{"seccomp", unix.SYS_SECCOMP, [6]uintptr{}},
		{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, [6]uintptr{0, 0, 1}},
		{"setuid", unix.SYS_SETUID, [6]uintptr{0}},
		{"capset", unix.SYS_CAPSET, [6]uintptr{memory, memory}},
		{"personality", unix.SYS_PERSONALITY, [6]uintptr{0xffffffff}},
		{"bpf", unix.SYS_BPF, [6]uintptr{0, memory, 8}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{memory}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{1, memory}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{}},
		{"keyctl", unix.SYS_KEYCTL, [6]uintptr{}},
		{"shmget", unix.SYS_SHMGET, [6]uintptr{0, 4096, 0o1600}},
		{"mq_open", unix.SYS_MQ_OPEN, [6]uintptr{path}},

		{"mmap_exec", unix.SYS_MMAP, [6]uintptr{0, 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANON, ^uintptr(0)}},
		{"mmap_shared", unix.SYS_MMAP, [6]uintptr{0, 4096, unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_ANON, ^uintptr(0)}},
		{"mprotect_exec", unix.SYS_MPROTECT, [6]uintptr{memory &^ 4095, 4096, unix.PROT_READ | unix.PROT_EXEC}},
		{"mremap", unix.SYS_MREMAP, [6]uintptr{memory &^ 4095, 4096, 8192}},
		{"call_of_the_future", 4095, [6]uintptr{}},
	} {
		got, _, errno := syscall.RawSyscall6(a.call, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
		if (a.name == "fork" || a.name == "new_user_namespace") && errno == 0 && got == 0 {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		fmt.Fprintln(out, a.name, unix.ErrnoName(errno))
	}
	fmt.Fprintln(out, "end")
	return nil
}

func TestJailRefusesEverythingElse(t *testing.T) {
	got := answersOf(t, "__attempts")
	if _, ok := got["end"]; !ok || len(got) < 60 {
		t.Fatalf("the attempts did not come to their end: %v", got)
	}
	delete(got, "end")
	if got["clone3"] != "ENOSYS" {
		t.Errorf("clone3: got %q, wanted ENOSYS, for glibc to fall back", got["clone3"])
	}
	delete(got, "clone3")
	for name, errno := range got {
		if errno != "EPERM" {
			t.Errorf("%s: got %q, wanted EPERM", name, errno)
		}
	}
}

func files(out io.Writer) error {
	if err := leaveFiles(); err != nil {
		return err
	}
	for _, path := range []string{"/etc/passwd", "/proc/self/environ", "/dev/null", "/"} {
		_, err := os.Open(path)
		fmt.Fprintln(out, path, errors.Is(err, unix.EACCES))
	}
	fmt.Fprintln(out, "create", errors.Is(os.WriteFile("/tmp/turbocat-escape", nil, 0o600), unix.EACCES))
	return nil
}

func TestLandlockAloneRefusesFiles(t *testing.T) {
	got := answersOf(t, "__files")
	if len(got) != 5 {
		t.Fatalf("got %v", got)
	}
	for path, denied := range got {
		if denied != "true" {
			t.Errorf("%s is not denied", path)
		}
	}
}

// threads tries from threads that are older and younger than the jail.
func threads(out io.Writer) error {
	const each = 4
	type answer struct{ name, errno string }
	answers := make(chan answer)
	locked := make(chan struct{})
	entered := make(chan struct{})
	try := func(name string) {
		_, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
		answers <- answer{name, unix.ErrnoName(errno)}
	}
	for i := range each {
		go func() {
			runtime.LockOSThread()
			locked <- struct{}{}
			<-entered
			try("old" + strconv.Itoa(i))
		}()
	}
	for range each {
		<-locked
	}
	if err := enter(roomy); err != nil {
		return err
	}
	close(entered)
	for i := range each {
		go func() {
			runtime.LockOSThread()
			try("new" + strconv.Itoa(i))
		}()
	}
	for range 2 * each {
		a := <-answers
		fmt.Fprintln(out, a.name, a.errno)
	}
	return nil
}

func TestAllThreadsAreInside(t *testing.T) {
	got := answersOf(t, "__threads")
	if len(got) != 8 {
		t.Fatalf("got %v", got)
	}
	for name, errno := range got {
		if errno != "EPERM" {
			t.Errorf("thread %s: got %q, wanted EPERM", name, errno)
		}
	}
}

func spin(io.Writer) error {
	if err := enter(Limits{Memory: 64 << 20, CPUSeconds: 1}); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n < 0 {
			n = 0
		}
	}
}

func TestCPUTimeIsLimited(t *testing.T) {
	child, err := Host{}.Start("/proc/self/exe", "__spin")
	if err != nil {
		t.Fatal(err)
	}
	// Its end ends the pipe; a child that is not limited is killed and told apart by its time.
	guard := time.AfterFunc(10*time.Second, child.Kill)
	_, _ = io.Copy(io.Discard, child.Result)
	if !guard.Stop() {
		t.Fatal("the child ran for 10 s with 1 s of CPU time")
	}
	if exit := child.Close(); !strings.HasPrefix(exit.Reason, "signal: ") {
		t.Fatalf("got %+v, wanted the end by a signal", exit)
	}
}

func hang(out io.Writer) error {
	if err := enter(roomy); err != nil {
		return err
	}
	fmt.Fprintln(out, "inside")
	for {
		<-time.After(time.Hour)
	}
}

func TestKernelSeesTheJail(t *testing.T) {
	child, err := Host{}.Start("/proc/self/exe", "__hang")
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if _, err := bufio.NewReader(child.Result).ReadString('\n'); err != nil {
		t.Fatalf("the child did not enter: %v, %+v", err, child.Close())
	}
	pid := child.cmd.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the status lacks %q", want)
		}
	}
	if os.Geteuid() == 0 {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Max file size 0 0 ", "Max core file size 0 0 ", "Max open files 16 16 ", "Max cpu time 10 10 "} {
			if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), want) {
				t.Errorf("the limits lack %q:\n%s", want, limits)
			}
		}
	}

	child.Kill()
	child.Kill()
	if exit := child.Close(); exit.Reason != "signal: killed" {
		t.Errorf("got %+v", exit)
	}
	if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the group is still there: %v", err)
	}
	child.Kill()
	child.Close()
}

func floodStderr(io.Writer) error {
	if err := enter(roomy); err != nil {
		return err
	}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 10_000 {
		if _, err := os.Stderr.Write(line); err != nil {
			return nil
		}
	}
	return nil
}

func TestStderrIsBounded(t *testing.T) {
	child, err := Host{}.Start("/proc/self/exe", "__stderr")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, child.Result)
	if exit := child.Close(); len(exit.Stderr) != maxStderr {
		t.Fatalf("got %d bytes, wanted %d", len(exit.Stderr), maxStderr)
	}
}

// leaked is a descriptor that a careless library left open to children.
const leaked = 11

func descriptor(out io.Writer) error {
	alive := func() bool {
		_, _, errno := syscall.RawSyscall(unix.SYS_READ, leaked, 0, 0)
		return errno == 0
	}
	fmt.Fprintln(out, "before", alive())
	if err := enter(roomy); err != nil {
		return err
	}
	fmt.Fprintln(out, "after", alive())
	return nil
}

func TestLeakedDescriptorsAreClosed(t *testing.T) {
	file, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := unix.FcntlInt(leaked, unix.F_GETFD, 0); err == nil {
		t.Fatalf("descriptor %d is in use", leaked)
	}
	if err := unix.Dup3(int(file.Fd()), leaked, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	got := answersOf(t, "__descriptor")
	if got["before"] != "true" || got["after"] != "false" {
		t.Fatalf("got %v", got)
	}
}

func TestStartOfNothing(t *testing.T) {
	if _, err := (Host{}).Start("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}
