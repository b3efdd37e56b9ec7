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
	numbers    string // what else was measured
	result     string
	took       time.Duration
	test       string // that runs it
}

// replay is the command that repeats the check.
func (r row) replay() string {
	size := ""
	if !full {
		size = " SIZE=small"
	}
	return fmt.Sprintf("make chaos RUN=%s SEED=%d%s", r.test, r.seed, size)
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
	text.WriteString("| check | load | faults injected | executions | calls | numbers | promises | duration | again |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, one := range r.all {
		fmt.Fprintf(&text, "| %s | %s | %s | %d | %d | %s | %s | %.0f s | `%s` |\n", one.check, one.load, one.faults, one.executions, one.calls, one.numbers, one.result, one.took.Seconds(), one.replay())
	}
	fmt.Print(text.String())
	if file := os.Getenv("TURBOCAT_CHAOS_REPORT"); full && file != "" {
		return os.WriteFile(file, []byte(text.String()), 0o644)
	}
	return nil
}
