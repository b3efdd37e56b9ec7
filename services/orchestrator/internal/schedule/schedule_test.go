package schedule

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/services/orchestrator/internal/trigger"
)

func detail(err error) string {
	var e *errs.Error
	if !errors.As(err, &e) {
		return ""
	}
	text := ""
	for _, d := range e.Details {
		text += d.Field + ": " + d.Message + "\n"
	}
	return text
}

// base is what a trigger is made with.
var base = trigger.Base{ID: "t", Type: orchestrator.TriggerTypeSchedule, Enabled: true}

func TestBodies(t *testing.T) {
	made, err := newTrigger(base, json.RawMessage(`{"name":"n","type":"SCHEDULE","cron":"0 9 * * *"}`))
	if err != nil || !made.Enabled || made.TimeZone != "UTC" || made.Overlap != orchestrator.OverlapSkip || made.CatchUpWindow != 10*time.Minute || made.Jitter != 0 ||
		string(made.Inputs) != "{}" || made.Priority != nil {
		t.Errorf("%+v, %v", made, err)
	}
	changed, err := made.patched(json.RawMessage(`{"enabled":false,"priority":0,"overlap":"QUEUE","catchUpWindowMs":10000,"jitterMs":5,"inputs":{"a":"{{x}}"},"timeZone":"Asia/Tokyo","id":"x","lastFiredAt":null}`))
	if err != nil || changed.Enabled || changed.Priority == nil || *changed.Priority != 0 || changed.Overlap != orchestrator.OverlapQueue || changed.CatchUpWindow != 10*time.Second ||
		changed.Jitter != 5*time.Millisecond || string(changed.Inputs) != `{"a":"{{x}}"}` || changed.TimeZone != "Asia/Tokyo" || changed.Name != "n" {
		t.Errorf("%+v, %v", changed, err)
	}
	back, err := changed.patched(json.RawMessage(`{"priority":null,"overlap":null,"catchUpWindowMs":null,"inputs":null,"timeZone":null,"enabled":null}`))
	if err != nil || back.Priority != nil || back.Overlap != orchestrator.OverlapSkip || back.CatchUpWindow != 10*time.Minute || string(back.Inputs) != "{}" || back.TimeZone != "UTC" || !back.Enabled {
		t.Errorf("%+v, %v", back, err)
	}
	for body, says := range map[string]string{
		`{}`: "name: is required; add it\ntype: is required; add it\ncron: is required; add it",
		`{"name":"n","type":"CRON","cron":"@daily"}`: "type: is \"CRON\"; give one of SCHEDULE",
		`{"name":"","type":"SCHEDULE","cron":"@daily","x":1,"overlap":"x","catchUpWindowMs":9999,"jitterMs":86400001,"priority":10,"inputs":[],"enabled":"y"}`: "catchUpWindowMs: is 9999; give a whole number from 10000 to 604800000",
		`{"name":"n","type":"SCHEDULE","cron":"@daily","catchUpWindowMs":604800001}`:                                                                           "catchUpWindowMs",
		`{"name":"n","type":"SCHEDULE","cron":"@daily","inputs":{"a":[{"b":"x {{secrets.KEY}}"}]}}`:                                                            "inputs.a[0].b: secrets are not for the inputs of a trigger",
		`{"name":"n","type":"SCHEDULE","cron":"@daily","inputs":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`:                                                   "inputs: have 1048584 bytes; give at most 1048576",
		`{"name":"n","type":"SCHEDULE","cron":"0 0 30 2 *","timeZone":"Mars/Olympus"}`:                                                                         "never due",
		`[]`: "an array",
	} {
		if _, err := newTrigger(base, json.RawMessage(body)); !strings.Contains(detail(err), says) {
			t.Errorf("%.80s: %v\n%s", body, err, detail(err))
		}
	}
	if _, err := made.patched(json.RawMessage(`{"cron":null,"name":null}`)); !strings.Contains(detail(err), "cron: is required") {
		t.Errorf("%v", err)
	}
	if _, err := newPreview(json.RawMessage(`{"cron":"@daily","timeZone":"x","jitterMs":5}`)); !strings.Contains(detail(err), "jitterMs") || !strings.Contains(detail(err), "timeZone") {
		t.Errorf("%v", err)
	}
}

// A schedule of the tests. Its clock stands at some noon.
func at(t testing.TB, expression string, change func(*Trigger)) Trigger {
	s := Trigger{Base: base, Cron: expression, TimeZone: "UTC", Overlap: orchestrator.OverlapSkip, CatchUpWindow: time.Minute}
	s.Now = utc(t, "2026-06-01 12:00:00")
	if change != nil {
		change(&s)
	}
	s.Place = s.after(table(t, s.Cron, s.TimeZone), s.Now)
	return s
}

// Jitter is the same whenever it is asked for, differs between schedules and times, and keeps times in their order.
func TestJitter(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		expression := rapid.SampledFrom([]string{"* * * * * *", "*/5 * * * *", "0 2 * * *", "@every 3s"}).Draw(r, "cron")
		s := at(t, expression, func(s *Trigger) {
			s.ID, s.TimeZone = rapid.String().Draw(r, "id"), "Europe/Berlin"
			s.Jitter = time.Duration(rapid.Int64Range(0, maxJitter.Milliseconds()).Draw(r, "jitter")) * time.Millisecond
		})
		plan := table(t, s.Cron, s.TimeZone)
		place := s.Place
		for range 20 {
			next := s.after(plan, place.Time)
			late := place.FireAt.Sub(place.Time)
			if late < 0 || late > 0 && late >= s.Jitter || !place.FireAt.Before(next.Time) {
				r.Fatalf("%s fires at %s, the one after it is %s; jitter %s", place.Time, place.FireAt, next.Time, s.Jitter)
			}
			if again := s.after(plan, next.Time.Add(-time.Nanosecond)); again != next {
				r.Fatalf("%v and %v", again, next)
			}
			place = next
		}
	})
	seen := map[time.Duration]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		s := at(t, "@daily", func(s *Trigger) { s.ID, s.Jitter = id, time.Hour })
		seen[s.Place.FireAt.Sub(s.Place.Time)] = true
	}
	if len(seen) < 6 {
		t.Errorf("eight schedules have the jitters %v", seen)
	}
}

func TestChanges(t *testing.T) {
	now := utc(t, "2026-06-01 12:00:30")
	type want struct {
		place  string // the time of
		reason string // of the skip; "" for none
		until  string
	}
	for _, c := range []struct {
		name   string
		was    func(*Trigger)
		change func(*Trigger)
		want   want
	}{
		{"the name", nil, func(s *Trigger) { s.Name = "x" }, want{"12:01:00", "", ""}},
		{"the name while it is due", func(s *Trigger) { s.Place.Time = utc(t, "2026-06-01 12:00:00") }, func(s *Trigger) { s.Name = "x" }, want{"12:00:00", "", ""}},
		{"off", nil, func(s *Trigger) { s.Enabled = false }, want{"12:01:00", "", ""}},
		{"off while it is due", func(s *Trigger) { s.Place.Time = utc(t, "2026-06-01 12:00:00") }, func(s *Trigger) { s.Enabled = false }, want{"12:00:00", "", ""}},
		{"on before it was due", func(s *Trigger) { s.Enabled = false }, func(s *Trigger) { s.Enabled = true }, want{"12:01:00", "", ""}},
		{
			"on after a while", func(s *Trigger) { s.Enabled = false; s.Place.Time = utc(t, "2026-06-01 10:00:00") }, func(s *Trigger) { s.Enabled = true },
			want{"12:01:00", orchestrator.SkipDisabled, "12:01:00"},
		},
		{"another interval", nil, func(s *Trigger) { s.Cron = "@every 7s" }, want{"12:00:36", "", ""}},
		{
			"another interval while it is due", func(s *Trigger) { s.Place.Time = utc(t, "2026-06-01 12:00:00") }, func(s *Trigger) { s.Cron = "0 * * * *" },
			want{"13:00:00", orchestrator.SkipChanged, "12:01:00"},
		},
		{
			"a shorter interval while it is due", func(s *Trigger) { s.Place.Time = utc(t, "2026-06-01 12:00:00") }, func(s *Trigger) { s.Cron = "@every 7s" },
			want{"12:00:36", orchestrator.SkipChanged, "12:00:36"},
		},
		{
			"another interval while it is off", func(s *Trigger) { s.Enabled = false; s.Place.Time = utc(t, "2026-06-01 11:00:00") }, func(s *Trigger) { s.Cron = "0 * * * *" },
			want{"13:00:00", orchestrator.SkipDisabled, "12:01:00"},
		},
		{"another zone", nil, func(s *Trigger) { s.TimeZone = "Asia/Kolkata"; s.Cron = "0 18 * * *" }, want{"12:30:00", "", ""}},
		{
			"another interval, and the clock went back", func(s *Trigger) { s.Last = utc(t, "2026-06-01 12:10:00"); s.Place.Time = utc(t, "2026-06-01 12:11:00") },
			func(s *Trigger) { s.Cron = "@every 5m" },
			want{"12:15:00", "", ""},
		},
	} {
		was := at(t, "* * * * *", nil)
		was.Now = now
		if c.was != nil {
			c.was(&was)
		}
		next := was
		c.change(&next)
		got, err := next.changed(was)
		skip := got.Passed
		if err != nil {
			t.Fatal(err)
		}
		g := want{place: got.Place.Time.Format("15:04:05")}
		if skip != nil {
			g.reason, g.until = skip.Reason, skip.Until.Format("15:04:05")
			if !skip.Time.Equal(was.Place.Time) {
				t.Errorf("%s: the skip begins at %s", c.name, skip.Time)
			}
		}
		if g != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, g, c.want)
		}
	}
	jittered := at(t, "* * * * *", nil)
	more := jittered
	more.Jitter = time.Minute
	if got, err := more.changed(jittered); err != nil || got.Place.FireAt.Equal(got.Place.Time) || !got.Place.Time.Equal(jittered.Place.Time) {
		t.Errorf("more jitter: %+v, %v", got.Place, err)
	}
}

func TestTooLate(t *testing.T) {
	s := at(t, "* * * * * *", func(s *Trigger) { s.Jitter = 10 * time.Second })
	plan := table(t, s.Cron, s.TimeZone)
	for away, missed := range map[time.Duration]time.Duration{
		0: 0, 71 * time.Second: 0, 72 * time.Second: time.Second, time.Hour: time.Hour - 71*time.Second, 365 * 24 * time.Hour: 365*24*time.Hour - 71*time.Second,
	} {
		late := s
		late.Now = s.Now.Add(away)
		skip := late.tooLate(plan)
		if skip == nil {
			skip = &Skip{Time: late.Place.Time, Until: late.Place.Time}
		}
		if got := skip.Until.Sub(skip.Time); got != missed || !skip.Time.Equal(s.Place.Time) {
			t.Errorf("after %s %s are missed, from %s on, want %s", away, got, skip.Time, missed)
		}
		if first := late.upcoming(1)[0]; !first.Equal(skip.Until) {
			t.Errorf("after %s the next is %s, not %s", away, first, skip.Until)
		}
	}
	off := s
	off.Enabled = false
	if times := off.upcoming(5); len(times) > 0 {
		t.Errorf("one that is off fires at %v", times)
	}
}

// What is shown as next is what comes next, over any number of decisions.
func TestPreviewIsWhatFires(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := at(t, rapid.SampledFrom([]string{"* * * * * *", "30 2 * * *", "*/20 1-3 * * *", "@every 45m"}).Draw(r, "cron"), func(s *Trigger) {
			s.TimeZone = rapid.SampledFrom(zones).Draw(r, "zone")
			s.Jitter = time.Duration(rapid.IntRange(0, 100_000).Draw(r, "jitter")) * time.Millisecond
			s.Now = utc(t, "2026-03-01 00:00:00").Add(time.Duration(rapid.IntRange(0, 300*24*3600).Draw(r, "s")) * time.Second)
		})
		plan := table(t, s.Cron, s.TimeZone)
		shown := s.upcoming(20)
		for i, want := range shown {
			if !s.Place.Time.Equal(want) {
				r.Fatalf("the %dth is %s, shown was %s", i, s.Place.Time, want)
			}
			s.Place = s.after(plan, s.Place.Time)
		}
	})
}
