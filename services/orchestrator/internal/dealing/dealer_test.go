package dealing

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"turbocat.io/contracts/runner"
)

func beat(id string, slots int) runner.Heartbeat {
	return runner.Heartbeat{RunnerID: id, Pool: "default", Capacity: []runner.Capacity{{AgentType: "API", Slots: slots}}}
}

// asked has a dealer asked for n steps of an execution, and gives those that may be sent.
func asked(d *Dealer, h *Hand, user, execution string, n int) (sent []*Step) {
	for i := range n {
		if s := stepOf(user, execution, 5, i); d.Ask(s, h) {
			sent = append(sent, s)
		}
	}
	return sent
}

func wantStanding(t *testing.T, d *Dealer, want Standing) {
	t.Helper()
	if got := d.Of("", "API", "a"); got != want {
		t.Errorf("the line is %+v, want %+v", got, want)
	}
}

func TestAPlaceThatIsGivenBackIsAnothersAtOnce(t *testing.T) {
	d, h, other := New(), NewHand(), NewHand()
	sent := asked(d, h, "a", "big", 10)
	if len(sent) != AtLeast {
		t.Fatalf("%d steps are sent with no runner alive, want %d", len(sent), AtLeast)
	}
	asked(d, other, "b", "single", 1)
	d.GiveBack(sent[0])
	d.GiveBack(sent[0])
	if got := d.PickUp(h); len(got) != 1 || got[0].Place.Step != AtLeast {
		t.Errorf("the first place goes to %v", got)
	}
	d.GiveBack(sent[1])
	select {
	case <-other.Dealt():
	default:
		t.Fatal("the owner of the other user's step is not told")
	}
	if got := d.PickUp(other); len(got) != 1 || got[0].UserID != "b" {
		t.Errorf("the second place goes to %v", got)
	}
	wantStanding(t, d, Standing{Dealt: 4, Limit: 4, Waiting: 5, OfUser: 5})
}

func TestWhatIsGivenBackBeforeItIsPickedUpIsNotSent(t *testing.T) {
	d, h := New(), NewHand()
	sent := asked(d, h, "a", "x", AtLeast)
	last := stepOf("a", "x", 5, 99)
	d.Ask(last, h)
	d.GiveBack(sent[0]) // deals the last
	d.GiveBack(last)
	if got := d.PickUp(h); len(got) != 0 {
		t.Errorf("picked up %v", got)
	}
	wantStanding(t, d, Standing{Dealt: 3, Limit: 4})
}

func TestWhatIsInSTEPSAlreadyIsCounted(t *testing.T) {
	d, h := New(), NewHand()
	for n := range 6 {
		d.Hold(stepOf("a", "x", 5, n))
	}
	if len(asked(d, h, "a", "y", 1)) != 0 {
		t.Error("a seventh step is sent")
	}
	wantStanding(t, d, Standing{Dealt: 6, Limit: 4, Waiting: 1, OfUser: 1})
}

func TestTheLinesAreAsLongAsTheRunnersWantThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := New(), NewHand()
		asked(d, h, "a", "x", 100)
		d.Heard(beat("one", 10))
		if got := d.PickUp(h); len(got) != 20-AtLeast {
			t.Errorf("a runner with 10 slots has %d more dealt", len(got))
		}
		d.Heard(beat("two", 10))
		wantStanding(t, d, Standing{Alive: 2, Runners: 2, Slots: 20, Dealt: 40, Limit: 40, Waiting: 60, OfUser: 60})
		d.Serve(0.25)
		wantStanding(t, d, Standing{Alive: 2, Runners: 2, Slots: 20, Dealt: 40, Limit: 10, Waiting: 60, OfUser: 60})

		<-time.After(ForgottenAfter - time.Second)
		d.Heard(beat("two", 10))
		<-time.After(2 * time.Second)
		d.Serve(1)
		if d.Runners() != 1 {
			t.Errorf("%d runners are alive, one of two is silent", d.Runners())
		}
		d.Heard(runner.Heartbeat{RunnerID: "two", Stopping: true})
		wantStanding(t, d, Standing{Dealt: 40, Limit: AtLeast, Waiting: 60, OfUser: 60})
	})
}

// TestNothingWaitsWhileThereIsRoom lets many owners ask, send and give back at once.
func TestNothingWaitsWhileThereIsRoom(t *testing.T) {
	d := New()
	d.Heard(beat("one", 3))
	var owners sync.WaitGroup
	for o := range 8 {
		owners.Go(func() {
			h := NewHand()
			user := string(rune('a' + o%3))
			left := 300
			give := func(s *Step) {
				d.GiveBack(s)
				left--
			}
			for n := range 300 {
				if s := stepOf(user, "x", n%10, n); d.Ask(s, h) {
					give(s)
				} else if n%7 == 0 {
					give(s)
				}
			}
			for left > 0 {
				<-h.Dealt()
				for _, s := range d.PickUp(h) {
					if got := d.Of("", "API", ""); got.Waiting > 0 && got.Dealt < got.Limit {
						t.Errorf("the line is %+v", got)
					}
					give(s)
				}
			}
		})
	}
	owners.Wait()
	if got := d.Of("", "API", ""); got.Dealt != 0 || got.Waiting != 0 {
		t.Errorf("in the end the line is %+v", got)
	}
}

// TestAPoolHasALineOfItsOwn has runners of two pools, and steps of a third that nobody runs.
func TestAPoolHasALineOfItsOwn(t *testing.T) {
	d, h := New(), NewHand()
	ask := func(pool string, n int) (s *Step, sent bool) {
		s = stepOf("a", "x", 5, n)
		s.Pool = pool
		return s, d.Ask(s, h)
	}
	d.Heard(beat("one", 1))
	first, sent := ask("gpu", 1)
	if sent {
		t.Error("a step is sent to a pool that no runner is of")
	}
	if _, sent := ask("", 2); !sent {
		t.Error("a step of the default pool waits for one of another pool")
	}
	nobodys, sent := ask("tpu", 3)
	if sent {
		t.Error("a step is sent to a pool that no runner is of")
	}
	gpu := beat("two", 3)
	gpu.Pool = "eu+gpu"
	d.Heard(gpu)
	if got := d.PickUp(h); len(got) != 1 || got[0] != first {
		t.Errorf("once a runner of the pool is heard %v are dealt", got)
	}
	for pool, want := range map[string]Standing{
		"":       {Alive: 1, Runners: 1, Slots: 1, Dealt: 1, Limit: AtLeast},
		"gpu":    {Alive: 1, Runners: 1, Slots: 3, Dealt: 1, Limit: 6},
		"eu+gpu": {Alive: 1, Runners: 1, Slots: 3, Limit: 6},
		"tpu":    {Waiting: 1, OfUser: 1},
	} {
		if got := d.Of(pool, "API", "a"); got != want {
			t.Errorf("the line of %q is %+v, want %+v", pool, got, want)
		}
	}
	if got := d.total("API"); got.Slots != 4 || got.Dealt != 2 || got.Waiting != 1 {
		t.Errorf("all together are %+v", got)
	}
	d.GiveBack(nobodys)
	d.GiveBack(first)
	if len(d.lines) != 1 {
		t.Errorf("%d lines are left of one that is used", len(d.lines))
	}
}
