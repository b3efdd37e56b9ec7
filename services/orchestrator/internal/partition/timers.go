package partition

import (
	"container/heap"
	"time"

	"turbocat.io/services/orchestrator/internal/engine"
)

// clock tells the time of the input log: that of its newest message, carried on by the
// process's monotonic clock. So timers of one partition go by one clock, whatever the hosts' say.
type clock struct {
	stream engine.Time
	read   time.Time
}

func (c *clock) set(t engine.Time) {
	if t > c.stream {
		c.stream, c.read = t, time.Now()
	}
}

// back sets the clock to a time that may be before its own.
func (c *clock) back(t engine.Time) { c.stream, c.read = t, time.Now() }

func (c *clock) now() engine.Time {
	return c.stream + engine.Time(time.Since(c.read).Microseconds())
}

// timers holds when executions are due next. An entry that is no longer an execution's next
// due time is dropped when it comes up.
type timers []timer

type timer struct {
	due       engine.Time
	execution string
}

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}

func (t *timers) add(due engine.Time, execution string) { heap.Push(t, timer{due, execution}) }

// next gives the entry that is due by now and removes it.
func (t *timers) next(now engine.Time) (timer, bool) {
	if len(*t) == 0 || (*t)[0].due > now {
		return timer{}, false
	}
	return heap.Pop(t).(timer), true
}

// wait gives how long it is until the first entry is due, at most limit.
func (t timers) wait(now engine.Time, limit time.Duration) time.Duration {
	if len(t) == 0 {
		return limit
	}
	return min(limit, max(0, time.Duration(t[0].due-now)*time.Microsecond))
}

func (r *run) schedule(l *live) {
	due := l.x.NextDue()
	if due != 0 && due != l.due {
		r.timers.add(due, l.x.ID)
	}
	l.due = due
}

// cameEarly sets a timer anew whose message the log took at a time before it was due. Then the
// log's clock is behind what it was taken for, as after a fail-over to another server; going on
// by the old one would send the message again at once, and again.
func (r *run) cameEarly(l *live, at engine.Time) {
	if due := l.x.NextDue(); !r.catchingUp && at < due && due <= r.clock.now() {
		r.clock.back(at)
	}
	l.due = 0
}

// fireTimers puts a message into the log for every execution with a timer that is due. The
// log decides whether it comes before or after anything else.
func (r *run) fireTimers() {
	now := r.clock.now()
	for {
		t, ok := r.timers.next(now)
		if !ok {
			return
		}
		l := r.live[t.execution]
		if l == nil {
			if r.waking[t.execution] == t.due { // else it has ended
				r.waking[t.execution] = now.Add(resendTimer.Milliseconds())
				r.fire(t.execution, now)
			}
			continue
		}
		switch due := l.x.NextDue(); {
		case due == 0:
		case due > now:
			r.timers.add(due, t.execution)
		default:
			r.fire(t.execution, now)
		}
	}
}

func (r *run) fire(execution string, now engine.Time) {
	r.append(Control{P: r.position.P, Kind: engine.TimerDue, ExecutionID: execution})
	r.timers.add(now.Add(resendTimer.Milliseconds()), execution)
}
