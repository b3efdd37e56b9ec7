package partitiontest

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

func TestChanceGoesByWhatItIsFor(t *testing.T) {
	draws := func(c *Chance, about string) []uint64 {
		return []uint64{c.Draw(about).Uint64(), c.Draw(about).Uint64()}
	}
	one, two := NewChance(7), NewChance(7)
	_ = draws(two, "other")
	if a, b := draws(one, "x"), draws(two, "x"); !slices.Equal(a, b) || a[0] == a[1] {
		t.Errorf("drawn %v and %v", a, b)
	}
	if a, b := NewChance(8).Draw("x").Uint64(), NewChance(7).Draw("x").Uint64(); a == b {
		t.Error("another seed draws the same")
	}
	if one.Same("x").Uint64() != one.Same("x").Uint64() || one.Same("x").Uint64() == one.Same("y").Uint64() {
		t.Error("what is the same is not, or what is not is")
	}
}

// process makes a process whose calls all fare like f, and everything that it is connected to.
func process(f Faults) (p *Process, ledger *Ledger, server *JetStream) {
	ledger, server = NewLedger([]byte("a secret of the tests")), NewJetStream()
	faults := func() Faults { return f }
	p = NewProcess("p", NewChance(1), faults, faults, func(Incident) {})
	_, _ = server.Connect().Ensure(context.Background())
	return p, ledger, server
}

func TestCallsToTheLedger(t *testing.T) {
	for name, tc := range map[string]struct {
		faults      Faults
		fails, done bool
	}{
		"nothing":   {Faults{}, false, true},
		"fail":      {Faults{Fail: 1}, true, false},
		"lose":      {Faults{Lose: 1}, true, true},
		"slow":      {Faults{Slow: 1, SlowBy: time.Minute}, false, true},
		"of others": {Faults{Drop: 1, Late: 1, Twice: 1}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, ledger, _ := process(tc.faults)
				begin := time.Now()
				_, err := p.Ledger(ledger).Acquire(t.Context(), "o", time.Hour, 1)
				if (err != nil) != tc.fails || err != nil && errs.CodeOf(err) != errs.DependencyUnavailable {
					t.Errorf("error %v", err)
				}
				if took := time.Since(begin); took > time.Second != (name == "slow") {
					t.Errorf("it took %v", took)
				}
				if positions, err := ledger.Positions(t.Context(), []int{0}); err != nil || (positions[0].Owner == "o") != tc.done {
					t.Errorf("positions %v, %v", positions, err)
				}
			})
		})
	}
}

func TestPublishes(t *testing.T) {
	for name, tc := range map[string]struct {
		faults  Faults
		fails   bool
		within  time.Duration // of the answer
		arrives []int         // after 4 s, after 60 s
	}{
		"nothing": {Faults{}, false, time.Second, []int{1, 1}},
		"fail":    {Faults{Fail: 1}, true, time.Second, []int{0, 0}},
		"drop":    {Faults{Drop: 1}, true, 6 * time.Second, []int{0, 0}},
		"lose":    {Faults{Lose: 1}, true, 6 * time.Second, []int{1, 1}},
		"late":    {Faults{Late: 1}, true, 6 * time.Second, []int{0, 1}},
		"twice":   {Faults{Twice: 1}, false, time.Second, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _, server := process(tc.faults)
				begin, answers := time.Now(), make(chan error, 2)
				var answered time.Duration
				p.Transport(server.Connect()).Append(partition.Control{Kind: engine.Submitted, ExecutionID: "x"}, func(err error) {
					answered = time.Since(begin)
					answers <- err
				})
				<-time.After(4 * time.Second)
				soon := int(server.LastSeq())
				<-time.After(56 * time.Second)
				late := int(server.LastSeq())
				if err := <-answers; (err != nil) != tc.fails || answered > tc.within || len(answers) > 0 {
					t.Errorf("answered %v after %v", err, answered)
				}
				if name == "twice" && late != 2 || name != "twice" && !slices.Equal([]int{soon, late}, tc.arrives) {
					t.Errorf("arrived %d, then %d", soon, late)
				}
			})
		})
	}
}

func TestEventsOfAPartitionKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, server := process(Faults{})
		var got []uint64
		server.OnEvent = func(e partition.EventRow) { got = append(got, e.N) }
		transport := p.Transport(server.Connect())
		for n := uint64(1); n <= 50; n++ {
			transport.Publish([]partition.EventRow{{P: 3, N: n}}, func(error) {})
		}
		<-time.After(time.Second)
		if len(got) != 50 || !slices.IsSorted(got) {
			t.Errorf("arrived: %v", got)
		}
	})
}

func TestADeadProcessDoesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ledger, server := process(Faults{})
		store, transport := p.Ledger(ledger), p.Transport(server.Connect())
		r, err := transport.Read(t.Context(), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
		if _, err := store.Acquire(t.Context(), "o", time.Hour, 1); err == nil {
			t.Error("it acquires partitions")
		}
		transport.Append(partition.Control{Kind: engine.Submitted, ExecutionID: "x"}, func(error) { t.Error("it is told of an outcome") })
		if err := server.Put(0, partition.Message{ExecutionID: "y"}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		select {
		case m := <-r.Messages():
			t.Errorf("it reads %+v", m)
		default:
		}
		r.Close()
		if positions, err := ledger.Positions(t.Context(), []int{0}); err != nil || positions[0].Owner != "" || server.LastSeq() != 1 {
			t.Errorf("positions %v, %v, %d inputs", positions, err, server.LastSeq())
		}
	})
}

func TestAFrozenProcessGoesOnAfterTheThaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ledger, server := process(Faults{})
		p.Freeze()
		answers := make(chan error, 2)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := p.Ledger(ledger).Acquire(ctx, "o", time.Hour, 1)
			answers <- err
		}()
		p.Transport(server.Connect()).Append(partition.Control{Kind: engine.Submitted, ExecutionID: "x"}, func(err error) { answers <- err })
		<-time.After(time.Minute)
		if len(answers) > 0 || server.LastSeq() > 0 {
			t.Errorf("%d answers, %d inputs while it is frozen", len(answers), server.LastSeq())
		}
		p.Thaw()
		<-time.After(time.Second)
		// The call's time was up meanwhile; the message had none.
		if one, two := <-answers, <-answers; (one == nil) == (two == nil) || server.LastSeq() != 1 {
			t.Errorf("answered %v and %v, %d inputs", one, two, server.LastSeq())
		}
	})
}

func TestACutProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ledger, server := process(Faults{})
		store, transport := p.Ledger(ledger), p.Transport(server.Connect())
		for _, cut := range []bool{true, false} {
			p.CutLedger(cut)
			p.CutJetStream(cut)
			_, lerr := store.Positions(t.Context(), []int{0})
			_, terr := transport.Ensure(t.Context())
			if (lerr != nil) != cut || (terr != nil) != cut {
				t.Errorf("cut %t: %v, %v", cut, lerr, terr)
			}
		}
	})
}

func TestLagsDiffer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := lag(r)
		if seen[d] || d <= 0 || d > 2*time.Millisecond {
			t.Errorf("a lag of %v", d)
		}
		seen[d] = true
	}
}
