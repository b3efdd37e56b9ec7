//go:build unix

package postgresd

import (
	"io"
	"os"
	"regexp"
	"strings"
)

var severity = regexp.MustCompile(`(?:FATAL|PANIC|initdb: error|ERROR):\s+(.*)`)

// complaint gives the last fatal message of a log file, or its last line when there is none.
func complaint(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return "it left no log"
	}
	defer func() { _ = f.Close() }()
	const tail = 16 << 10
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		_, _ = f.Seek(-tail, io.SeekEnd)
	}
	raw, _ := io.ReadAll(f)
	return lastComplaint(string(raw))
}

func lastComplaint(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if m := severity.FindStringSubmatch(lines[i]); m != nil {
			return strings.TrimSpace(m[1])
		}
	}
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return "it said nothing"
}
