// Package built makes the program that tests start, kill and look at from outside.
package built

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Turbocat builds the program into dir, as `make build` does, and gives its path. With TURBOCAT_COVER_DIR it counts the
// statements that it runs, and everything that is started from here on writes them there.
func Turbocat(dir string) (string, error) {
	program := filepath.Join(dir, "turbocat")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if covered := os.Getenv("TURBOCAT_COVER_DIR"); covered != "" {
		args = append(args, "-cover", "-coverpkg=turbocat.io/...")
		if err := os.Setenv("GOCOVERDIR", covered); err != nil { // go test has one of its own there
			return "", err
		}
	}
	out, err := exec.Command("go", append(args, "turbocat.io/tools/turbocat")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build turbocat: %w\n%s", err, out)
	}
	return program, nil
}
