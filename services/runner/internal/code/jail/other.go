//go:build !linux || !(amd64 || arm64)

package jail

import "os"

// Child is a process in its jail.
type Child struct {
	Job    *os.File
	Result *os.File
}

// Start always gives ErrUnsupported on this system.
func Start(int, string, ...string) (*Child, error) { return nil, ErrUnsupported }

// Cell is a jail whose door is still open.
type Cell struct{}

// Enter always gives ErrUnsupported on this system.
func Enter() (Cell, error) { return Cell{}, ErrUnsupported }

// Close always gives ErrUnsupported on this system.
func (c Cell) Close(Limits) error { return ErrUnsupported }

// Kill does nothing: no child was ever started.
func (c *Child) Kill() {}

// Close does nothing: no child was ever started.
func (c *Child) Close() Exit { return Exit{} }

// Become always gives ErrUnsupported on this system.
func Become(Program) error { return ErrUnsupported }
