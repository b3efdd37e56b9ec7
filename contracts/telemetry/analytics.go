package telemetry

import (
	"time"

	"turbocat.io/contracts/rpc"
)

// Metrics count executions, and runs of their steps, by when the execution was created: in quarters of an hour, which add up to any time.

// What metrics are of.
const (
	MetricsOfExecutions = "EXECUTIONS" // all that a user has started, or everybody
	MetricsOfWorkflow   = "WORKFLOW"   // executions of a workflow, with the runs of each of its steps
	MetricsOfAgent      = "AGENT"      // runs of steps that are an agent's work
)

// Intervals of a time series, shortest first.
const (
	IntervalHour  = "hour"
	IntervalDay   = "day"
	IntervalWeek  = "week" // from Monday on
	IntervalMonth = "month"
)

// Intervals gives all of them.
func Intervals() []string {
	return []string{IntervalHour, IntervalDay, IntervalWeek, IntervalMonth}
}

// MaxBuckets is how many buckets a time series has at most.
const MaxBuckets = 750

// MetricsGrain is what the beginning and the end of a time are rounded to.
const MetricsGrain = 15 * time.Minute

// MetricsAccuracy is by how much a percentile may differ from the exact one, in parts of it.
const MetricsAccuracy = 0.01

// MetricsRequest asks for figures. The gateway has checked that the caller may see the workflow or the agent. Without a UserID they are of
// what everybody has started, which of EXECUTIONS an ADMIN alone may ask for.
type MetricsRequest struct {
	Of       string     `json:"of"`
	ID       string     `json:"id,omitempty"` // of the workflow or the agent
	UserID   string     `json:"userId,omitempty"`
	From     *time.Time `json:"from,omitempty"`     // 30 days before To when absent
	To       *time.Time `json:"to,omitempty"`       // now when absent
	Interval string     `json:"interval,omitempty"` // day when absent
	TimeZone string     `json:"timeZone,omitempty"` // UTC when absent
}

// Metrics are figures of a time as a whole and of its parts.
type Metrics struct {
	From     time.Time     `json:"from"` // of the first quarter of an hour that counts
	To       time.Time     `json:"to"`   // the end of the last
	Interval string        `json:"interval" enum:"hour,day,week,month"`
	TimeZone string        `json:"timeZone"`
	Totals   Figures       `json:"totals"`
	Steps    []StepFigures `json:"steps,omitempty"` // of a workflow: those that have figures, by key
	Series   []Bucket      `json:"series"`          // without gaps
}

// Bucket is a part of a time series.
type Bucket struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Figures
}

// StepFigures are those of the runs of a step of a workflow.
type StepFigures struct {
	StepKey string `json:"stepKey"`
	Figures
}

// Figures count executions that were created in a time, or runs of steps of such executions that have ended.
type Figures struct {
	Total     int64 `json:"total"`
	Unended   int64 `json:"unended"` // executions that have not ended; 0 of steps
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	TimedOut  int64 `json:"timedOut"` // executions
	Skipped   int64 `json:"skipped"`  // steps
	Retries   int64 `json:"retries"`  // attempts of steps beyond their first

	SuccessRate *float64   `json:"successRate"` // completed, of those that completed, failed or timed out; null when none did
	FailureRate *float64   `json:"failureRate"` // failed or timed out, of these
	Duration    Durations  `json:"duration"`
	Usage       TokenUsage `json:"usage"`
}

// Durations are those of what has completed, from begin to end; null when nothing has. Percentiles are within 1 % of the exact ones, the rest is exact.
type Durations struct {
	AvgMs *float64 `json:"avgMs"`
	MinMs *int64   `json:"minMs"`
	MaxMs *int64   `json:"maxMs"`
	P50Ms *int64   `json:"p50Ms"`
	P95Ms *int64   `json:"p95Ms"`
	P99Ms *int64   `json:"p99Ms"`
}

// TokenUsage is what calls of models have used whose end is known.
type TokenUsage struct {
	Calls        int64   `json:"calls"`
	InputTokens  int64   `json:"inputTokens"`
	OutputTokens int64   `json:"outputTokens"`
	CostUSD      float64 `json:"costUsd"`
}

// ReadMetrics reads figures.
var ReadMetrics = rpc.Method[MetricsRequest, Metrics]{Service: Service, Name: "read_metrics", Version: 1}
