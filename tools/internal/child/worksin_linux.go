package child

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// worksIn tells whether a process has dir as its working folder. Where the kernel does not
// let us look, as root in a container without CAP_SYS_PTRACE, the program's name decides.
func worksIn(pid int, program, dir string) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	cwd, err := os.Readlink(proc + "/cwd")
	if os.IsPermission(err) {
		name, _ := os.ReadFile(proc + "/comm")
		return strings.TrimSpace(string(name)) == program
	}
	if full, err := filepath.EvalSymlinks(dir); err == nil {
		dir = full
	}
	return err == nil && cwd == dir
}
