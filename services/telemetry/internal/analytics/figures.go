package analytics

import (
	"turbocat.io/contracts/telemetry"
)

// Row is what is stored under a key, or a part of it.
type Row struct {
	Counts
	MinMs  *int64 `db:"min_ms"`
	MaxMs  *int64 `db:"max_ms"`
	Sketch []byte `db:"sketch"`
}

// sum adds rows up.
type sum struct {
	Counts
	minMs, maxMs *int64
	sketch       *Sketch // nil while there are no durations
}

func (s *sum) add(r Row) error {
	s.Add(r.Counts)
	if r.MinMs != nil && (s.minMs == nil || *r.MinMs < *s.minMs) {
		s.minMs = r.MinMs
	}
	if r.MaxMs != nil && (s.maxMs == nil || *r.MaxMs > *s.maxMs) {
		s.maxMs = r.MaxMs
	}
	if len(r.Sketch) == 0 {
		return nil
	}
	if s.sketch == nil {
		empty := NewSketch()
		s.sketch = &empty
	}
	return s.sketch.Merge(r.Sketch)
}

// figures gives what rows amount to. Of executions, those that have not ended are told.
func (s *sum) figures(executions bool) telemetry.Figures {
	f := telemetry.Figures{
		Total: s.Total, Completed: s.Completed, Failed: s.Failed, Cancelled: s.Cancelled, TimedOut: s.TimedOut, Skipped: s.Skipped, Retries: s.Retries,
		Usage: telemetry.TokenUsage{Calls: s.Calls, InputTokens: s.InputTokens, OutputTokens: s.OutputTokens, CostUSD: float64(s.CostMicros) / 1e6},
	}
	if executions {
		// An end may be counted in a time whose beginning is not kept any more, or was never told.
		f.Unended = max(0, s.Total-s.Completed-s.Failed-s.Cancelled-s.TimedOut)
	}
	if ran := s.Completed + s.Failed + s.TimedOut; ran > 0 {
		success, failure := float64(s.Completed)/float64(ran), float64(s.Failed+s.TimedOut)/float64(ran)
		f.SuccessRate, f.FailureRate = &success, &failure
	}
	if s.sketch == nil || s.minMs == nil || s.maxMs == nil || s.Completed == 0 {
		return f
	}
	avg := float64(s.DurationMs) / float64(s.Completed)
	f.Duration = telemetry.Durations{
		AvgMs: &avg, MinMs: s.minMs, MaxMs: s.maxMs,
		P50Ms: s.sketch.quantile(0.5, *s.minMs, *s.maxMs), P95Ms: s.sketch.quantile(0.95, *s.minMs, *s.maxMs), P99Ms: s.sketch.quantile(0.99, *s.minMs, *s.maxMs),
	}
	return f
}
