// Package built makes the program that tests start, kill and look at from outside.
package built

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// CoverVariable names the folder where programs write which statements they ran; go test has a GOCOVERDIR of its own.
const CoverVariable = "TURBOCAT_COVER_DIR"

// Turbocat builds the program into dir, as `make build` does, and gives its path. When covered it counts the statements that it
// runs, and writes them into GOCOVERDIR when it ends.
func Turbocat(dir string, covered bool) (string, error) {
	program := filepath.Join(dir, "turbocat")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if covered {
		args = append(args, "-cover", "-coverpkg=turbocat.io/...")
	}
	out, err := exec.Command("go", append(args, "turbocat.io/tools/turbocat")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build turbocat: %w\n%s", err, out)
	}
	return program, nil
}
