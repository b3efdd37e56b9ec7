// Package engine holds the decisions about executions, and nothing else.
//
// Apply is a function of an execution's state and one input: no clock, no I/O, no
// goroutine, no randomness, no map order. The same inputs in the same order give the same
// states and effects, to the byte; ids, tokens and jitter are keyed hashes of what they
// name. Its time is the time of the inputs, never before the execution's last.
//
// What must hold of every input: applied twice, late, or to a terminal execution it
// changes nothing.
package engine

import (
	"time"
)

// Time is a moment in microseconds since 1970, the resolution the ledger keeps. 0 is no moment.
type Time int64

// TimeOf gives the Time of t, rounded down.
func TimeOf(t time.Time) Time { return Time(t.UnixMicro()) }

// Std gives the moment as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMicro(int64(t)).UTC() }

// Add gives the moment ms milliseconds later.
func (t Time) Add(ms int64) Time { return t + Time(ms*1000) }

// Ms gives the milliseconds since an earlier moment, never less than 0.
func (t Time) Ms(since Time) int64 { return max(0, int64(t-since)/1000) }
