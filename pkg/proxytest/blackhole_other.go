//go:build !linux

package proxytest

import (
	"errors"
	"syscall"
)

func dropArriving(syscall.Conn, bool) error { return errors.ErrUnsupported }
