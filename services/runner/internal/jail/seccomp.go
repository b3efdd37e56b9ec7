//go:build linux && (amd64 || arm64)

package jail

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowance is what system calls a process keeps. Everything else is refused with EPERM.
type allowance struct {
	calls    []uint32
	programs bool // it becomes a program, which loads libraries
}

// ownCalls are what the Go runtime needs to compute, sleep and move bytes over open pipes.
var ownCalls = allowance{calls: append([]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_RESTART_SYSCALL, unix.SYS_GETPID, unix.SYS_GETTID,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	unix.SYS_GETRANDOM, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}, archCalls...)}

// programCalls are what an interpreter needs beside: it reads the files that it may, and its event loop wakes itself over a pair of
// sockets. What may be executed is for Landlock to say.
var programCalls = allowance{programs: true, calls: slices.Concat(ownCalls.calls, archProgramCalls, []uint32{
	unix.SYS_EXECVE,
	unix.SYS_OPENAT, unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_LSEEK, unix.SYS_PREAD64, unix.SYS_READV, unix.SYS_WRITEV,
	unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_GETCWD,
	unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_PPOLL, unix.SYS_PSELECT6,
	unix.SYS_SENDTO, unix.SYS_RECVFROM,
	unix.SYS_MREMAP, unix.SYS_SET_TID_ADDRESS, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_CLOCK_GETRES,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETPPID,
})}

// Offsets in struct seccomp_data; of an argument, the low half.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16
)

const (
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
	kill   = uint32(unix.SECCOMP_RET_KILL_PROCESS)
	eperm  = uint32(unix.SECCOMP_RET_ERRNO | unix.EPERM)
	enosys = uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
)

// Numbers of ioctl that package unix has not (asm-generic/ioctls.h).
const fionbio, fionclex, fioclex = 0x5421, 0x5450, 0x5451

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// leaveSyscalls gives up all system calls but those allowed, and some uses of a few more.
func leaveSyscalls(kept allowance) error {
	filter := filter(uint32(os.Getpid()), kept)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// TSYNC: all threads or none. It gives the id of a thread that could not follow.
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("seccomp: thread %d did not take the filter", thread)
	}
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("seccomp: wanted a socket to be denied, got descriptor %d and error %w", fd, err)
	}
	return nil
}

// filter is the program that the kernel runs at each system call of the process pid.
func filter(pid uint32, kept allowance) []unix.SockFilter {
	prog := []unix.SockFilter{
		load(offsetArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jt: 1},
		answer(kill),
		load(offsetCall),
		// The second table of amd64 (x32) has the same calls under other numbers.
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 0x40000000, Jf: 1},
		answer(kill),
	}
	on := func(call uint32, then ...unix.SockFilter) {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: uint8(len(then))})
		prog = append(prog, then...)
	}
	for _, call := range kept.calls {
		on(call, answer(allow))
	}
	// Threads, but no processes and no namespaces. glibc falls back to clone.
	on(unix.SYS_CLONE,
		load(argument(0)),
		ifSet(namespaces), answer(eperm),
		ifSet(unix.CLONE_THREAD), answer(allow),
		answer(eperm))
	on(unix.SYS_CLONE3, answer(enosys))
	if kept.programs {
		// Its own limits, and a pair of sockets that reaches nobody else.
		on(unix.SYS_PRLIMIT64, oneOf(argument(0), 0)...)
		on(unix.SYS_SOCKETPAIR, oneOf(argument(0), unix.AF_UNIX)...)
		// Nothing by which a descriptor gets an owner, whom the kernel sends any signal when there is something to be read; and no larger pipes.
		on(unix.SYS_FCNTL, oneOf(argument(1), unix.F_DUPFD, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC)...)
		on(unix.SYS_IOCTL, oneOf(argument(1), unix.TCGETS, unix.TIOCGWINSZ, unix.TIOCINQ, fionbio, fionclex, fioclex)...)
		// Libraries are mapped to be executed, and nothing that can be written to.
		on(unix.SYS_MMAP,
			load(argument(3)), ifSet(unix.MAP_SHARED), answer(eperm),
			load(argument(2)), ifSet(unix.PROT_EXEC), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
			answer(allow),
			ifSet(unix.PROT_WRITE), answer(eperm),
			answer(allow))
	}
	// No code but the program's own; shared memory does not count against RLIMIT_DATA.
	on(unix.SYS_MMAP,
		load(argument(2)), ifSet(unix.PROT_EXEC), answer(eperm),
		load(argument(3)), ifSet(unix.MAP_SHARED), answer(eperm),
		answer(allow))
	on(unix.SYS_MPROTECT,
		load(argument(2)), ifSet(unix.PROT_EXEC), answer(eperm),
		answer(allow))
	// The scheduler interrupts its own threads.
	on(unix.SYS_TGKILL,
		load(argument(0)),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: pid, Jf: 1}, answer(allow),
		answer(eperm))
	return append(prog, answer(eperm))
}

// oneOf allows a call whose argument at an offset is one of values.
func oneOf(offset uint32, values ...uint32) []unix.SockFilter {
	prog := []unix.SockFilter{load(offset)}
	for _, value := range values {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: 1}, answer(allow))
	}
	return append(prog, answer(eperm))
}

func argument(i uint32) uint32 { return offsetArgs + 8*i }

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// ifSet skips the next instruction unless one of bits is set.
func ifSet(bits uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: bits, Jf: 1}
}

func answer(with uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with}
}
