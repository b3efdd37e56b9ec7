//go:build unix

package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// row is the outcome of one check.
type row struct {
	check      string
	seed       uint64
	load       string
	faults     string
	executions int
	calls      int
	result     string
	took       time.Duration
}

// rows are those of all checks so far. They are safe for concurrent use.
type rows struct {
	mu  sync.Mutex
	all []row
}

func (r *rows) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

// report prints the table, and in full size writes it to the file that TURBOCAT_CHAOS_REPORT names.
func (r *rows) report() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return nil
	}
	slices.SortFunc(r.all, func(a, b row) int { return strings.Compare(a.check, b.check) })
	text := strings.Builder{}
	text.WriteString("| check | seed | load | faults injected | executions | calls | result | duration |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, one := range r.all {
		fmt.Fprintf(&text, "| %s | %d | %s | %s | %d | %d | %s | %.0f s |\n", one.check, one.seed, one.load, one.faults, one.executions, one.calls, one.result, one.took.Seconds())
	}
	fmt.Print(text.String())
	if file := os.Getenv("TURBOCAT_CHAOS_REPORT"); full && file != "" {
		return os.WriteFile(file, []byte(text.String()), 0o644)
	}
	return nil
}
