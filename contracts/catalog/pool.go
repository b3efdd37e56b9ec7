package catalog

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"turbocat.io/contracts/subject"
)

// A runner offers labels, and an agent requires some: its attempts are run by the runners that offer them all. Those are the pool of these
// labels, which is called by them, as "eu+gpu".

const (
	// MaxLabels is how many a runner offers at most, and so how many an agent may require: a runner takes the steps of each choice of them.
	MaxLabels = 4
	// LabelPattern is what a label is like.
	LabelPattern = `^[A-Za-z0-9_-]{1,32}$`

	// labelsField of an agent's config has the labels that it requires. Executors do not see it.
	labelsField = "runner"
	labelsJoin  = "+"
)

var label = regexp.MustCompile(LabelPattern)

// PoolOf gives the pool of labels; false when they are none, too many, or one is not like a label.
func PoolOf(labels ...string) (pool string, ok bool) {
	labels = slices.Compact(slices.Sorted(slices.Values(labels)))
	if len(labels) == 0 || len(labels) > MaxLabels || slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) }) {
		return "", false
	}
	return strings.Join(labels, labelsJoin), true
}

// LabelsOf gives the labels of a pool.
func LabelsOf(pool string) []string { return strings.Split(pool, labelsJoin) }

// PoolsOf gives every pool that a runner is of which offers all labels of one: that of each choice of them; none when it is no pool.
func PoolsOf(pool string) []string {
	all, ok := PoolOf(LabelsOf(pool)...)
	if !ok {
		return nil
	}
	offered := LabelsOf(all)
	pools := make([]string, 0, 1<<len(offered))
	for choice := 1; choice < 1<<len(offered); choice++ {
		var chosen []string
		for i, l := range offered {
			if choice&(1<<i) != 0 {
				chosen = append(chosen, l)
			}
		}
		pools = append(pools, strings.Join(chosen, labelsJoin))
	}
	return pools
}

// SplitPool takes the labels, one or a list of them, out of the config of an agent that runners run, and gives their pool: that of
// subject.DefaultPool when it has none, in which case rest is the config as it is; false when they are no labels.
func SplitPool(config json.RawMessage) (pool string, rest json.RawMessage, ok bool) {
	var fields map[string]json.RawMessage
	if !bytes.Contains(config, []byte(`"`+labelsField+`"`)) {
		return subject.DefaultPool, config, true
	}
	if json.Unmarshal(config, &fields) != nil || fields[labelsField] == nil {
		return subject.DefaultPool, config, true
	}
	var one string
	var labels []string
	if json.Unmarshal(fields[labelsField], &one) == nil {
		labels = []string{one}
	} else {
		_ = json.Unmarshal(fields[labelsField], &labels) // what is no list of texts leaves none, which PoolOf refuses
	}
	pool, ok = PoolOf(labels...)
	delete(fields, labelsField)
	rest, err := json.Marshal(fields)
	return pool, rest, ok && err == nil
}
