package partition

import (
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/subject"
)

func TestFairShare(t *testing.T) {
	ids := rapid.SliceOfNDistinct(rapid.Uint32(), 1, 2*subject.Partitions, rapid.ID)
	rapid.Check(t, func(t *rapid.T) {
		var live []string
		for _, id := range ids.Draw(t, "live") {
			live = append(live, strconv.Itoa(int(id)))
		}
		all, least, most := 0, subject.Partitions, 0
		for _, owner := range live {
			n := fairShare(owner, live)
			all, least, most = all+n, min(least, n), max(most, n)
		}
		if all != subject.Partitions || most-least > 1 {
			t.Errorf("%d owners share %d partitions, %d to %d each", len(live), all, least, most)
		}
		for i := range live {
			fewer := slices.Delete(slices.Clone(live), i, i+1)
			for _, owner := range fewer {
				if with, without := fairShare(owner, live), fairShare(owner, fewer); without < with {
					t.Errorf("with %d owners one has %d, and %d when another has gone", len(live), with, without)
				}
			}
		}
	})
}
