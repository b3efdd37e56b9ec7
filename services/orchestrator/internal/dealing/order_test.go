package dealing

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/services/orchestrator/internal/engine"
)

func stepOf(user, execution string, priority, n int) *Step {
	return &Step{UserID: user, ExecutionID: execution, Priority: priority, AgentType: "API", Place: engine.Place{Step: n}}
}

func (s *Step) String() string {
	return fmt.Sprintf("%s/%s.%d#%d", s.UserID, s.ExecutionID, s.Priority, s.Place.Step)
}

func drain(o *order) (names []string) {
	for s := o.next(); s != nil; s = o.next() {
		names = append(names, s.String())
	}
	return names
}

func TestUsersTakeTurnsAndPrioritiesAreOfAUser(t *testing.T) {
	var o order
	for n := range 3 {
		o.add(stepOf("a", "big", 5, n))
	}
	o.add(stepOf("a", "urgent", 9, 0))
	o.add(stepOf("a", "other", 5, 0))
	o.add(stepOf("b", "single", 0, 0))
	want := []string{"a/urgent.9#0", "b/single.0#0", "a/big.5#0", "a/other.5#0", "a/big.5#1", "a/big.5#2"}
	if got := drain(&o); !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

// TestOrder holds for any coming and going: nothing is lost or given twice; an execution's steps keep their order; while a
// user waits nobody else is served twice, while an execution waits no other of its user and priority is, and nobody is served
// before a higher priority of the same user.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o order
		var waiting []*Step // in the order in which they came
		served := map[*Step]map[string]int{}
		priorities := map[string]int{}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				user := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "user")
				execution := user + rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "execution")
				if _, known := priorities[execution]; !known {
					priorities[execution] = rapid.SampledFrom([]int{0, 5, 9}).Draw(t, "priority")
				}
				n++
				s := stepOf(user, execution, priorities[execution], n)
				o.add(s)
				waiting = append(waiting, s)
				served[s] = map[string]int{}
			},
			"remove": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
				o.remove(waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			},
			"next": func(t *rapid.T) {
				s := o.next()
				i := slices.Index(waiting, s)
				if s == nil && len(waiting) == 0 {
					return
				}
				if i < 0 {
					t.Fatalf("next gives %v, and %v wait", s, waiting)
				}
				waiting = slices.Delete(waiting, i, i+1)
				for j, w := range waiting {
					if w.ExecutionID == s.ExecutionID && j < i {
						t.Fatalf("%v came before %v", w, s)
					}
					if w.UserID == s.UserID && w.Priority > s.Priority {
						t.Fatalf("%v is served before %v", s, w)
					}
					if w.UserID != s.UserID {
						served[w][s.UserID]++
					} else if w.ExecutionID != s.ExecutionID && w.Priority == s.Priority {
						served[w][s.ExecutionID]++
					}
				}
				// What waits behind others of its own waits for their turns, too.
				for _, w := range waiting {
					if w.UserID == s.UserID {
						maps.DeleteFunc(served[w], func(who string, _ int) bool { return len(who) == 1 }) // users
					}
					if w.ExecutionID == s.ExecutionID {
						clear(served[w])
					}
					for who, times := range served[w] {
						if times > 1 {
							t.Fatalf("%s was served %d times while %v waits", who, times, w)
						}
					}
				}
			},
			"": func(t *rapid.T) {
				if o.steps.Len() != len(waiting) || (o.steps.Len() == 0) != (len(o.known) == 0) || len(o.known) != o.users.Len() {
					t.Fatalf("%d steps of %d users are in the order, and %d wait", o.steps.Len(), len(o.known), len(waiting))
				}
				for _, user := range []string{"a", "b", "c"} {
					n := 0
					for _, w := range waiting {
						if w.UserID == user {
							n++
						}
					}
					if got := o.ofUser(user); got != n {
						t.Fatalf("%d steps of %s wait, it says %d", n, user, got)
					}
				}
			},
		})
	})
}

// TestAhead holds for any line: what is told to go before a step is what of its user goes before it.
func TestAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o order
		var waiting []*Step
		for n := range rapid.IntRange(1, 40).Draw(t, "steps") {
			user := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "user")
			x := rapid.IntRange(0, 5).Draw(t, "execution")
			waiting = append(waiting, stepOf(user, fmt.Sprint(user, x), x/2, n))
			o.add(waiting[n])
		}
		for range rapid.IntRange(0, len(waiting)-1).Draw(t, "dealt") {
			s := o.next()
			waiting = slices.DeleteFunc(waiting, func(w *Step) bool { return w == s })
		}
		s := rapid.SampledFrom(waiting).Draw(t, "step")
		ahead, waits := o.ahead(s.UserID, s.ExecutionID, s.Place)
		if _, other := o.ahead("a", "a9", s.Place); !waits || other {
			t.Fatalf("%v waits: %t; another one: %t", s, waits, other)
		}
		n := 0
		for first := o.next(); first != s; first = o.next() {
			if first.UserID == s.UserID {
				n++
			}
		}
		if n != ahead {
			t.Fatalf("%d steps go before %v, it says %d", n, s, ahead)
		}
	})
}

// BenchmarkAsk is what a step costs that is sent at once.
func BenchmarkAsk(b *testing.B) {
	d, h := New(), NewHand()
	for n := range b.N {
		s := stepOf("a", "x", 5, n)
		if !d.Ask(s, h) {
			b.Fatal("it waits")
		}
		d.GiveBack(s)
	}
}

// BenchmarkContended is what a step costs that waits behind 10,000 others.
func BenchmarkContended(b *testing.B) {
	d, h := New(), NewHand()
	for n := range 10_000 {
		d.Ask(stepOf(fmt.Sprint("u", n%100), fmt.Sprint("x", n%1000), n%10, n), h)
	}
	for n := range b.N {
		d.Ask(stepOf("a", "x", 5, n), h)
		for _, s := range d.PickUp(h) {
			d.GiveBack(s)
			break
		}
	}
}
