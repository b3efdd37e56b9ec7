//go:build unix && !linux

package child

import "syscall"

// attributes can not tie the child's life to ours on these systems: a killed parent leaves
// the child running, and the next start names its pid.
func attributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
