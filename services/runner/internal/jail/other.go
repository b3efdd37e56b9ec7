//go:build !linux || !(amd64 || arm64)

package jail

import "os"

// Child is a process in its jail.
type Child struct {
	Job    *os.File
	Result *os.File
}

// Groups are control groups.
type Groups map[string]struct{}

// FindGroups finds none on this system.
func FindGroups() Groups { return nil }

// Host is how children stand among the processes of this host.
type Host struct {
	Nice   int
	Groups Groups
}

// Start always gives ErrUnsupported on this system.
func (Host) Start(string, ...string) (*Child, error) { return nil, ErrUnsupported }

// StartProgram always gives ErrUnsupported on this system.
func (Host) StartProgram(string, Program) (*Child, error) { return nil, ErrUnsupported }

// Bound does nothing: no child was ever started.
func (c *Child) Bound(uint64) error { return nil }

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
