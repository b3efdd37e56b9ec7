package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/subject"
)

// numbersAtOnce is how many event numbers are read at a time, and how many of a partition are looked at when not all are.
const numbersAtOnce = 50_000

type partitionRow struct {
	P          int    `db:"p"`
	Owner      string `db:"owner"`
	Leased     bool   `db:"leased"`
	Lives      bool   `db:"lives"`
	InputSeq   uint64 `db:"input_seq"`
	EventN     uint64 `db:"event_n"`
	PublishedN uint64 `db:"published_n"`
}

const partitionsQuery = `SELECT p.p, coalesce(p.owner, '') AS owner, p.lease_until > clock_timestamp() AS leased, i.id IS NOT NULL AS lives,
	p.input_seq, p.event_n, p.published_n
	FROM partitions p LEFT JOIN instances i ON i.id = p.owner AND i.seen_at > clock_timestamp() - interval '5 seconds' ORDER BY p.p`

// partitions checks that somebody has each partition, that none has applied what is not in the log, and that the streams are there.
func (v *verifier) partitions(ctx context.Context) error {
	return v.settled(ctx, func(ctx context.Context, found *findings) error {
		say := found.say
		rows, err := many[partitionRow](ctx, v, partitionsQuery)
		if err != nil {
			return err
		}
		for _, r := range rows {
			switch {
			case !r.Leased:
				say("I7", "nobody has the partition %d; its lease of %q has run out", r.P, r.Owner)
			case !r.Lives:
				say("I7", "the partition %d is leased to %q, which does not live", r.P, r.Owner)
			}
			if r.PublishedN > r.EventN {
				say("I5", "the partition %d has published %d events and has %d", r.P, r.PublishedN, r.EventN)
			}
			if v.Quiet && r.PublishedN < r.EventN {
				say("I7", "the partition %d has published its events up to %d of %d", r.P, r.PublishedN, r.EventN)
			}
		}
		if v.bus == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		log, err := v.stream(ctx, subject.ExecutionInputStream, say)
		if err != nil {
			return err
		}
		for _, r := range rows { // read before the stream was, which only grows
			if log != nil && r.InputSeq > log.State.LastSeq {
				say("I1", "the partition %d has applied the log up to %d, and %s ends with %d", r.P, r.InputSeq, subject.ExecutionInputStream, log.State.LastSeq)
			}
		}
		steps, err := v.ready(ctx, say)
		if err == nil && v.Quiet && steps > 0 {
			say("I7", "%s has %d messages", subject.StepsStream, steps)
		}
		if err == nil {
			_, err = v.stream(ctx, subject.EventsStream, say)
		}
		return err
	})
}

// stream reads about a stream; nil when there is none, which is said.
func (v *verifier) stream(ctx context.Context, name string, say func(promise, format string, args ...any), options ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	s, err := v.bus.JetStream().Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		say("I7", "NATS has no stream %s", name)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	if len(options) > 0 {
		return s.Info(ctx, options...)
	}
	return s.CachedInfo(), nil
}

// ready counts the steps in STEPS; -1 when there is no such stream, which is said.
func (v *verifier) ready(ctx context.Context, say func(promise, format string, args ...any)) (int, error) {
	s, err := v.stream(ctx, subject.StepsStream, say, jetstream.WithSubjectFilter(subject.StepsWaiting))
	if s == nil || err != nil {
		return -1, err
	}
	n := 0
	for _, of := range s.State.Subjects {
		n += int(of)
	}
	return n, nil
}

// numbers checks that the events of each partition are numbered without a gap, up to what the partition says. With Since, the
// newest ones alone, and so once weeks were dropped: those after the first commit of an execution of which nothing is. Which of them
// each event has is looked at with its execution.
func (v *verifier) numbers(ctx context.Context) error {
	rows, err := many[partitionRow](ctx, v, partitionsQuery)
	if err != nil {
		return err
	}
	dropped, err := many[bool](ctx, v, `SELECT to_regclass('execution_events_before') IS NULL`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		from := uint64(0)
		if dropped[0] {
			first, err := many[uint64](ctx, v, `SELECT coalesce(min(n), $2) FROM execution_events WHERE p = $1 AND execution_id >= $3`, r.P, r.EventN, v.kept())
			if err != nil {
				return err
			}
			from = first[0]
		}
		if !v.Since.IsZero() && r.EventN > numbersAtOnce {
			from = max(from, r.EventN-numbersAtOnce)
		}
		last := uint64(0)
		if from > 0 { // the end of a commit
			ends, err := many[uint64](ctx, v, `SELECT coalesce(min(n), $2) FROM execution_events WHERE p = $1 AND n >= $2`, r.P, from)
			if err != nil {
				return err
			}
			last = ends[0]
		}
		for last < r.EventN {
			commits, err := many[struct {
				N      uint64 `db:"n"`
				Events uint64 `db:"events"`
			}](ctx, v, `SELECT n, sum(event_count) AS events FROM execution_events WHERE p = $1 AND n > $2 GROUP BY n ORDER BY n LIMIT $3`, r.P, last, numbersAtOnce)
			if err != nil {
				return err
			}
			for _, c := range commits {
				if c.N != last+c.Events {
					v.say("I5", "in the partition %d event %d of the ledger follows %d", r.P, int64(c.N-c.Events)+1, last)
				}
				last = c.N
			}
			if len(commits) < numbersAtOnce && last < r.EventN {
				v.say("I5", "the partition %d counts %d events, and the last in the ledger is %d", r.P, r.EventN, last)
				break
			}
			v.tell(false)
		}
		beyond, err := many[uint64](ctx, v, `SELECT e.n FROM execution_events e JOIN partitions p ON p.p = e.p WHERE e.p = $1 AND e.n > p.event_n ORDER BY e.n LIMIT 1`, r.P)
		if err != nil {
			return err
		}
		for _, n := range beyond {
			v.say("I5", "the partition %d has an event %d, beyond those it counts", r.P, n)
		}
	}
	return nil
}
