package dealing

import (
	"container/list"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// Step is the current attempt of a task that is ready for a runner. Its fields stay as they are while a dealer knows it, and
// it is asked for once.
type Step struct {
	ExecutionID string
	Place       engine.Place
	Token       string
	UserID      string
	Pool        string // of runners; "" is the default one
	AgentType   string
	Priority    int // 0 to 9, 9 first
	Ready       time.Time

	hand  *Hand
	state state
	in    *execution // while it waits
	at    *list.Element
	place *list.Element // among all that wait
}

// order says which of the waiting steps is next: the users take turns; of a user the highest priority is first, and among
// its executions of that priority they take turns; of an execution the step that has waited for the longest. Its methods
// take the same time however many wait.
type order struct {
	users list.List // of *user, whose turn is next first
	known map[string]*user
	steps list.List // all of them, the one that has waited for the longest first
}

const priorities = 10

type user struct {
	id         string
	priorities [priorities]list.List // of *execution, whose turn is next first
	known      map[string]*execution
	at         *list.Element
}

type execution struct {
	id       string
	user     *user
	priority int
	steps    list.List // of *Step
	at       *list.Element
}

// add puts a step to the end of its line.
func (o *order) add(s *Step) {
	u := o.known[s.UserID]
	if u == nil {
		u = &user{id: s.UserID, known: map[string]*execution{}}
		u.at = o.users.PushBack(u)
		if o.known == nil {
			o.known = map[string]*user{}
		}
		o.known[u.id] = u
	}
	x := u.known[s.ExecutionID]
	if x == nil {
		x = &execution{id: s.ExecutionID, user: u, priority: min(max(s.Priority, 0), priorities-1)}
		x.at = u.priorities[x.priority].PushBack(x)
		u.known[x.id] = x
	}
	s.in, s.at = x, x.steps.PushBack(s)
	s.place = o.steps.PushBack(s)
}

// next takes out the step whose turn it is; nil when none waits.
func (o *order) next() *Step {
	first := o.users.Front()
	if first == nil {
		return nil
	}
	u := first.Value.(*user)
	p := priorities - 1
	for u.priorities[p].Len() == 0 { // a user who is known has steps
		p--
	}
	x := u.priorities[p].Front().Value.(*execution)
	s := x.steps.Front().Value.(*Step)
	u.priorities[p].MoveToBack(x.at)
	o.users.MoveToBack(u.at)
	o.remove(s)
	return s
}

// remove takes out a step that waits.
func (o *order) remove(s *Step) {
	x := s.in
	u := x.user
	x.steps.Remove(s.at)
	o.steps.Remove(s.place)
	s.in, s.at, s.place = nil, nil, nil
	if x.steps.Len() > 0 {
		return
	}
	u.priorities[x.priority].Remove(x.at)
	delete(u.known, x.id)
	if len(u.known) == 0 {
		o.users.Remove(u.at)
		delete(o.known, u.id)
	}
}

// oldest gives when the step became ready that has waited for the longest; the zero value when none waits.
func (o *order) oldest() time.Time {
	if first := o.steps.Front(); first != nil {
		return first.Value.(*Step).Ready
	}
	return time.Time{}
}

// ofUser is how many steps of a user wait.
func (o *order) ofUser(id string) int {
	u := o.known[id]
	if u == nil {
		return 0
	}
	n := 0
	for _, x := range u.known {
		n += x.steps.Len()
	}
	return n
}

// ahead is how many steps of a user go before one that waits; false when it does not.
func (o *order) ahead(userID, executionID string, p engine.Place) (int, bool) {
	u := o.known[userID]
	if u == nil || u.known[executionID] == nil {
		return 0, false
	}
	x := u.known[executionID]
	own := 0 // steps of its execution that go before it
	at := x.steps.Front()
	for ; at != nil && at.Value.(*Step).Place != p; at = at.Next() {
		own++
	}
	if at == nil {
		return 0, false
	}
	n, turns := own, own+1 // of the executions whose turn is before that of x
	for at := u.priorities[x.priority].Front(); at != nil; at = at.Next() {
		if at == x.at {
			turns--
			continue
		}
		n += min(turns, at.Value.(*execution).steps.Len())
	}
	for _, higher := range u.priorities[x.priority+1:] {
		for at := higher.Front(); at != nil; at = at.Next() {
			n += at.Value.(*execution).steps.Len()
		}
	}
	return n, true
}
