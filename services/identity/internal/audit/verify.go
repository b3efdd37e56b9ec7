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
	Trimmed   = "TRIMMED"   // the entry of the anchor was trimmed, so that nothing tells whether the chain is its
	Beheaded  = "START"     // the chain begins behind an entry of which it does not tell that it was trimmed
)

func broken(seq int64, kind, meaning string, args ...any) *Break {
	return &Break{seq, kind, fmt.Sprintf(meaning, args...)}
}

// Report is what a walk has found.
type Report struct {
	Entries int64  `json:"entries"` // that were walked
	Trimmed int64  `json:"trimmed"` // the last entry that was trimmed, behind which the chain begins; 0 when none was
	Told    int64  `json:"told"`    // the entry that tells so; 0 when none was
	From    int64  `json:"from"`    // the first entry that was walked
	Seq     int64  `json:"seq"`     // the last one that is in order
	Hash    string `json:"hash"`    // its hash: with Seq the anchor of the next walk
	Break   *Break `json:"break"`   // null when all is in order
}

// Reader reads a chain.
type Reader interface {
	// Start gives where it begins.
	Start(ctx context.Context) (Start, error)
	// Head gives the end that was written with the last entry.
	Head(ctx context.Context) (Head, error)
	// Entries reads entries with their hashes from a number on, in order.
	Entries(ctx context.Context, from int64, most int) ([]audit.TrailEntry, error)
}

// pageSize is how many entries are read at once: an entry may have 300 KB.
const pageSize = 200

// Verify walks a chain from its beginning up to its end as it stands now. An anchor that is not zero is the head that an earlier walk told:
// the walk begins behind it, and the chain must have it. progress is told after every page.
func Verify(ctx context.Context, chain Reader, anchor Head, progress func(entries, of int64)) (Report, error) {
	for {
		start, err := chain.Start(ctx)
		if err != nil {
			return Report{}, err
		}
		report, err := verify(ctx, chain, start, anchor, progress)
		if err != nil || report.Break == nil {
			return report, err
		}
		if now, err := chain.Start(ctx); err != nil || now == start {
			return report, err
		}
		// What is missing was trimmed while it was walked.
	}
}

func verify(ctx context.Context, chain Reader, start Start, anchor Head, progress func(entries, of int64)) (Report, error) {
	end, err := chain.Head(ctx)
	if err != nil {
		return Report{}, err
	}
	from := start.Head
	if anchor.Seq > start.Seq {
		from = anchor
	}
	report := Report{Trimmed: start.Seq, Told: start.Told, From: from.Seq + 1, Seq: from.Seq, Hash: from.Hash.String()}
	if report.Break, err = startsAt(ctx, chain, start, anchor, end); err != nil || report.Break != nil {
		return report, err
	}
	last, b, err := walk(ctx, chain, from, end.Seq, func(last Head) {
		if progress != nil {
			progress(last.Seq, end.Seq)
		}
	})
	report.Entries, report.Seq, report.Hash, report.Break = last.Seq-from.Seq, last.Seq, last.Hash.String(), b
	if err != nil || b != nil {
		return report, err
	}
	if last.Hash != end.Hash && end.Seq == last.Seq {
		report.Break = broken(last.Seq, Changed, "the entries up to %d agree with one another and not with the head that was written with the last one: their hashes were made anew", last.Seq)
		return report, nil
	}
	behind, err := chain.Entries(ctx, end.Seq+1, 1)
	if err != nil || len(behind) == 0 {
		return report, err
	}
	now, err := chain.Head(ctx) // what was appended meanwhile has moved it
	if err != nil || behind[0].Seq <= now.Seq {
		return report, err
	}
	report.Break = broken(behind[0].Seq, Unknown, "entry %d stands behind the end of the chain, which is %d: it was put there by hand", behind[0].Seq, now.Seq)
	return report, nil
}

// startsAt finds what is wrong with where a chain begins, and with the anchor.
func startsAt(ctx context.Context, chain Reader, start Start, anchor, end Head) (*Break, error) {
	if start.Seq > 0 {
		told, err := chain.Entries(ctx, start.Told, 1)
		if err != nil {
			return nil, err
		}
		if len(told) == 0 || told[0].Seq != start.Told || start.Told <= start.Seq || start.Told > end.Seq || !tellsOf(told[0], start.Head) {
			return broken(start.Seq+1, Beheaded, "the chain is made to begin behind entry %d, and entry %d does not tell that those up to there were trimmed: they were taken out by hand; an older backup shows what they were", start.Seq, start.Told), nil
		}
	}
	switch {
	case anchor.Seq == 0:
		return nil, nil
	case anchor.Seq < start.Seq:
		return broken(anchor.Seq, Trimmed, "the entry of the anchor was trimmed, as entry %d tells, so that nothing shows whether the chain is the one it was taken from; give one that is younger, or none", start.Told), nil
	case anchor.Seq == start.Seq:
		if anchor != start.Head {
			return otherChain(anchor), nil
		}
		return nil, nil
	}
	found, err := chain.Entries(ctx, anchor.Seq, 1)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || found[0].Seq != anchor.Seq || found[0].Hash != anchor.Hash.String() || end.Seq < anchor.Seq {
		return otherChain(anchor), nil
	}
	return nil, nil
}

func otherChain(anchor Head) *Break {
	return broken(anchor.Seq, Anchor, "the chain has no entry %d with the hash of the anchor: entries up to there were changed, or taken from the end, and the hashes of all that follow were made anew; an older backup shows what they were", anchor.Seq)
}

// walk goes over the entries behind last up to the one numbered end, and gives the last one that is in order. paged is told after every page.
func walk(ctx context.Context, chain Reader, last Head, end int64, paged func(last Head)) (Head, *Break, error) {
	for last.Seq < end {
		page, err := chain.Entries(ctx, last.Seq+1, pageSize)
		if err != nil {
			return last, nil, err
		}
		if len(page) == 0 {
			return last, broken(last.Seq+1, Truncated, "the entries %d to %d were taken from the end", last.Seq+1, end), nil
		}
		for _, e := range page {
			if last.Seq == end { // the rest was appended since, or stands behind the end, which is looked at by itself
				break
			}
			if e.Seq != last.Seq+1 {
				return last, broken(last.Seq+1, Missing, "the entries %d to %d were taken out; those before are in order", last.Seq+1, e.Seq-1), nil
			}
			hash, err := hashOf(last.Hash, e)
			if err != nil {
				return last, nil, err
			}
			if hash.String() != e.Hash {
				return last, broken(e.Seq, Changed, "entry %d (%s, %s) is not what was written there, or another stands in its place; those before are in order, those after were not looked at", e.Seq, e.ID, e.Action), nil
			}
			last = Head{e.Seq, hash}
		}
		paged(last)
	}
	return last, nil, nil
}
