package partitiontest

import (
	"os"
	"strconv"
	"testing"
)

// Seeds gives the seeds that a test of chance runs: the one of TURBOCAT_SIM_SEED, which is to be
// shown in full, else those from 1 to TURBOCAT_SIM_SEEDS, or to usual.
func Seeds(t *testing.T, usual int) (seeds []uint64, one bool) {
	t.Helper()
	if seed, ok := fromEnvironment(t, "TURBOCAT_SIM_SEED"); ok {
		return []uint64{seed}, true
	}
	n, ok := fromEnvironment(t, "TURBOCAT_SIM_SEEDS")
	if !ok {
		n = uint64(usual)
	}
	for seed := uint64(1); seed <= n; seed++ {
		seeds = append(seeds, seed)
	}
	return seeds, false
}

func fromEnvironment(t *testing.T, name string) (n uint64, given bool) {
	t.Helper()
	text := os.Getenv(name) //nolint:forbidigo // what tests stand on is configured by the environment alone
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}
