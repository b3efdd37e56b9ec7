//go:build unix

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/telemetry"
)

// logs waits until an execution has so many log lines; they come in after the step's end.
func (c *client) logs(t *testing.T, execution, query string, want int) []telemetry.LogLine {
	t.Helper()
	var lines []telemetry.LogLine
	eventually(t, 15*time.Second, func() error {
		lines, _ = page[telemetry.LogLine](t, c.do(t, "GET", "/executions/"+execution+"/logs?"+query, nil))
		if len(lines) != want {
			return fmt.Errorf("%s gives %d lines, want %d: %+v", query, len(lines), want, lines)
		}
		return nil
	})
	return lines
}

func TestLogs(t *testing.T) {
	t.Parallel()
	c := user(t)
	talk := c.code(t, `function handler(input, context) {
  console.debug("d", 1)
  console.log("l", {a: [1]})
  console.info("i")
  console.warn("w")
  console.error("e")
  context.logger.warn("100% of " + input.name)
  return null
}`)
	boom := c.code(t, "function handler() {\n  console.log('before')\n  inner()\n}\nfunction inner() {\n  throw new Error('on line six')\n}")
	e := c.run(t, c.workflow(t, []object{
		step("talk", talk, inputs(object{"name": "{{inputs.nothing}}"})),
		step("boom", boom, after("talk"), object{"onError": "RETRY", "retryCount": 1, "retryDelayMs": 10}),
	}), nil)
	if got := statuses(e); got != "FAILED: talk COMPLETED boom FAILED" {
		t.Fatal(got)
	}
	if err := state(t, e, "boom").Error; err.Message != "on line six" || !strings.Contains(err.Stack, ":6:") || !strings.Contains(err.Stack, ":3:") {
		t.Errorf("the stack is %q", err.Stack)
	}

	talked := c.logs(t, e.ID, "stepKey=talk&pageSize=100", 7)
	var got []string
	for i, l := range talked {
		got = append(got, l.Level+" "+l.Source)
		if l.ExecutionID != e.ID || l.StepKey == nil || *l.StepKey != "talk" || l.Attempt != 1 || l.Iteration != nil || string(l.Fields) != "{}" || i > 0 && l.CreatedAt.Before(talked[i-1].CreatedAt) {
			t.Errorf("the line %+v after %+v", l, talked[max(i-1, 0)])
		}
	}
	if want := "WARN engine, DEBUG console, INFO console, INFO console, WARN console, ERROR console, WARN console"; strings.Join(got, ", ") != want {
		t.Errorf("logged %q, want %q", strings.Join(got, ", "), want)
	}
	if !strings.Contains(talked[0].Message, "inputs.nothing") {
		t.Errorf("a template that stays as written is told as %q", talked[0].Message)
	}
	for i, want := range []string{"d 1", "l", "i", "w", "e", "100% of {{inputs.nothing}}"} {
		if line := talked[i+1]; !strings.HasPrefix(line.Message, want) || i > 0 && line.Seq <= talked[i].Seq {
			t.Errorf("line %d is %q with the seq %d, want %q", i, line.Message, line.Seq, want)
		}
	}
	items, _ := page[object](t, c.do(t, "GET", "/executions/"+e.ID+"/logs", nil))
	shape(t, "a log line", items[0], "id executionId stepKey attempt iteration seq level source message fields createdAt")

	failed := c.logs(t, e.ID, "stepKey=boom&search=before", 2)
	if failed[0].Attempt != 1 || failed[1].Attempt != 2 {
		t.Errorf("the attempts are %+v", failed)
	}
	for query, want := range map[string]int{
		"stepKey=talk&level=WARN":  4,
		"stepKey=talk&level=ERROR": 1,
		"level=FATAL":              0,
		"stepKey=nobody":           0,
		"search=100%25":            1,
		"stepKey=talk&since=" + url.QueryEscape(e.CompletedAt.Add(time.Hour).Format(time.RFC3339)): 0,
		"stepKey=talk&since=" + url.QueryEscape(e.CreatedAt.Format(time.RFC3339Nano)):              7,
	} {
		c.logs(t, e.ID, query, want)
	}

	seen := map[string]bool{}
	cursor := ""
	for range 10 {
		lines, p := page[telemetry.LogLine](t, c.do(t, "GET", "/executions/"+e.ID+"/logs?stepKey=talk&pageSize=3&cursor="+cursor, nil))
		for _, l := range lines {
			if seen[l.ID] || l.ID != talked[len(seen)].ID {
				t.Errorf("the line %q out of turn", l.Message)
			}
			seen[l.ID] = true
		}
		if p.NextCursor == nil {
			break
		}
		cursor = *p.NextCursor
	}
	if len(seen) != 7 {
		t.Errorf("%d lines by cursor", len(seen))
	}
	for _, query := range []string{"level=LOUD", "since=x", "pageSize=0", "pageSize=101", "cursor=x"} {
		fault(t, c.do(t, "GET", "/executions/"+e.ID+"/logs?"+query, nil), errs.Validation)
	}
}
