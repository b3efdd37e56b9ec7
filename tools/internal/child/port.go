//go:build unix

package child

import (
	"fmt"
	"net"
)

// FreePort gives a loopback port that was free a moment ago. Another process may take it
// before its user does: who asks must be ready to ask again.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("no free port on loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
