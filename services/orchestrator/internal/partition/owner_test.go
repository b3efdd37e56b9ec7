package partition_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/partition"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

// Five orchestrators share; one is killed, then one stops, then one comes.
func TestPartitionsAreSharedFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, server := partitiontest.NewLedger([]byte("a secret of the tests")), partitiontest.NewJetStream()
		calm := func() partitiontest.Faults { return partitiontest.Faults{} }
		ctx, stopAll := context.WithCancel(t.Context())
		type process struct {
			*partitiontest.Process
			stop  context.CancelFunc
			ended chan struct{}
		}
		var all []process
		start := func() process {
			name := fmt.Sprintf("o%d", len(all))
			own, stop := context.WithCancel(ctx)
			p := process{partitiontest.NewProcess(name, partitiontest.NewChance(1), calm, calm, func(partitiontest.Incident) {}), stop, make(chan struct{})}
			all = append(all, p)
			go func() {
				defer close(p.ended)
				_ = partition.NewOwner(name, p.Ledger(ledger), p.Transport(server.Connect()), zerolog.Nop()).Run(own, make(chan struct{}))
			}()
			return p
		}
		defer func() {
			stopAll()
			for _, p := range all {
				<-p.ended
			}
		}()
		expect := func(what string, within time.Duration, owners int) {
			t.Helper()
			<-time.After(within)
			ps := make([]int, subject.Partitions)
			for p := range ps {
				ps[p] = p
			}
			positions, err := ledger.Positions(t.Context(), ps)
			if err != nil {
				t.Fatal(err)
			}
			held := map[string]int{}
			for _, p := range positions {
				held[p.Owner]++
			}
			least, most := subject.Partitions, 0
			for _, n := range held {
				least, most = min(least, n), max(most, n)
			}
			if len(held) != owners || most-least > 1 || held[""] > 0 {
				t.Errorf("%s: they hold %v", what, held)
			}
		}
		for range 4 {
			start()
		}
		killed := start()
		expect("five", 10*time.Second, 5)
		killed.Kill()
		expect("one is killed", 7*time.Second, 4) // its lease, and the next heartbeats
		all[1].stop()
		<-all[1].ended
		expect("one is stopped", 1500*time.Millisecond, 3)
		start()
		expect("one comes", 10*time.Second, 4)
	})
}
