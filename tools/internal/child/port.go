//go:build unix

package child

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePort gives a loopback port that was free a moment ago, below those that outgoing connections take: while its server is
// down, a client's own connection must not get it. Another process may take it before its user does: who asks must be ready to
// ask again.
func FreePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(10000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port between 20000 and 30000 is free on loopback")
}
