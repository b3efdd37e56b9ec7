//go:build unix && !linux

package child

// worksIn can not be told on these systems: a living pid counts.
func worksIn(int, string, string) bool { return true }
