package schedule

import (
	"errors"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // images without zones have them too

	"github.com/netresearch/go-cron"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
)

const (
	maxCron = 200
	// searchYears is how far a next time may be away: from one 29 February to the next over a century without it.
	searchYears = 10
	// Bounds of @every.
	minEvery = time.Second
	maxEvery = 366 * 24 * time.Hour
)

// syntax is standard cron, with seconds as an optional first field. Where both day fields are restricted one of them suffices, as in
// every cron since Vixie's. L, W and # name the last and the nth of a month.
var syntax = cron.MustNewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor |
	cron.DowOrDom | cron.Extended).WithMaxSearchYears(searchYears)

// Timetable says at which times a schedule is due. Two of the same expression and zone are the same: their times do not depend on when
// they were made. It is safe for concurrent use.
type Timetable struct {
	wall  cron.Schedule // on the clock on the wall of zone, which is counted as if it were UTC's
	zone  *time.Location
	every time.Duration // instead of wall, when not 0: its multiples since 1970
}

// NewTimetable reads a cron expression and the name of a zone, and notes what is wrong with them.
func NewTimetable(expression, zone string, faults *form.Faults) Timetable {
	t := Timetable{zone: location(zone, faults)}
	switch {
	case len(expression) > maxCron:
		faults.Add("cron", errs.OutOfRange, "has %d bytes; give at most %d", len(expression), maxCron)
		return t
	case strings.Contains(expression, "TZ="):
		faults.Add("cron", errs.BadValue, "names a time zone; give that as timeZone")
		return t
	}
	if interval, ok := strings.CutPrefix(expression, "@every "); ok {
		every, err := time.ParseDuration(interval)
		if err != nil || every < minEvery || every > maxEvery || every%time.Second != 0 {
			faults.Add("cron", errs.OutOfRange, "is no interval from %s to %s in whole seconds; give one like \"@every 15m\"", minEvery, maxEvery)
		}
		t.every = every
		return t
	}
	parsed, err := syntax.Parse(expression)
	if err == nil && emptyField(parsed) {
		err = errors.New("a field of it has no value")
	}
	if err != nil {
		faults.Add("cron", errs.BadValue, "is no cron expression (%s); give five fields like \"0 9 * * MON-FRI\", six with seconds first, @hourly, @daily, @weekly, @monthly, @yearly, or an interval like \"@every 15m\"", err)
		return t
	}
	t.wall = parsed
	if parsed.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		faults.Add("cron", errs.BadValue, "is never due, like the 30th of February; give days that there are")
	}
	return t
}

// emptyField tells whether a field names nothing, as "," does, which the parser lets pass: the search for a time would be a long one.
func emptyField(parsed cron.Schedule) bool {
	s, ok := parsed.(*cron.SpecSchedule)
	const star = 1 << 63
	return !ok || slices.Contains([]uint64{s.Second &^ star, s.Minute &^ star, s.Hour &^ star, s.Month &^ star}, 0)
}

// location finds a zone by its name in the IANA database.
func location(name string, faults *form.Faults) *time.Location {
	if name != "Local" && name != "" { // to Go, the zone of this machine, and UTC
		if zone, err := time.LoadLocation(name); err == nil {
			return zone
		}
	}
	faults.Add("timeZone", errs.BadValue, "%s is no time zone; give the name of one in the IANA database, like \"Europe/Berlin\" or \"UTC\"", form.Quote(name))
	return time.UTC
}

// Next gives the first scheduled time after a moment; zero when there is none. A local time that does not exist, because the clock was
// set forward over it, is the first moment after that; one that comes twice is the first of both.
func (t Timetable) Next(after time.Time) time.Time {
	if t.every > 0 {
		n := int64(t.every / time.Second)
		at := after.Unix()
		if after.Before(time.Unix(0, 0)) {
			at = -n
		}
		return time.Unix((at/n+1)*n, 0).UTC()
	}
	for wall := t.onWall(after); ; {
		if wall = t.wall.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if next := t.instant(wall); next.After(after) {
			return next
		}
	}
}

// onWall gives what the clock on the wall shows at a moment, as a time of UTC.
func (t Timetable) onWall(at time.Time) time.Time {
	_, offset := at.In(t.zone).Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// instant gives the first moment at which the clock on the wall shows a time or, where it jumps over that, a later one.
func (t Timetable) instant(wall time.Time) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, t.zone)
	from, until := at.ZoneBounds()
	switch shown := t.onWall(at); {
	case shown.After(wall): // in a gap, by the offset before it
		return from.UTC()
	case shown.Before(wall): // in a gap, by the offset after it
		return until.UTC()
	case from.IsZero():
		return at.UTC()
	}
	_, before := from.Add(-time.Second).Zone()
	if first := wall.Add(-time.Duration(before) * time.Second); first.Before(from) {
		return first.UTC()
	}
	return at.UTC()
}

// Upcoming gives the first n scheduled times from a moment on; fewer when there are no more.
func (t Timetable) Upcoming(from time.Time, n int) []time.Time {
	times := make([]time.Time, 0, n)
	for at := from.Add(-time.Nanosecond); len(times) < n; {
		if at = t.Next(at); at.IsZero() {
			break
		}
		times = append(times, at)
	}
	return times
}
