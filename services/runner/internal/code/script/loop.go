package script

import (
	"container/heap"
	"errors"
	"slices"
	"time"

	"github.com/grafana/sobek"
)

var errNeverSettles = errors.New("the promise of the handler never settles: nothing is left to run that could resolve it; resolve it, or return without waiting for it")

// rejection is the reason of a rejected promise.
type rejection struct{ reason sobek.Value }

func (r rejection) Error() string { return "promise rejected" }

// settle gives v, or what v resolves to when it is a promise, running timers meanwhile.
func (h *host) settle(v sobek.Value) (sobek.Value, error) {
	if _, ok := v.(*sobek.Object); !ok {
		return v, nil
	}
	// A promise of our own follows those of the code and whatever else has a then.
	promise, resolve, _ := h.vm.NewPromise()
	if err := resolve(v); err != nil {
		return nil, err
	}
	for promise.State() == sobek.PromiseStatePending {
		if err := h.turn(); err != nil {
			return nil, err
		}
	}
	if promise.State() == sobek.PromiseStateRejected {
		h.handled(promise)
		return nil, rejection{promise.Result()}
	}
	return promise.Result(), nil
}

// turn waits for what comes first, a timer or the answer of a fetch, and runs what waits for it.
func (h *host) turn() error {
	var due <-chan time.Time
	first, timed := h.timers.first()
	if timed {
		due = time.After(time.Until(first.due))
	}
	if !timed && !h.fetches.pending() {
		return errNeverSettles
	}
	select {
	case <-due:
		return h.runTimer()
	case response, ok := <-h.fetches.responses:
		if !ok {
			return errNoNetwork
		}
		return h.answered(response)
	}
}

func (h *host) runTimer() error {
	next := h.timers.next()
	if _, err := next.run(sobek.Undefined(), next.arguments...); err != nil {
		return err
	}
	if next.every > 0 && h.timers.byID[next.id] == next { // and it has not been cleared
		h.timers.add(next, next.every)
	}
	return nil
}

func (h *host) trackRejection(promise *sobek.Promise, operation sobek.PromiseRejectionOperation) {
	if operation == sobek.PromiseRejectionReject {
		h.rejected = append(h.rejected, promise)
		return
	}
	h.handled(promise)
}

func (h *host) handled(promise *sobek.Promise) {
	h.rejected = slices.DeleteFunc(h.rejected, func(p *sobek.Promise) bool { return p == promise })
}

// warnOfRejections tells the author of errors that would be lost with nobody waiting for them.
func (h *host) warnOfRejections() {
	for _, promise := range h.rejected {
		h.log("WARN", clip("a promise was rejected and nothing handled it: "+h.show(promise.Result()), MaxLine, lineCut))
	}
}

type timer struct {
	id        int64
	due       time.Time
	run       sobek.Callable
	arguments []sobek.Value
	every     time.Duration // 0 for once
	index     int           // in the queue; -1 while it runs
}

// timers are the timers of a script; the zero value has none.
type timers struct {
	queue  queue
	byID   map[int64]*timer
	lastID int64
}

// first gives the timer that is due first.
func (t *timers) first() (*timer, bool) {
	if len(t.queue) == 0 {
		return nil, false
	}
	return t.queue[0], true
}

// next takes out the first timer.
func (t *timers) next() *timer {
	first := heap.Pop(&t.queue).(*timer)
	if first.every == 0 {
		delete(t.byID, first.id)
	}
	first.index = -1
	return first
}

func (h *host) setTimeout(call sobek.FunctionCall) sobek.Value {
	return h.addTimer("setTimeout", call, false)
}

func (h *host) setInterval(call sobek.FunctionCall) sobek.Value {
	return h.addTimer("setInterval", call, true)
}

func (h *host) addTimer(name string, call sobek.FunctionCall, again bool) sobek.Value {
	run, ok := sobek.AssertFunction(call.Argument(0))
	if !ok {
		panic(h.vm.NewTypeError(name + " needs a function as its first argument"))
	}
	const longest = 1<<31 - 1
	delay := time.Duration(min(max(call.Argument(1).ToInteger(), 0), longest)) * time.Millisecond
	t := &h.timers
	t.lastID++
	next := &timer{id: t.lastID, run: run}
	if again {
		next.every = max(delay, time.Millisecond)
	}
	if len(call.Arguments) > 2 {
		next.arguments = slices.Clone(call.Arguments[2:])
	}
	t.add(next, delay)
	return h.vm.ToValue(next.id)
}

// clearTimer takes a timer of either kind back.
func (h *host) clearTimer(call sobek.FunctionCall) sobek.Value {
	id := call.Argument(0).ToInteger()
	if known := h.timers.byID[id]; known != nil {
		if known.index >= 0 {
			heap.Remove(&h.timers.queue, known.index)
		}
		delete(h.timers.byID, id)
	}
	return sobek.Undefined()
}

func (t *timers) add(next *timer, delay time.Duration) {
	if t.byID == nil {
		t.byID = map[int64]*timer{}
	}
	next.due = time.Now().Add(delay)
	t.byID[next.id] = next
	heap.Push(&t.queue, next)
}

// queue is a heap of timers, by due time, then in order of creation.
type queue []*timer

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].id < q[j].id
	}
	return q[i].due.Before(q[j].due)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	added := x.(*timer)
	added.index = len(*q)
	*q = append(*q, added)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	removed := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return removed
}
