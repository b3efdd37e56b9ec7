//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
)

// TestLogsAreFollowed has a log followed from before its first line until the execution's end, and broken off and gone on with.
func TestLogsAreFollowed(t *testing.T) {
	t.Parallel()
	c := user(t)
	talk := c.code(t, `function handler({n}) { for (let i = 0; i < 120; i++) { console.log(n + "-" + i); if (i % 40 == 0) console.warn(n + "!" + i) }; return n }`)
	workflow := c.workflow(t, []object{
		step("a", talk, object{"inputs": object{"n": "a"}}),
		{"stepKey": "w", "stepType": "WAIT", "config": object{"signal": "go"}, "dependsOn": []string{"a"}},
		step("b", talk, object{"inputs": object{"n": "b"}, "dependsOn": []string{"w"}}),
	})
	x := c.begin(t, workflow)
	path := "/executions/" + x.ID + "/logs?follow=true"
	first, err := c.streamAt(t.Context(), path, "", 100) // comes while the execution waits
	if err != nil || len(first) != 100 || first[0].kind != "line" {
		t.Fatalf("%d lines, %v", len(first), err)
	}
	type told struct {
		events []sent
		err    error
	}
	follow := func(path, after string) <-chan told {
		out := make(chan told, 1)
		go func(ctx context.Context) {
			events, err := c.streamAt(ctx, path, after, -1)
			out <- told{events, err}
		}(t.Context())
		return out
	}
	whole, rest, warnings := follow(path, ""), follow(path, first[99].id), follow(path+"&level=WARN&stepKey=b", "")
	c.do(t, "POST", "/executions/"+x.ID+"/signals/go", object{})
	c.awaitEnd(t, x.ID)
	ids := func(events []sent) (all []string) {
		for i, e := range events {
			if i == len(events)-1 {
				if e.kind != "end" {
					t.Errorf("the last is %+v", e)
				}
				break
			}
			var l telemetry.LogLine
			if err := json.Unmarshal([]byte(e.data), &l); err != nil {
				t.Errorf("%s: %v", e.data, err)
			}
			all = append(all, l.ID)
		}
		return all
	}
	listed := func(query string) (all []string) {
		t.Helper()
		for cursor := ""; ; {
			lines, meta := page[telemetry.LogLine](t, c.do(t, "GET", "/executions/"+x.ID+"/logs?pageSize=100"+query+cursor, nil))
			for _, l := range lines {
				all = append(all, l.ID)
			}
			if meta.NextCursor == nil {
				slices.Sort(all)
				return all
			}
			cursor = "&cursor=" + *meta.NextCursor
		}
	}
	var begun []string
	for _, e := range first {
		var l telemetry.LogLine
		_ = json.Unmarshal([]byte(e.data), &l)
		begun = append(begun, l.ID)
	}
	for name, c := range map[string]struct {
		told   <-chan told
		before []string
		query  string
		want   int
	}{"all": {whole, nil, "", 246}, "the rest": {rest, begun, "", 246}, "warnings of b": {warnings, nil, "&level=WARN&stepKey=b", 3}} {
		got := <-c.told
		all := append(ids(got.events), c.before...)
		slices.Sort(all)
		if want := listed(c.query); got.err != nil || !slices.Equal(all, want) || len(want) != c.want {
			t.Errorf("%s: %d lines are told, %d are there: %v", name, len(all), len(want), got.err)
		}
	}
	for query, code := range map[string]errs.Code{"&page=2": errs.Validation, "&level=LOUD": errs.Validation, "&since=x": errs.Validation, "&lastEventId=7": errs.Validation} {
		fault(t, c.do(t, "GET", "/executions/"+x.ID+"/logs?follow=true"+query, nil), code)
	}
	other := user(t)
	if got, err := other.send(t.Context(), "GET", fmt.Sprintf("/api/v1%s", path), nil); err != nil || got.status != 404 {
		t.Errorf("another user: %v %s", err, got)
	}
}
