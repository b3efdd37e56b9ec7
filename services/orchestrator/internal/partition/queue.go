package partition

import (
	"slices"
	"time"
)

const (
	// maxBatch bounds one transaction.
	maxBatch = 4000
	// A change that nothing waits for lingers, for a step that has begun and ended by its commit is one row, and so is an
	// execution with all that became of it: lingerCommits times as long as the last commit took, within bounds.
	lingerCommits = 8
	minLinger     = 10 * time.Millisecond
	maxLinger     = 100 * time.Millisecond
	// pace is the least time from one commit to the next while several executions end in each: a commit has
	// costs that do not depend on what is in it.
	pace = 20 * time.Millisecond
)

// queue has the changes that the writer is still to commit, and decides which go together and when: those of a partition as soon as
// one of them is awaited, or has lingered.
type queue struct {
	partitions []*queued
	count      int

	begun  time.Time // of the last commit in which executions ended
	ends   int       // how many
	linger time.Duration
}

// queued is what is queued of one run, in its order; at least one change.
type queued struct {
	run     *run
	changes []*change
	awaited bool
}

func (q *queue) add(c *change) {
	q.count++
	i := slices.IndexFunc(q.partitions, func(p *queued) bool { return p.run == c.run })
	if i < 0 {
		i = len(q.partitions)
		q.partitions = append(q.partitions, &queued{run: c.run})
	}
	p := q.partitions[i]
	p.changes = append(p.changes, c)
	p.awaited = p.awaited || c.awaited()
}

// oldest is when the first of the changes was made; zero when there are none.
func (q *queue) oldest() (made time.Time) {
	for _, p := range q.partitions {
		if made.IsZero() || p.changes[0].made.Before(made) {
			made = p.changes[0].made
		}
	}
	return made
}

// took notes how long the last commit took.
func (q *queue) took(d time.Duration) { q.linger = min(lingerCommits*d, maxLinger) }

// due is when the changes of a partition are to be committed.
func (q *queue) due(p *queued) time.Time {
	switch {
	case !p.awaited:
		return p.changes[0].made.Add(max(q.linger, minLinger))
	case q.ends > 1:
		return q.begun.Add(pace)
	}
	return time.Time{}
}

// take takes the changes of the next commit off the queue, or tells how long nothing is due.
func (q *queue) take(now time.Time) (batch []*change, wait time.Duration) {
	all := q.count >= maxBatch
	wait = maxLinger
	var rest []*queued
	for _, p := range q.partitions {
		after := q.due(p).Sub(now)
		n := min(len(p.changes), maxBatch-len(batch))
		if after > 0 && !all {
			wait, n = min(wait, after), 0
		}
		batch = append(batch, p.changes[:n]...)
		if n < len(p.changes) {
			p.changes = p.changes[n:]
			p.awaited = slices.ContainsFunc(p.changes, (*change).awaited)
			rest = append(rest, p)
		}
	}
	if len(batch) == 0 {
		return nil, wait
	}
	q.partitions, q.count = rest, q.count-len(batch)
	ends := 0
	for _, c := range batch {
		if c.ended != "" {
			ends++
		}
	}
	if ends > 0 {
		q.begun, q.ends = now, ends
	}
	return batch, 0
}
