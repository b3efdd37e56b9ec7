package promises

import (
	"cmp"
	"maps"
	"slices"
)

// checkHistory checks that the events are a possible story, and that of the execution.
func (c *checker) checkHistory(x *Execution) {
	last := x.last()
	if last == nil || !Ended(last.Status) {
		return // told by I1
	}
	depends, reused := map[string][]string{}, map[string]bool{}
	for _, s := range x.Plan {
		depends[s.Key], reused[s.Key] = s.DependsOn, s.Reused
	}
	told := NewStory(x.ID, depends, reused, c.say)
	for _, e := range x.Replay {
		told.Tell(e)
	}
	told.Compare(last.Execution)
	if x.Followed != nil && !slices.Equal(x.Followed, x.Replay) {
		c.say("I5", "who followed %s was told %s, and the history is %s", x.ID, story(x.Followed), story(x.Replay))
	}
}

// checkTold checks that the ledger, the stream of public events and the API tell the same.
func (c *checker) checkTold() {
	if c.Ledger == nil {
		return
	}
	ofExecution := map[string][]Event{}
	numbers := map[int]uint64{}
	for _, e := range c.Ledger.Events {
		ofExecution[e.Execution] = append(ofExecution[e.Execution], e)
		numbers[e.P] = e.N
	}
	for _, events := range ofExecution {
		slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	for i := range c.Executions {
		x := &c.Executions[i]
		stored := ofExecution[x.ID]
		if x.last() != nil && Ended(x.last().Status) && !slices.Equal(stored, x.Replay) {
			c.say("I5", "the ledger tells %s of %s, and a client is told %s", story(stored), x.ID, story(x.Replay))
		}
	}
	if c.Streams != nil {
		c.checkPublished(c.Ledger.Events, numbers)
	}
	if c.Feeds != nil {
		c.checkFeeds(ofExecution)
	}
}

// checkFeeds checks that the feeds have what is stored of each execution, in its order, and all that of one in the feed of one user.
func (c *checker) checkFeeds(stored map[string][]Event) {
	ends, users, told := map[string]uint64{}, map[string]string{}, map[string][]Event{}
	for _, e := range c.Feeds {
		if e.Cursor != ends[e.UserID]+1 {
			c.say("I5", "in the feed of %s the event %d follows %d", e.UserID, e.Cursor, ends[e.UserID])
		}
		ends[e.UserID] = e.Cursor
		if user := users[e.Execution]; user != "" && user != e.UserID {
			c.say("I5", "the feeds of %s and of %s have events of %s", user, e.UserID, e.Execution)
		}
		users[e.Execution] = e.UserID
		told[e.Execution] = append(told[e.Execution], e.Event)
	}
	for _, id := range slices.Sorted(maps.Keys(stored)) {
		if !slices.Equal(stored[id], told[id]) {
			c.say("I5", "the ledger tells %s of %s, and the feed of its user %s", story(stored[id]), id, story(told[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(told)) {
		if stored[id] == nil {
			c.say("I5", "a feed tells of %s, and the ledger does not know it", id)
		}
	}
}

// checkPublished checks the stream as every reader of it does: what has no higher number than the last of its partition is dropped.
func (c *checker) checkPublished(stored []Event, newest map[int]uint64) {
	type place struct {
		p int
		n uint64
	}
	want := map[place]Event{}
	for _, e := range stored {
		want[place{e.P, e.N}] = e
	}
	read := map[int]uint64{}
	for _, e := range c.Streams.Published {
		if e.N <= read[e.P] {
			continue
		}
		if e.N != read[e.P]+1 && !c.Streams.Lost {
			c.say("I5", "in the partition %d the published event %d follows %d", e.P, e.N, read[e.P])
		}
		read[e.P] = e.N
		if s := want[place{e.P, e.N}]; s != e {
			c.say("I5", "event %d of the partition %d is published as %+v and stored as %+v", e.N, e.P, e, s)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(newest)) {
		if read[p] < newest[p] && (!c.Streams.Lost || read[p] > 0) {
			c.say("I5", "the events of the partition %d are published up to %d of %d", p, read[p], newest[p])
		}
	}
}

// story tells events in one line.
func story(events []Event) string {
	text := "["
	for i, e := range events {
		if i > 0 {
			text += ", "
		}
		text += e.Type
		if e.StepKey != "" {
			text += " " + e.StepKey
		}
	}
	return text + "]"
}
