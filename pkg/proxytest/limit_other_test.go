//go:build !linux

package proxytest

import (
	"net"
	"testing"
	"time"
)

func limit(*testing.T, net.Conn, time.Duration) {}
