package proxytest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dropArriving makes the kernel throw away every packet for a socket before TCP sees it, or take them again. So the
// other side's packets are not even acknowledged, as when the network between is gone.
func dropArriving(socket syscall.Conn, drop bool) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		if !drop {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
			return
		}
		nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	if failed != nil {
		return failed
	}
	return err
}
