package built

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ClockVariable says by how many seconds the wall clock of a program of SkewedTurbocat is ahead; negative: behind.
const ClockVariable = "CHAOS_CLOCK_SECONDS"

const (
	readsClock = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	skewSource = `package time

import "syscall"

var skew = readSkew()

func readSkew() (n int64) {
	text, _ := syscall.Getenv("` + ClockVariable + `")
	for i := 0; i < len(text); i++ {
		if text[i] >= '0' && text[i] <= '9' {
			n = n*10 + int64(text[i]-'0')
		}
	}
	if len(text) > 0 && text[0] == '-' {
		n = -n
	}
	return n
}
`
)

// SkewedTurbocat builds the program into dir with another wall clock, and gives its path. The clock is changed under the program, in Go's
// package time, so that it needs no hook for that; the monotonic one, which timers go by, is the machine's.
func SkewedTurbocat(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	if strings.Count(string(source), readsClock) != 1 {
		return "", errors.New("package time of this Go reads the clock in another way; change the text that is looked for")
	}
	skewed := strings.Replace(string(source), readsClock, readsClock+"\tsec += skew\n", 1)
	overlay := map[string]map[string]string{"Replace": {}}
	for name, text := range map[string]string{"time.go": skewed, "skew.go": skewSource} {
		file := filepath.Join(dir, "overlay-"+name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay["Replace"][filepath.Join(std, name)] = file
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "turbocat-skewed")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-buildvcs=false", "-overlay", list, "-o", program, "turbocat.io/tools/turbocat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build turbocat with another clock: %w\n%s", err, out)
	}
	return program, nil
}
