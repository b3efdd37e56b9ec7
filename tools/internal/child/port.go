//go:build unix

package child

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// FreePort gives a loopback port that is free and that no other call gets while this process lives. It is below those that
// outgoing connections take: while its server is down, a client's own connection must not get it. A process that picks its
// ports in another way may take it before its user does: who can ask again then should.
func FreePort() (int, error) {
	for range 1000 {
		port := 20000 + rand.IntN(10000)
		if claim(port) != nil {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port between 20000 and 30000 is free on loopback")
}

// claim binds UDP's port of the same number, which nobody here uses otherwise, for as long as this process lives. A claim on
// paper would outlive a process that is killed.
func claim(port int) error {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return errors.Join(err, syscall.Close(fd))
	}
	return nil
}
