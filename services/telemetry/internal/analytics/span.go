package analytics

import (
	"slices"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/dates"
	"turbocat.io/pkg/form"
)

// defaultSpan is how long the time is that nobody says the beginning of.
const defaultSpan = 30 * 24 * time.Hour

// Span is a time that figures are asked for, in buckets of an interval of a time zone.
type Span struct {
	From, To time.Time
	Interval string
	Zone     *time.Location
	Buckets  []time.Time // when each begins; the first may have begun before From
}

// earliest is before everything that is counted. What is further back has no zones worth the name.
var earliest, latest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// ParseSpan reads the time of a request. From and To are rounded to quarters of an hour, so that all between them counts.
func ParseSpan(req telemetry.MetricsRequest, now time.Time, faults *form.Faults) Span {
	s := Span{To: now, Interval: telemetry.IntervalDay, Zone: time.UTC}
	if req.Interval != "" {
		s.Interval = req.Interval
	}
	if !slices.Contains(telemetry.Intervals(), s.Interval) {
		faults.Add("interval", errs.BadEnum, "is %s; give hour, day, week or month", form.Quote(req.Interval))
		s.Interval = ""
	}
	if req.TimeZone != "" {
		zone, err := dates.ParseZone(req.TimeZone)
		if err != nil {
			faults.Add("timeZone", errs.BadValue, "%s", err)
		} else {
			s.Zone = zone
		}
	}
	if req.To != nil {
		s.To = *req.To
	}
	s.From = s.To.Add(-defaultSpan)
	if req.From != nil {
		s.From = *req.From
	}
	within := true
	for _, at := range []struct {
		field string
		time  time.Time
	}{{"from", s.From}, {"to", s.To}} {
		if at.time.Before(earliest) || at.time.After(latest) {
			faults.Add(at.field, errs.OutOfRange, "is %s; give a time from 2000 to 2199", at.time.Format(time.RFC3339))
			within = false
		}
	}
	if !within || s.Interval == "" {
		return s
	}
	if !s.From.Before(s.To) {
		faults.Add("from", errs.OutOfRange, "is not before to, %s; give an earlier from, or a later to", s.To.UTC().Format(time.RFC3339))
		return s
	}
	s.From = s.From.UTC().Truncate(telemetry.MetricsGrain)
	if to := s.To.UTC().Truncate(telemetry.MetricsGrain); to.Before(s.To) {
		s.To = to.Add(telemetry.MetricsGrain)
	} else {
		s.To = to
	}
	for at := s.begin(s.From); at.Before(s.To); at = s.next(at) {
		if len(s.Buckets) == telemetry.MaxBuckets {
			faults.Add("interval", errs.OutOfRange, "gives more than %d buckets from %s to %s; give a longer interval, or less time", telemetry.MaxBuckets, s.From.Format(time.RFC3339), s.To.Format(time.RFC3339))
			return s
		}
		s.Buckets = append(s.Buckets, at)
	}
	return s
}

// begin gives when the bucket begins that a time is in.
func (s Span) begin(t time.Time) time.Time {
	local := t.In(s.Zone)
	y, m, d := local.Date()
	switch s.Interval {
	case telemetry.IntervalHour:
		begun := t.Add(-time.Duration(local.Minute())*time.Minute - time.Duration(local.Second())*time.Second - time.Duration(local.Nanosecond()))
		if changed, _ := local.ZoneBounds(); changed.After(begun) {
			begun = changed // the clock was set within the hour, which begins anew
		}
		return quarter(begun)
	case telemetry.IntervalWeek:
		d -= (int(local.Weekday()) + 6) % 7
	case telemetry.IntervalMonth:
		d = 1
	}
	return quarter(midnight(y, m, d, s.Zone))
}

// next gives when the bucket ends that begins at a time.
func (s Span) next(t time.Time) time.Time {
	y, m, d := t.In(s.Zone).Date()
	for n := 1; ; n++ { // islands have left out a day to be on the other side of the date line
		var next time.Time
		switch s.Interval {
		case telemetry.IntervalHour:
			next = s.begin(t.Add(time.Duration(n) * time.Hour))
		case telemetry.IntervalWeek:
			next = midnight(y, m, d+7*n, s.Zone)
		case telemetry.IntervalMonth:
			next = midnight(y, m+time.Month(n), 1, s.Zone)
		default:
			next = midnight(y, m, d+n, s.Zone)
		}
		if next = quarter(next); next.After(t) {
			return next
		}
	}
}

// quarter is for zones of long ago, whose clocks were not set by quarters of an hour.
func quarter(t time.Time) time.Time { return t.UTC().Truncate(telemetry.MetricsGrain) }

// midnight gives the first instant of a day. A day that begins twice, because the clock is set back over midnight, begins the first time; one
// whose midnight is left out begins when the clock is set.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	noon := time.Date(y, m, d, 12, 0, 0, 0, zone)
	_, offset := noon.Zone()
	wall := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	begins := wall.Add(-time.Duration(offset) * time.Second)
	changed, _ := noon.ZoneBounds()
	if changed.IsZero() {
		return begins
	}
	_, before := changed.Add(-time.Second).Zone()
	if earlier := wall.Add(-time.Duration(before) * time.Second); earlier.Before(changed) {
		return earlier
	}
	if begins.Before(changed) {
		return changed
	}
	return begins
}

// Part is a time that rows of one grain make up, of a bucket.
type Part struct {
	Bucket   int
	Grain    Grain
	From, To int64 // in seconds of Unix
}

// Parts gives what each bucket is made of: as few rows as can be.
func (s Span) Parts() []Part {
	var parts []Part
	for i := range s.Buckets {
		from, to := s.bounds(i)
		parts = appendParts(parts, i, from.Unix(), to.Unix(), Day)
	}
	return parts
}

// Whole gives what the time as a whole is made of.
func (s Span) Whole() []Part { return appendParts(nil, 0, s.From.Unix(), s.To.Unix(), Day) }

func (s Span) bounds(bucket int) (from, to time.Time) {
	from, to = s.Buckets[bucket], s.To
	if bucket+1 < len(s.Buckets) {
		to = s.Buckets[bucket+1]
	}
	if from.Before(s.From) {
		from = s.From
	}
	return from, to
}

func appendParts(parts []Part, bucket int, from, to int64, g Grain) []Part {
	if from >= to {
		return parts
	}
	length := int64(g.Length() / time.Second)
	first, last := (from+length-1)/length*length, to/length*length
	if g == Quarter || first >= last {
		if g == Quarter {
			return append(parts, Part{bucket, g, from, to})
		}
		return appendParts(parts, bucket, from, to, g-1)
	}
	parts = appendParts(parts, bucket, from, first, g-1)
	parts = append(parts, Part{bucket, g, first, last})
	return appendParts(parts, bucket, last, to, g-1)
}
