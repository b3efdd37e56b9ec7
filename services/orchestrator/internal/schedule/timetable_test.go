package schedule

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"turbocat.io/pkg/form"
)

func table(t testing.TB, expression, zone string) Timetable {
	t.Helper()
	var faults form.Faults
	table := NewTimetable(expression, zone, &faults)
	if err := faults.Err("schedule"); err != nil {
		t.Fatalf("%q in %s: %v", expression, zone, err)
	}
	return table
}

func utc(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestDST has the scheduled times around every kind of change of a zone's clock. All are of UTC.
func TestDST(t *testing.T) {
	for _, c := range []struct {
		name, zone, cron, after string
		want                    []string
	}{
		{
			"no change", "Asia/Kolkata", "30 9 * * *", "2026-03-08 00:00:00",
			[]string{"2026-03-08 04:00:00", "2026-03-09 04:00:00"},
		},
		{
			"a local time that is skipped fires at the first instant after the gap", "Europe/Berlin", "30 2 * * *", "2026-03-28 00:00:00",
			[]string{"2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00"},
		},
		{
			"the ends of the gap", "Europe/Berlin", "0 2,3 * * *", "2026-03-28 12:00:00",
			[]string{"2026-03-29 01:00:00", "2026-03-30 00:00:00", "2026-03-30 01:00:00"},
		},
		{
			"many in the gap are one", "Europe/Berlin", "*/10 * * * *", "2026-03-29 00:45:00",
			[]string{"2026-03-29 00:50:00", "2026-03-29 01:00:00", "2026-03-29 01:10:00"},
		},
		{
			"one that comes twice fires the first time", "Europe/Berlin", "30 2 * * *", "2026-10-24 12:00:00",
			[]string{"2026-10-25 00:30:00", "2026-10-26 01:30:00"},
		},
		{
			"every minute is silent while the hour repeats", "Europe/Berlin", "* * * * *", "2026-10-25 00:58:30",
			[]string{"2026-10-25 00:59:00", "2026-10-25 02:00:00", "2026-10-25 02:01:00"},
		},
		{
			"the ends of what repeats", "Europe/Berlin", "0 2,3 * * *", "2026-10-24 12:00:00",
			[]string{"2026-10-25 00:00:00", "2026-10-25 02:00:00", "2026-10-26 01:00:00"},
		},
		{
			"an interval does not care", "Europe/Berlin", "@every 30m", "2026-10-25 00:15:00",
			[]string{"2026-10-25 00:30:00", "2026-10-25 01:00:00", "2026-10-25 01:30:00", "2026-10-25 02:00:00"},
		},
		{
			"spring in New York", "America/New_York", "30 2 * * *", "2026-03-07 12:00:00",
			[]string{"2026-03-08 07:00:00", "2026-03-09 06:30:00"},
		},
		{
			"autumn in New York", "America/New_York", "30 1 * * *", "2026-10-31 12:00:00",
			[]string{"2026-11-01 05:30:00", "2026-11-02 06:30:00"},
		},
		{
			"asked in the repeated hour itself", "America/New_York", "*/30 * * * *", "2026-11-01 06:10:00",
			[]string{"2026-11-01 07:00:00", "2026-11-01 07:30:00"},
		},
		{
			"seconds in a gap", "America/New_York", "30 59 1,2 * * *", "2026-03-08 06:00:00",
			[]string{"2026-03-08 06:59:30", "2026-03-08 07:00:00", "2026-03-09 05:59:30"},
		},
		{
			"half an hour is skipped", "Australia/Lord_Howe", "15 2 * * *", "2026-10-02 20:00:00",
			[]string{"2026-10-03 15:30:00", "2026-10-04 15:15:00"},
		},
		{
			"just behind the half hour", "Australia/Lord_Howe", "30 2 * * *", "2026-10-02 20:00:00",
			[]string{"2026-10-03 15:30:00", "2026-10-04 15:30:00"},
		},
		{
			"half an hour repeats", "Australia/Lord_Howe", "45 1 * * *", "2026-04-03 20:00:00",
			[]string{"2026-04-04 14:45:00", "2026-04-05 15:15:00"},
		},
		{
			"the hour of which half repeats", "Australia/Lord_Howe", "*/15 * * * *", "2026-04-04 14:20:00",
			[]string{"2026-04-04 14:30:00", "2026-04-04 14:45:00", "2026-04-04 15:30:00", "2026-04-04 15:45:00"},
		},
		{
			"midnight is skipped", "America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00:00",
			[]string{"2018-11-04 03:00:00", "2018-11-05 02:00:00"},
		},
		{
			"midnight is reached twice", "America/Sao_Paulo", "30 23 * * *", "2019-02-16 12:00:00",
			[]string{"2019-02-17 01:30:00", "2019-02-18 02:30:00"},
		},
		{
			"midnight comes twice not", "America/Sao_Paulo", "0 0 * * *", "2019-02-16 12:00:00",
			[]string{"2019-02-17 03:00:00", "2019-02-18 03:00:00"},
		},
		{
			"midnight of one weekday is skipped", "Africa/Cairo", "0 0 * * FRI", "2026-04-20 00:00:00",
			[]string{"2026-04-23 22:00:00", "2026-04-30 21:00:00"},
		},
		{
			"a monthly midnight in a gap", "Africa/Cairo", "@daily", "2026-04-22 22:00:00",
			[]string{"2026-04-23 22:00:00", "2026-04-24 21:00:00"},
		},
		{
			"a day is skipped", "Pacific/Apia", "0 12 * * *", "2011-12-29 00:00:00",
			[]string{"2011-12-29 22:00:00", "2011-12-30 10:00:00", "2011-12-30 22:00:00"},
		},
		{
			"either day field suffices", "UTC", "0 0 13 * FRI", "2026-02-01 00:00:00",
			[]string{"2026-02-06 00:00:00", "2026-02-13 00:00:00", "2026-02-20 00:00:00"},
		},
		{
			"the last of the month", "UTC", "0 0 L * *", "2026-01-15 00:00:00",
			[]string{"2026-01-31 00:00:00", "2026-02-28 00:00:00", "2026-03-31 00:00:00"},
		},
		{
			"the third Friday", "UTC", "0 0 * * FRI#3", "2026-01-01 00:00:00",
			[]string{"2026-01-16 00:00:00", "2026-02-20 00:00:00"},
		},
		{
			"29 February over a century without it", "UTC", "0 0 29 2 *", "2096-03-01 00:00:00",
			[]string{"2104-02-29 00:00:00"},
		},
		{
			"intervals are multiples since 1970", "Asia/Kolkata", "@every 7m", "2026-01-01 00:00:00",
			[]string{"2026-01-01 00:07:00", "2026-01-01 00:14:00"},
		},
	} {
		times := table(t, c.cron, c.zone).Upcoming(utc(t, c.after).Add(time.Nanosecond), len(c.want))
		got := make([]string, len(times))
		for i, at := range times {
			got[i] = at.Format("2006-01-02 15:04:05")
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %s in %s after %s\n got %v\nwant %v", c.name, c.cron, c.zone, c.after, got, c.want)
		}
	}
}

func TestTimetableIsRefused(t *testing.T) {
	for _, c := range []struct{ cron, zone, field, says string }{
		{"0 0 30 2 *", "UTC", "cron", "never due"},
		{"0 0 31 4,6,9,11 *", "UTC", "cron", "never due"},
		{"* * *", "UTC", "cron", "five fields"},
		{"* * * * * * *", "UTC", "cron", "five fields"},
		{"61 * * * *", "UTC", "cron", "61"},
		{"TZ=Europe/Berlin 0 9 * * *", "UTC", "cron", "timeZone"},
		{"CRON_TZ= 0 9 * * *", "UTC", "cron", "timeZone"},
		{", * * * * *", "UTC", "cron", "no value"},
		{"@reboot", "UTC", "cron", "no cron expression"},
		{"@every 500ms", "UTC", "cron", "whole seconds"},
		{"@every 1500ms", "UTC", "cron", "whole seconds"},
		{"@every -5s", "UTC", "cron", "whole seconds"},
		{"@every 9000h", "UTC", "cron", "whole seconds"},
		{"@every x", "UTC", "cron", "no interval"},
		{strings.Repeat("1,", 100) + "1 * * * *", "UTC", "cron", "at most 200"},
		{"0 9 * * *", "Local", "timeZone", "Europe/Berlin"},
		{"0 9 * * *", "Europe/Nowhere", "timeZone", "IANA"},
		{"0 9 * * *", "../../etc/passwd", "timeZone", "IANA"},
		{"0 9 * * *", "", "timeZone", "IANA"},
	} {
		var faults form.Faults
		NewTimetable(c.cron, c.zone, &faults)
		err := faults.Err("schedule")
		if err == nil || !strings.Contains(err.Error(), c.field) && !strings.Contains(detail(err), c.field) || !strings.Contains(detail(err), c.says) {
			t.Errorf("%q in %q: %v (%s)", c.cron, c.zone, err, detail(err))
		}
	}
}

// zones have all kinds of changes of the clock.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia", "Asia/Kolkata", "Africa/Casablanca", "Antarctica/Troll",
}

// TestTimesGrow wants the times of every timetable to grow, each to be one that the clock on the wall shows or a gap's end, none to be
// left out between two, and a question from any moment between two to have the same answer.
func TestTimesGrow(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		expression := rapid.SampledFrom([]string{
			"* * * * *", "*/10 * * * *", "30 2 * * *", "0 0 * * *", "0 0-3 * * *", "15,45 1,2 * * SUN", "0 0 1 * *", "*/7 * * * * *", "59 59 * * * *", "0 2 L * *", "@hourly", "@weekly", "@every 90m",
		}).Draw(r, "cron")
		zone := rapid.SampledFrom(zones).Draw(r, "zone")
		plan := table(t, expression, zone)
		changes := []time.Time{
			utc(t, "2026-03-29 00:30:00"), utc(t, "2026-10-25 00:30:00"), utc(t, "2026-03-08 06:00:00"), utc(t, "2026-11-01 05:00:00"), utc(t, "2026-10-03 14:00:00"),
			utc(t, "2026-04-04 14:00:00"), utc(t, "2018-11-04 02:00:00"), utc(t, "2019-02-17 01:00:00"), utc(t, "2026-04-23 21:00:00"), utc(t, "2026-10-29 20:00:00"),
			utc(t, "2011-12-30 00:00:00"),
		}
		at := rapid.SampledFrom(changes).Draw(r, "near").Add(time.Duration(rapid.Int64Range(-7200e9, 7200e9).Draw(r, "off")))
		for range 20 {
			next := plan.Next(at)
			if !next.After(at) {
				r.Fatalf("after %s comes %s", at, next)
			}
			between := at.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(at))-1).Draw(r, "between")))
			if again := plan.Next(between); !again.Equal(next) {
				r.Fatalf("after %s comes %s, after %s comes %s", at, next, between, again)
			}
			if plan.every == 0 {
				if wall := plan.onWall(next); !plan.wall.Next(wall.Add(-time.Second)).Equal(wall) {
					if gap := plan.onWall(next.Add(-time.Nanosecond)); wall.Sub(gap) < time.Minute {
						r.Fatalf("%s is %s on the wall, which is not of %s, and no gap ends there", next, wall, expression)
					}
				}
			}
			at = next
		}
	})
}

func FuzzTimetable(f *testing.F) {
	for _, seed := range [][2]string{
		{"0 9 * * MON-FRI", "Europe/Berlin"},
		{"*/5 * * * * *", "UTC"},
		{"@every 1s", "UTC"},
		{"0 0 30 2 *", "UTC"},
		{"0 0 LW * ?", "Africa/Cairo"},
		{"0 0 * * 1#5", "UTC"},
		{"CRON_TZ=", "UTC"},
		{"TZ=0", "UTC"},
		{"@yearly", "America/New_York"},
		{"0 0 31W 2 *", "Local"},
		{"22-2 * * * *", "UTC"},
		{"0 0 * * 7", "../UTC"},
	} {
		f.Add(seed[0], seed[1])
	}
	from := time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, expression, zone string) {
		var faults form.Faults
		plan := NewTimetable(expression, zone, &faults)
		if faults.Err("schedule") != nil {
			return
		}
		at := from
		for range 5 {
			next := plan.Next(at)
			if next.IsZero() {
				if at.Equal(from) && from.Year() < 2090 {
					t.Fatalf("%q in %s was taken and is never due", expression, zone)
				}
				return
			}
			if !next.After(at) || next.Nanosecond() != 0 {
				t.Fatalf("%q in %s: after %s comes %s", expression, zone, at, next)
			}
			at = next
		}
	})
}
