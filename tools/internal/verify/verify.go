// Package verify checks a running installation: that the orchestrator's ledger agrees with itself and with what NATS has, and
// that nothing in it waits for longer than it should. It only reads. Each execution is read with all of it in one snapshot, some at
// a time, so that what changes meanwhile does not count and memory is bounded on millions of rows.
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/weekly"
	"turbocat.io/tools/internal/promises"
)

const (
	// DefaultPatience is how long what mends itself may take: leases, the reconciler and reconnects have come by then.
	DefaultPatience = time.Minute
	// MaxViolations is how many a Report holds; the rest is counted.
	MaxViolations = 1000
	// MaxDeadLetters is the same of dead letters, the newest.
	MaxDeadLetters = 100
)

// Options say what to verify.
type Options struct {
	DatabaseURL string
	NATSURL     string        // "": the streams are not looked at
	Since       time.Time     // executions that were accepted then or later, and those that have not ended; zero for all
	Patience    time.Duration // how old may be what waits for somebody who is to do it at once
	Quiet       bool          // no execution is under way, so everything must have ended and nothing may wait
	Progress    func(Report)  // told from time to time; nil for nobody
}

// Report is what was found.
type Report struct {
	Executions  int64                `json:"executions"` // that were read
	Unfinished  int64                `json:"unfinished"` // of them
	Steps       int64                `json:"steps"`      // rows, also of items
	Events      int64                `json:"events"`
	Violations  []promises.Violation `json:"violations"` // the first MaxViolations
	Found       int64                `json:"found"`      // all of them
	DeadLetters []DeadLetter         `json:"deadLetters"`
	TookMs      int64                `json:"tookMs"`
}

// DeadLetter is an input that could not be applied. It is no violation: somebody has sent what is none.
type DeadLetter struct {
	Partition int       `json:"partition" db:"p"`
	Subject   string    `json:"subject" db:"subject"`
	Reason    string    `json:"reason" db:"reason"`
	At        time.Time `json:"at" db:"created_at"`
}

// verifier carries one run.
type verifier struct {
	Options
	db          *sqlx.DB
	bus         *bus.Conn // nil: not looked at
	definitions map[string]*definition
	seen        map[int]map[uint64]uint64 // the numbers of the events that were read, by partition: 64 in each entry
	report      Report
	began, told time.Time
}

// Run verifies. Its error says that the installation could not be read, not that something was found.
func Run(ctx context.Context, o Options) (Report, error) {
	db, err := postgres.Open(patiently(o.DatabaseURL), orchestrator.Service)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = db.Close() }()
	v := &verifier{
		Options: o, db: db, definitions: map[string]*definition{}, seen: map[int]map[uint64]uint64{}, began: time.Now(),
		report: Report{Violations: []promises.Violation{}, DeadLetters: []DeadLetter{}},
	}
	if o.NATSURL != "" {
		if v.bus, err = bus.Connect(ctx, o.NATSURL, "verify", zerolog.Nop()); err != nil {
			return Report{}, err
		}
		defer v.bus.Close()
	}
	for _, check := range []func(context.Context) error{v.partitions, v.numbers, v.executions, v.orphans, v.limits, v.spending, v.waiting, v.deadLetters} {
		if err := check(ctx); err != nil {
			return v.report, err
		}
	}
	v.report.TookMs = time.Since(v.began).Milliseconds()
	v.tell(true)
	return v.report, nil
}

// leastRetention is the least that an installation can be told to keep what has ended.
const leastRetention = 24 * time.Hour

// kept gives an id below those of all executions of which retention has deleted nothing, for they have not ended long enough ago.
func (v *verifier) kept() string { return weekly.IDAt(v.began.Add(-leastRetention)) }

// patiently lets statements take the time that large tables need, and a snapshot wait while what was read is checked: a reader
// keeps no row locked.
func patiently(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return databaseURL // told by who opens it
	}
	q := u.Query()
	q.Set("statement_timeout", "600000")
	q.Set("idle_in_transaction_session_timeout", "600000")
	u.RawQuery = q.Encode()
	return u.String()
}

func (v *verifier) say(promise, format string, args ...any) {
	v.report.Found++
	if len(v.report.Violations) < MaxViolations {
		v.report.Violations = append(v.report.Violations, promises.Violation{Promise: promise, What: fmt.Sprintf(format, args...)})
	}
}

// tell reports the progress, once a second at most.
func (v *verifier) tell(now bool) {
	if v.Progress != nil && (now || time.Since(v.told) >= time.Second) {
		v.told = time.Now()
		v.Progress(v.report)
	}
}

// old is how old what waits may be, as PostgreSQL takes it: nothing may wait in a quiet installation.
func (v *verifier) old() string {
	if v.Quiet {
		return "0"
	}
	return fmt.Sprintf("%d milliseconds", v.Patience.Milliseconds())
}

// findings collects what a check finds.
type findings []promises.Violation

func (f *findings) say(promise, format string, args ...any) {
	*f = append(*f, promises.Violation{Promise: promise, What: fmt.Sprintf(format, args...)})
}

// settled repeats a check of what mends itself until the patience has run out. What it finds each time counts.
func (v *verifier) settled(ctx context.Context, check func(context.Context, *findings) error) error {
	until := time.Now().Add(v.Patience)
	var lasting findings
	for first := true; ; first = false {
		var found findings
		if err := check(ctx, &found); err != nil {
			return err
		}
		if first {
			lasting = found
		}
		lasting = slices.DeleteFunc(lasting, func(one promises.Violation) bool { return !slices.Contains(found, one) })
		if len(lasting) == 0 {
			return nil
		}
		if v.Quiet || time.Now().After(until) {
			for _, one := range lasting {
				v.say(one.Promise, "%s", one.What)
			}
			return nil
		}
		v.tell(false)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// many gives rows of a query.
func many[T any](ctx context.Context, v *verifier, query string, args ...any) ([]T, error) {
	var rows []T
	err := v.db.SelectContext(ctx, &rows, query, args...)
	if err != nil {
		err = errors.Join(errors.New("the ledger can not be read"), err)
	}
	return rows, err
}
