package audit

import (
	"context"
	"fmt"

	"turbocat.io/contracts/audit"
)

// Break is the first place at which a chain is not as it was written.
type Break struct {
	Seq     int64  `json:"seq"`     // the entry at which it shows
	Kind    string `json:"kind"`    // one of the constants
	Meaning string `json:"meaning"` // what has happened, and what is known of the rest
}

// Kinds of breaks.
const (
	Changed   = "CHANGED"   // an entry is not what was written, or another stands in its place
	Missing   = "MISSING"   // entries are gone from the midst
	Truncated = "TRUNCATED" // entries are gone from the end
	Unknown   = "UNKNOWN"   // entries stand behind the end
	Anchor    = "ANCHOR"    // the chain is not the one that the anchor is of
)

// Report is what a walk has found.
type Report struct {
	Entries int64  `json:"entries"` // that were walked
	From    int64  `json:"from"`    // the first of them
	Seq     int64  `json:"seq"`     // the last one that is in order
	Hash    string `json:"hash"`    // its hash: with Seq the anchor of the next walk
	Break   *Break `json:"break"`   // null when all is in order
}

// Reader reads a chain.
type Reader interface {
	// Head gives the end that was written with the last entry.
	Head(ctx context.Context) (Head, error)
	// Entries reads entries with their hashes from a number on, in order.
	Entries(ctx context.Context, from int64, most int) ([]audit.TrailEntry, error)
}

// pageSize is how many entries are read at once: an entry may have 300 KB.
const pageSize = 200

// Verify walks a chain up to its end as it stands now. An anchor that is not zero is the head that an earlier walk told: the walk
// begins behind it, and the chain must have it. progress is told after every page.
func Verify(ctx context.Context, chain Reader, anchor Head, progress func(entries, of int64)) (Report, error) {
	end, err := chain.Head(ctx)
	if err != nil {
		return Report{}, err
	}
	last := anchor
	report := Report{From: anchor.Seq + 1, Seq: anchor.Seq, Hash: anchor.Hash.String()}
	broken := func(seq int64, kind, meaning string, args ...any) (Report, error) {
		report.Break = &Break{seq, kind, fmt.Sprintf(meaning, args...)}
		return report, nil
	}
	if anchor.Seq > 0 {
		found, err := chain.Entries(ctx, anchor.Seq, 1)
		if err != nil {
			return report, err
		}
		if len(found) == 0 || found[0].Seq != anchor.Seq || found[0].Hash != anchor.Hash.String() || end.Seq < anchor.Seq {
			return broken(anchor.Seq, Anchor, "the chain has no entry %d with the hash of the anchor: entries up to there were changed, or taken from the end, and the hashes of all that follow were made anew; an older backup shows what they were", anchor.Seq)
		}
	}
	for last.Seq < end.Seq {
		page, err := chain.Entries(ctx, last.Seq+1, pageSize)
		if err != nil {
			return report, err
		}
		if len(page) == 0 {
			return broken(last.Seq+1, Truncated, "the entries %d to %d were taken from the end", last.Seq+1, end.Seq)
		}
		for _, e := range page {
			if e.Seq > end.Seq { // appended since, or behind the end: looked at below
				break
			}
			if e.Seq != last.Seq+1 {
				return broken(last.Seq+1, Missing, "the entries %d to %d were taken out; those before are in order", last.Seq+1, e.Seq-1)
			}
			hash, err := hashOf(last.Hash, e)
			if err != nil {
				return report, err
			}
			if hash.String() != e.Hash {
				return broken(e.Seq, Changed, "entry %d (%s, %s) is not what was written there, or another stands in its place; those before are in order, those after were not looked at", e.Seq, e.ID, e.Action)
			}
			last = Head{e.Seq, hash}
			report.Entries, report.Seq, report.Hash = report.Entries+1, e.Seq, e.Hash
		}
		if progress != nil {
			progress(report.Seq, end.Seq)
		}
	}
	if last.Hash != end.Hash && end.Seq == last.Seq {
		return broken(last.Seq, Changed, "the entries up to %d agree with one another and not with the head that was written with the last one: their hashes were made anew", last.Seq)
	}
	behind, err := chain.Entries(ctx, end.Seq+1, 1)
	if err != nil || len(behind) == 0 {
		return report, err
	}
	now, err := chain.Head(ctx) // what was appended meanwhile has moved it
	if err != nil || behind[0].Seq <= now.Seq {
		return report, err
	}
	return broken(behind[0].Seq, Unknown, "entry %d stands behind the end of the chain, which is %d: it was put there by hand", behind[0].Seq, now.Seq)
}
