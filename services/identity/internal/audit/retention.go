package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/rpc"
)

const (
	// retainEvery is how often it is looked whether entries are over.
	retainEvery = time.Hour
	// retainAgain is when a round that has failed is tried again.
	retainAgain = 10 * time.Minute
	// RetentionSetting says for how long entries are kept.
	RetentionSetting = "TURBOCAT_IDENTITY_AUDIT_RETENTION"
)

// Start is where a chain begins: behind its last entry that was trimmed, or with its first when that is zero.
type Start struct {
	Head
	Told int64 // the entry that tells so
}

// Due is what of a chain is over.
type Due struct {
	Start  Start     // where the chain begins now
	Last   int64     // the last entry that is over, as are all before it
	Before time.Time // they were stored before
}

// Trimmer is a chain whose oldest entries can be trimmed.
type Trimmer interface {
	Reader
	// Due gives what was stored longer ago than a period; false when that is nothing, or the chain was trimmed less than a day ago.
	Due(ctx context.Context, period time.Duration) (Due, bool, error)
	// Trim has a chain that begins at was begin behind the entry now, and appends the entry that tells so; false when it begins elsewhere by now.
	Trim(ctx context.Context, was Start, now Head, told audit.TrailEntry) (bool, error)
	// Sweep deletes a bounded number of the entries before the beginning and tells how many.
	Sweep(ctx context.Context) (int64, error)
}

// Retention trims a chain of what is over. Every instance of the service has one; they do no harm to one another.
type Retention struct {
	chain  Trimmer
	period time.Duration
	log    zerolog.Logger

	trimmed, failures prometheus.Counter
}

// NewRetention keeps entries for a period, or for ever when that is 0; it is measured by what it registers with r.
func NewRetention(chain Trimmer, period time.Duration, log zerolog.Logger, r prometheus.Registerer) *Retention {
	return &Retention{
		chain: chain, period: period, log: log,
		trimmed:  promauto.With(r).NewCounter(prometheus.CounterOpts{Name: "audit_entries_trimmed_total", Help: "Entries of the audit trail that this process has trimmed because their time was over."}),
		failures: promauto.With(r).NewCounter(prometheus.CounterOpts{Name: "audit_trim_failures_total", Help: "Rounds that could not trim the audit trail, such as for a break in it; each is tried again."}),
	}
}

// Run trims until ctx ends.
func (r *Retention) Run(ctx context.Context) {
	for ctx.Err() == nil {
		next := retainEvery
		if err := r.Keep(ctx); err != nil && ctx.Err() == nil {
			r.failures.Inc()
			r.log.Error().Err(err).Msg("the audit trail is not trimmed; trying again")
			next = retainAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

// Keep does one round: the chain begins behind what is over, and says so, before any of that is deleted. Whoever dies between leaves entries
// that are no part of the chain any more, which the next round deletes.
func (r *Retention) Keep(ctx context.Context) error {
	if r.period > 0 {
		if err := r.trim(ctx); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if n, err := r.chain.Sweep(ctx); n == 0 || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// trim moves the beginning over what is over and in order: what was tampered with is not done away with.
func (r *Retention) trim(ctx context.Context) error {
	due, found, err := r.chain.Due(ctx, r.period)
	if err != nil || !found {
		return err
	}
	last, b, err := walk(ctx, r.chain, due.Start.Head, due.Last, func(Head) {})
	if err != nil {
		return err
	}
	if b != nil {
		if now, err := r.chain.Start(ctx); err != nil || now != due.Start {
			return err // another replica has trimmed it meanwhile
		}
		return fmt.Errorf("a chain that is broken at entry %d is kept as it is (%s: %s); look into it, with turbocat audit verify", b.Seq, b.Kind, b.Meaning)
	}
	told, err := telling(last, last.Seq-due.Start.Seq, due.Before, r.period)
	if err != nil {
		return err
	}
	moved, err := r.chain.Trim(ctx, due.Start, last, told)
	if err == nil && moved {
		r.trimmed.Add(float64(last.Seq - due.Start.Seq))
		r.log.Info().Int64("entries", last.Seq-due.Start.Seq).Str("up_to", last.String()).Time("stored_before", due.Before).Msg("the audit trail is trimmed")
	}
	return err
}

// telling gives the entry that tells that a number of entries was trimmed, the last of which made the head at.
func telling(at Head, entries int64, before time.Time, period time.Duration) (audit.TrailEntry, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return audit.TrailEntry{}, err
	}
	e := audit.TrailEntry{
		ID: id.String(), Time: time.Now(), Actor: audit.TrailActor{Role: rpc.RoleAdmin, Via: audit.ViaSystem},
		Action: audit.AuditTrimmed, Outcome: audit.Success, ResourceType: audit.AuditTrimmed.Resource(), ResourceID: at.String(),
	}
	for _, c := range []struct {
		path  string
		value any
	}{{"entries", entries}, {"storedBefore", before.UTC()}, {RetentionSetting, period.String()}} {
		value, err := json.Marshal(c.value)
		if err != nil {
			return e, err
		}
		e.Changes = append(e.Changes, audit.TrailChange{Path: c.path, After: value})
	}
	return Clean(e)
}

// tellsOf tells whether an entry is that of a trim up to a head.
func tellsOf(e audit.TrailEntry, at Head) bool {
	return e.Action == audit.AuditTrimmed && e.ResourceID == at.String()
}
