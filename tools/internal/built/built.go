// Package built makes the program that tests start, kill and look at from outside.
package built

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Turbocat builds the program into dir, as `make build` does, and gives its path. Where GOCOVERDIR
// asks for it, the program counts which statements it runs.
func Turbocat(dir string) (string, error) {
	program := filepath.Join(dir, "turbocat")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=turbocat.io/...")
	}
	out, err := exec.Command("go", append(args, "turbocat.io/tools/turbocat")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build turbocat: %w\n%s", err, out)
	}
	return program, nil
}
