package partition

import "turbocat.io/contracts/subject"

// fairShare is how many partitions an owner should hold. Those of all that live make up all partitions, and differ by one at most.
// When one more lives nobody's share grows, and when one less lives nobody's shrinks: so nothing moves that need not.
func fairShare(owner string, live []string) int {
	rank := 0
	for _, id := range live {
		if id < owner {
			rank++
		}
	}
	return (subject.Partitions - rank + len(live) - 1) / len(live)
}
