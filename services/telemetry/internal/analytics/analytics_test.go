package analytics_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/form"
	"turbocat.io/services/telemetry/internal/analytics"
	"turbocat.io/services/telemetry/internal/feed"
)

var noon = time.Date(2026, 11, 24, 12, 7, 0, 0, time.UTC)

func at(text string) *time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &t
}

func span(t testing.TB, req telemetry.MetricsRequest) analytics.Span {
	t.Helper()
	var faults form.Faults
	s := analytics.ParseSpan(req, noon, &faults)
	if err := faults.Err("query"); err != nil {
		t.Fatal(errs.From(err).Details)
	}
	return s
}

// TestBucketsBeginWhenTheirTimeDoes has clocks that are set forward and back, at midnight too, zones of half and quarter hours, and a day that was left out.
func TestBucketsBeginWhenTheirTimeDoes(t *testing.T) {
	for name, c := range map[string]struct {
		zone, interval, from, to, want string
	}{
		"days in spring":             {"Europe/Berlin", "day", "2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00", "03-27T23:00 03-28T23:00 03-29T22:00"},
		"days in autumn":             {"Europe/Berlin", "day", "2026-10-24T00:00:00+02:00", "2026-10-27T00:00:00+01:00", "10-23T22:00 10-24T22:00 10-25T23:00"},
		"hours in spring":            {"Europe/Berlin", "hour", "2026-03-29T00:30:00Z", "2026-03-29T02:30:00Z", "03-29T00:00 03-29T01:00 03-29T02:00"},
		"hours in autumn":            {"Europe/Berlin", "hour", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", "10-25T00:00 10-25T01:00"},
		"half an hour":               {"Australia/Lord_Howe", "hour", "2026-04-04T13:00:00Z", "2026-04-04T17:00:00Z", "04-04T13:00 04-04T14:00 04-04T15:00 04-04T15:30 04-04T16:30"},
		"half an hour forward":       {"Australia/Lord_Howe", "hour", "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z", "10-03T14:30 10-03T15:30 10-03T16:00"},
		"no midnight":                {"Africa/Cairo", "day", "2026-04-23T00:00:00+02:00", "2026-04-26T00:00:00+03:00", "04-22T22:00 04-23T22:00 04-24T21:00"},
		"midnight twice":             {"Atlantic/Azores", "day", "2026-10-24T00:00:00Z", "2026-10-26T01:00:00-01:00", "10-24T00:00 10-25T00:00 10-26T01:00"},
		"a quarter of an hour":       {"Asia/Kathmandu", "day", "2026-11-01T00:00:00+05:45", "2026-11-03T00:00:00+05:45", "10-31T18:15 11-01T18:15"},
		"weeks":                      {"Asia/Kolkata", "week", "2026-11-10T00:00:00Z", "2026-11-24T00:00:00Z", "11-08T18:30 11-15T18:30 11-22T18:30"},
		"months":                     {"America/New_York", "month", "2026-10-15T00:00:00Z", "2026-12-15T00:00:00Z", "10-01T04:00 11-01T04:00 12-01T05:00"},
		"a day that was left out":    {"Pacific/Apia", "day", "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z", "12-29T10:00 12-30T10:00 12-31T10:00"},
		"from the middle of an hour": {"UTC", "hour", "2026-11-24T10:50:00Z", "2026-11-24T12:01:00Z", "11-24T10:00 11-24T11:00 11-24T12:00"},
	} {
		t.Run(name, func(t *testing.T) {
			s := span(t, telemetry.MetricsRequest{From: at(c.from), To: at(c.to), Interval: c.interval, TimeZone: c.zone})
			var got []string
			for _, b := range s.Buckets {
				got = append(got, b.UTC().Format("01-02T15:04"))
			}
			if is := strings.Join(got, " "); is != c.want {
				t.Errorf("they begin %s, not %s", is, c.want)
			}
		})
	}
}

// TestPartsMakeUpTheirTime holds of any time in any zone that its parts have each quarter of an hour once, in few rows.
func TestPartsMakeUpTheirTime(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Cairo", "America/Havana", "Africa/Casablanca"}
	rapid.Check(t, func(r *rapid.T) {
		from := time.Unix(rapid.Int64Range(1_000_000_000, 2_000_000_000).Draw(r, "from"), 0)
		interval := rapid.SampledFrom(telemetry.Intervals()).Draw(r, "interval")
		most := map[string]time.Duration{"hour": 100 * time.Hour, "day": 90 * 24 * time.Hour, "week": 500 * 24 * time.Hour, "month": 900 * 24 * time.Hour}[interval]
		to := from.Add(time.Duration(rapid.Int64Range(1, int64(most)).Draw(r, "length")))
		var faults form.Faults
		s := analytics.ParseSpan(telemetry.MetricsRequest{From: &from, To: &to, Interval: interval, TimeZone: rapid.SampledFrom(zones).Draw(r, "zone")}, noon, &faults)
		if err := faults.Err("query"); err != nil {
			r.Fatal(errs.From(err).Details)
		}
		if s.From.After(from) || s.To.Before(to) || s.From.Unix()%900 != 0 || s.To.Unix()%900 != 0 {
			r.Fatalf("%v to %v became %v to %v", from, to, s.From, s.To)
		}
		for name, parts := range map[string][]analytics.Part{"buckets": s.Parts(), "whole": s.Whole()} {
			next, bucket := s.From.Unix(), 0
			for _, p := range parts {
				length := int64(p.Grain.Length() / time.Second)
				if p.From != next || p.To <= p.From || p.From%length != 0 || p.To%length != 0 || p.Bucket < bucket {
					r.Fatalf("%s: behind %d comes %+v", name, next, p)
				}
				next, bucket = p.To, p.Bucket
			}
			if next != s.To.Unix() || bucket > len(s.Buckets) || name == "whole" && len(parts) > 5 || len(parts) > 5*len(s.Buckets) {
				r.Fatalf("%s: %d parts of %d buckets end at %d, not %v", name, len(parts), len(s.Buckets), next, s.To)
			}
		}
	})
}

func TestFaultsOfATime(t *testing.T) {
	var faults form.Faults
	analytics.ParseSpan(telemetry.MetricsRequest{From: at("1999-01-01T00:00:00Z"), To: at("2300-01-01T00:00:00Z"), Interval: "minute", TimeZone: "Mars/Olympus"}, noon, &faults)
	err := errs.From(faults.Err("query"))
	if len(err.Details) != 4 {
		t.Errorf("it has the faults %+v", err.Details)
	}
	for name, c := range map[string]struct {
		req   telemetry.MetricsRequest
		field string
	}{
		"to before from": {telemetry.MetricsRequest{From: at("2026-01-02T00:00:00Z"), To: at("2026-01-01T00:00:00Z")}, "from"},
		"no time":        {telemetry.MetricsRequest{From: at("2026-01-02T00:00:00Z"), To: at("2026-01-02T00:00:00Z")}, "from"},
		"too many":       {telemetry.MetricsRequest{From: at("2026-01-01T00:00:00Z"), To: at("2026-02-01T06:01:00Z"), Interval: "hour"}, "interval"},
	} {
		var faults form.Faults
		analytics.ParseSpan(c.req, noon, &faults)
		if err := errs.From(faults.Err("query")); len(err.Details) != 1 || err.Details[0].Field != c.field {
			t.Errorf("%s: %+v", name, err.Details)
		}
	}
	if s := span(t, telemetry.MetricsRequest{From: at("2026-01-01T00:00:00Z"), To: at("2026-02-01T06:00:00Z"), Interval: "hour"}); len(s.Buckets) != telemetry.MaxBuckets {
		t.Errorf("it has %d buckets", len(s.Buckets))
	}
	if s := span(t, telemetry.MetricsRequest{}); s.To.Sub(noon) != 8*time.Minute || len(s.Buckets) != 31 {
		t.Errorf("by default it is %+v", s)
	}
}

// memory has rows as the table has them.
type memory map[analytics.Key]analytics.Row

func (m memory) Rows(_ context.Context, of analytics.Series, parts []analytics.Part, add func(int, string, analytics.Row) error) error {
	for _, p := range parts {
		for key, row := range m {
			if key.Kind == of.Kind && key.Subject == of.Subject && key.UserID == of.UserID && key.Grain == p.Grain && key.At >= p.From && key.At < p.To {
				if err := add(p.Bucket, key.StepKey, row); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m memory) take(t testing.TB, changes analytics.Changes) {
	for key, c := range changes {
		row := m[key]
		sketch := analytics.NewSketch()
		if err := sketch.Merge(row.Sketch); err != nil {
			t.Fatal(err)
		}
		if err := sketch.Add(c.Durations...); err != nil {
			t.Fatal(err)
		}
		row.Add(c.Counts)
		if len(c.Durations) > 0 {
			row.Sketch = sketch.Encode()
			for _, ms := range c.Durations {
				if row.MinMs == nil || ms < *row.MinMs {
					row.MinMs = &ms
				}
				if row.MaxMs == nil || ms > *row.MaxMs {
					row.MaxMs = &ms
				}
			}
		}
		m[key] = row
	}
}

// idAt gives an id of a time.
func idAt(t time.Time) string {
	id := uuid.Must(uuid.NewV7())
	ms := t.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id.String()
}

// TestFiguresAreARecount counts executions by rows and one by one, of any times, with durations of any size.
func TestFiguresAreARecount(t *testing.T) {
	const workflow, agent, user = "01a2060a-ce51-7e9f-b2f4-8b54a1c07801", "01a2060a-ce51-7e9f-b2f4-8b54a1c07802", "01a2060a-ce51-7e9f-b2f4-8b54a1c07803"
	rapid.Check(t, func(r *rapid.T) {
		type execution struct {
			created time.Time
			status  string
			ms      int64
		}
		var all []execution
		rows := memory{}
		for range rapid.IntRange(0, 60).Draw(r, "executions") {
			x := execution{created: noon.Add(-time.Duration(rapid.Int64Range(0, int64(50*time.Hour)).Draw(r, "ago"))), status: rapid.SampledFrom([]string{"", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}).Draw(r, "status"), ms: rapid.OneOf(rapid.Int64Range(0, 60), rapid.Int64Range(0, 1e9)).Draw(r, "ms")}
			all = append(all, x)
			fact := feed.Fact{UserID: user, ExecutionID: idAt(x.created), WorkflowID: workflow}
			events := []feed.Event{{Type: orchestrator.EventCreated.String(), Fact: fact}, {Type: orchestrator.EventStarted.String(), Fact: fact}}
			kind := map[string]string{"COMPLETED": orchestrator.EventCompleted.String(), "FAILED": orchestrator.EventFailed.String(), "CANCELLED": orchestrator.EventCancelled.String(), "TIMEOUT": orchestrator.EventTimedOut.String()}[x.status]
			if kind != "" {
				fact.DurationMs = &x.ms
				events = append(events, feed.Event{Type: kind, Fact: fact})
				fact.StepKey, fact.AgentID, fact.Attempt = "a", agent, 3
				events = append(events, feed.Event{Type: orchestrator.EventStepCompleted.String(), Fact: fact})
			}
			rows.take(t, analytics.Of(events))
		}
		from := noon.Add(-time.Duration(rapid.Int64Range(1, int64(50*time.Hour)).Draw(r, "from")))
		zone := rapid.SampledFrom([]string{"", "Asia/Kathmandu", "America/New_York"}).Draw(r, "zone")
		interval := rapid.SampledFrom(telemetry.Intervals()).Draw(r, "interval")
		read := func(of, id string) telemetry.Metrics {
			m, err := analytics.NewMetrics(rows, func() time.Time { return noon }).Read(t.Context(), rpc.Caller{UserID: user, Role: rpc.RoleUser},
				telemetry.MetricsRequest{Of: of, ID: id, UserID: user, From: &from, Interval: interval, TimeZone: zone})
			if err != nil {
				r.Fatal(err)
			}
			return m
		}
		recount := func(f telemetry.Figures, from, to time.Time, executions bool) {
			var want telemetry.Figures
			var durations []int64
			for _, x := range all {
				if x.created.Truncate(time.Millisecond).Before(from) || !x.created.Truncate(time.Millisecond).Before(to) {
					continue
				}
				if executions {
					want.Total++
					switch x.status {
					case "COMPLETED":
						want.Completed++
						durations = append(durations, x.ms)
					case "FAILED":
						want.Failed++
					case "CANCELLED":
						want.Cancelled++
					case "TIMEOUT":
						want.TimedOut++
					default:
						want.Unended++
					}
				} else if x.status != "" {
					want.Total, want.Completed, want.Retries = want.Total+1, want.Completed+1, want.Retries+2
					durations = append(durations, x.ms)
				}
			}
			got := f
			got.SuccessRate, got.FailureRate, got.Duration = nil, nil, telemetry.Durations{}
			if got != want {
				r.Fatalf("from %v to %v it counts %+v, there are %+v", from, to, got, want)
			}
			if (f.SuccessRate == nil) != (want.Completed+want.Failed+want.TimedOut == 0) || f.SuccessRate != nil && math.Abs(*f.SuccessRate+*f.FailureRate-1) > 1e-9 {
				r.Fatalf("the rates are %v and %v", f.SuccessRate, f.FailureRate)
			}
			slices.Sort(durations)
			if len(durations) == 0 {
				if f.Duration != (telemetry.Durations{}) {
					r.Fatalf("nothing took %+v", f.Duration)
				}
				return
			}
			sum := int64(0)
			for _, ms := range durations {
				sum += ms
			}
			if *f.Duration.MinMs != durations[0] || *f.Duration.MaxMs != durations[len(durations)-1] || math.Abs(*f.Duration.AvgMs-float64(sum)/float64(len(durations))) > 1e-6*float64(sum) {
				r.Fatalf("of %v it tells %+v", durations, f.Duration)
			}
			for q, got := range map[float64]*int64{0.5: f.Duration.P50Ms, 0.95: f.Duration.P95Ms, 0.99: f.Duration.P99Ms} {
				exact := durations[int(math.Ceil(q*float64(len(durations))-1e-9))-1]
				if off := math.Abs(float64(*got - exact)); off > telemetry.MetricsAccuracy*float64(exact)+0.5 || exact < 50 && off > 0 {
					r.Fatalf("the quantile %v of %v is %d, not %d", q, durations, *got, exact)
				}
			}
		}
		for of, id := range map[string]string{telemetry.MetricsOfExecutions: "", telemetry.MetricsOfWorkflow: workflow, telemetry.MetricsOfAgent: agent} {
			m := read(of, id)
			recount(m.Totals, m.From, m.To, of != telemetry.MetricsOfAgent)
			for i, b := range m.Series {
				if i > 0 && !m.Series[i-1].To.Equal(b.From) {
					r.Fatalf("there is a gap before %v", b.From)
				}
				recount(b.Figures, b.From, b.To, of != telemetry.MetricsOfAgent)
			}
			for _, s := range m.Steps {
				recount(s.Figures, m.From, m.To, false)
			}
		}
	})
}

func TestWhoMayAsk(t *testing.T) {
	me, other := uuid.NewString(), uuid.NewString()
	metrics := analytics.NewMetrics(memory{}, func() time.Time { return noon })
	for name, c := range map[string]struct {
		role string
		req  telemetry.MetricsRequest
		want errs.Code
	}{
		"own":                  {rpc.RoleUser, telemetry.MetricsRequest{Of: "EXECUTIONS", UserID: me}, ""},
		"somebody else's":      {rpc.RoleUser, telemetry.MetricsRequest{Of: "EXECUTIONS", UserID: other}, errs.Forbidden},
		"everybody's":          {rpc.RoleUser, telemetry.MetricsRequest{Of: "EXECUTIONS"}, errs.Forbidden},
		"everybody's, ADMIN":   {rpc.RoleAdmin, telemetry.MetricsRequest{Of: "EXECUTIONS"}, ""},
		"of nothing":           {rpc.RoleUser, telemetry.MetricsRequest{Of: "THINGS", UserID: "x"}, errs.Validation},
		"of no workflow":       {rpc.RoleUser, telemetry.MetricsRequest{Of: "WORKFLOW", ID: "x"}, errs.Validation},
		"of an owned workflow": {rpc.RoleUser, telemetry.MetricsRequest{Of: "WORKFLOW", ID: other}, ""},
	} {
		if _, err := metrics.Read(t.Context(), rpc.Caller{UserID: me, Role: c.role}, c.req); errs.CodeOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
