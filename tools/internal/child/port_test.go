//go:build unix

package child

import "testing"

// Servers of several installations are given their ports before any of them listens.
func TestFreePortIsGivenOnce(t *testing.T) {
	given := map[int]bool{}
	for range 300 { // of 10,000, so that two would be the same in 99 of 100 runs
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if given[port] {
			t.Fatalf("%d was given twice", port)
		}
		given[port] = true
	}
}
