package workflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"turbocat.io/contracts/catalog"
)

// Diff gives what makes the one version of a workflow the other. JSON is compared by what it means, not by how it is written.
func Diff(from, to catalog.WorkflowSnapshot) (catalog.WorkflowDiff, error) {
	d := catalog.WorkflowDiff{
		WorkflowID: to.WorkflowID, From: from.Version, To: to.Version,
		Steps: catalog.StepsDiff{Added: []catalog.Step{}, Removed: []catalog.Step{}, Changed: []catalog.StepDiff{}},
	}
	before, after := byKey(from.Steps), byKey(to.Steps)
	for _, s := range from.Steps {
		if _, stays := after[s.StepKey]; !stays {
			d.Steps.Removed = append(d.Steps.Removed, s)
		}
	}
	for _, s := range to.Steps {
		was, known := before[s.StepKey]
		if !known {
			d.Steps.Added = append(d.Steps.Added, s)
			continue
		}
		changes, err := changes(was, s)
		if err != nil {
			return d, fmt.Errorf("step %s: %w", s.StepKey, err)
		}
		if len(changes) > 0 {
			d.Steps.Changed = append(d.Steps.Changed, catalog.StepDiff{StepKey: s.StepKey, Changes: changes})
		}
	}
	if order := keys(to.Steps); !slices.Equal(order, keys(from.Steps)) {
		d.Steps.Order = order
	}
	// What is no part of a definition does not count.
	from.Steps, from.WorkflowID, from.Version, from.CreatedAt = nil, to.WorkflowID, to.Version, to.CreatedAt
	to.Steps = nil
	var err error
	d.Changes, err = changes(from, to)
	return d, err
}

func byKey(steps []catalog.Step) map[string]catalog.Step {
	m := make(map[string]catalog.Step, len(steps))
	for _, s := range steps {
		m[s.StepKey] = s
	}
	return m
}

func keys(steps []catalog.Step) []string {
	k := make([]string, len(steps))
	for i, s := range steps {
		k[i] = s.StepKey
	}
	return k
}

// changes compares the JSON of two values.
func changes(before, after any) ([]catalog.Change, error) {
	x, err := tree(before)
	if err != nil {
		return nil, err
	}
	y, err := tree(after)
	if err != nil {
		return nil, err
	}
	list := []catalog.Change{}
	return list, compare("", x, y, &list)
}

func tree(v any) (t any, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return t, d.Decode(&t)
}

// nothing is where one of two objects has no such field.
type nothing struct{}

func compare(path string, before, after any, list *[]catalog.Change) error {
	x, bothObjects := before.(map[string]any)
	y, ok := after.(map[string]any)
	if bothObjects = bothObjects && ok; bothObjects {
		names := maps.Clone(x)
		maps.Copy(names, y)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if err := compare(path+"/"+pointer.Replace(name), field(x, name), field(y, name), list); err != nil {
				return err
			}
		}
		return nil
	}
	a, bothArrays := before.([]any)
	b, ok := after.([]any)
	if bothArrays = bothArrays && ok && len(a) == len(b); bothArrays {
		for i := range a {
			if err := compare(path+"/"+strconv.Itoa(i), a[i], b[i], list); err != nil {
				return err
			}
		}
		return nil
	}
	if reflect.DeepEqual(before, after) {
		return nil
	}
	change := catalog.Change{Path: path}
	var err error
	if change.Before, err = encoded(before); err != nil {
		return err
	}
	if change.After, err = encoded(after); err != nil {
		return err
	}
	*list = append(*list, change)
	return nil
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

func field(object map[string]any, name string) any {
	if v, ok := object[name]; ok {
		return v
	}
	return nothing{}
}

// encoded leaves out what is nothing.
func encoded(v any) (json.RawMessage, error) {
	if v == any(nothing{}) {
		return nil, nil
	}
	return json.Marshal(v)
}
