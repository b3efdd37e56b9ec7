// Package schedule fires triggers of type SCHEDULE.
//
// Every scheduled time has exactly one execution or is in exactly one recorded skip. What decides that is a schedule's place, the next
// time that is not decided: whoever decides a time moves the place on in the same transaction, and whoever finds it moved has
// lost. Only the database's clock says what is due; no process's clock is asked.
package schedule

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/form"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Trigger is a trigger of type SCHEDULE.
type Trigger struct {
	trigger.Base

	Cron, TimeZone, Overlap string
	CatchUpWindow, Jitter   time.Duration

	Revision int64
	Place    Place
	Last     time.Time // the last scheduled time that has an execution; zero for none
	Passed   *Skip     // times that a change has passed over; it is saved with the change
}

// Place is the next scheduled time that is not decided, and when it is to fire; zero when there is none.
type Place struct{ Time, FireAt time.Time }

// Skip is one scheduled time without an execution, or several in a row: from Time on, before Until.
type Skip struct {
	Time, Until     time.Time
	Reason, Message string
	CreatedAt       time.Time
}

// timetable reads what was checked when it was saved. It fails when this version knows the expression or the zone no more.
func (t Trigger) timetable() (Timetable, error) {
	var faults form.Faults
	table := NewTimetable(t.Cron, t.TimeZone, &faults)
	return table, faults.Err("schedule")
}

// after gives the place behind a moment.
func (t Trigger) after(table Timetable, at time.Time) Place {
	next := table.Next(at)
	if next.IsZero() {
		return Place{}
	}
	return Place{next, next.Add(t.jitter(next, table.Next(next)))}
}

// jitter is how much later than scheduled a time fires: less than Jitter, and less than it takes to the time that follows.
func (t Trigger) jitter(at, following time.Time) time.Duration {
	most := t.Jitter
	if !following.IsZero() {
		most = min(most, following.Sub(at))
	}
	if most < time.Millisecond {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.ID))
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix())))
	return time.Duration(h.Sum64()%uint64(most.Milliseconds())) * time.Millisecond
}

// tooLate gives the times that can no more fire: nil when the next one can. A time may be late by the catch-up window, counted from
// when it fires at the latest.
func (t Trigger) tooLate(table Timetable) *Skip {
	first := t.Now.Add(-t.CatchUpWindow - t.Jitter)
	if t.Place.Time.IsZero() || !t.Place.Time.Before(first) {
		return nil
	}
	return &Skip{
		Time: t.Place.Time, Until: until(table, first.Add(-time.Nanosecond)), Reason: orchestrator.SkipCatchUpWindow,
		Message: fmt.Sprintf("it could not fire within the catch-up window of %s: no orchestrator ran, the execution could not be accepted yet, or with overlap QUEUE an earlier one ran on", t.CatchUpWindow),
	}
}

// until ends a skip of all times up to a moment.
func until(table Timetable, at time.Time) time.Time {
	if next := table.Next(at); !next.IsZero() {
		return next
	}
	return at.Add(time.Second)
}

// upcoming gives the scheduled times that fire next, if nothing keeps them from it.
func (t Trigger) upcoming(n int) []time.Time {
	table, err := t.timetable()
	if err != nil || !t.Enabled || t.Place.Time.IsZero() {
		return []time.Time{}
	}
	from := t.Place.Time
	if late := t.tooLate(table); late != nil {
		from = late.Until
	}
	return table.Upcoming(from, n)
}

// changed goes on from what a schedule was, at the moment of the change. Times that are due and not decided stay so, unless the
// schedule was off, or gets another timetable: then they are passed over.
func (t Trigger) changed(was Trigger) (Trigger, error) {
	table, err := t.timetable()
	if err != nil {
		return t, err
	}
	other := t.Cron != was.Cron || t.TimeZone != was.TimeZone
	if !other && (was.Enabled || !t.Enabled) {
		if t.Jitter != was.Jitter && !t.Place.Time.IsZero() {
			t.Place.FireAt = t.Place.Time.Add(t.jitter(t.Place.Time, table.Next(t.Place.Time)))
		}
		return t, nil
	}
	from := was.Now
	if was.Last.After(from) { // only when the database's clock went back
		from = was.Last
	}
	t.Place = t.after(table, from)
	var passed *Skip
	if !was.Place.Time.IsZero() && !was.Place.Time.After(was.Now) {
		passed = &Skip{Time: was.Place.Time, Until: was.Now.Truncate(time.Second).Add(time.Second), Reason: orchestrator.SkipChanged, Message: "its cron or timeZone was changed before it fired"}
		if old, err := was.timetable(); err == nil {
			passed.Until = until(old, was.Now)
		}
		if next := t.Place.Time; !next.IsZero() && next.Before(passed.Until) {
			passed.Until = next
		}
		if !was.Enabled {
			passed.Reason, passed.Message = orchestrator.SkipDisabled, "the schedule was off"
		}
	}
	t.Passed = passed
	return t, nil
}
