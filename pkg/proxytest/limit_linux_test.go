package proxytest

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limit bounds how long the kernel waits for an acknowledgement.
func limit(t *testing.T, c net.Conn, within time.Duration) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(within.Milliseconds()))
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
