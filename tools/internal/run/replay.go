package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
)

// Replay repeats an execution that has ended by what is recorded of it, says what came of each step in comparison, and gives the new
// execution as Run does.
func Replay(ctx context.Context, c *client.Client, id string, p *Progress) (orchestrator.Execution, error) {
	recorded, err := c.Execution(ctx, id)
	if err != nil {
		return recorded, err
	}
	begun, err := c.Replay(ctx, id)
	if err != nil {
		return begun, err
	}
	steps := make([]catalog.Step, len(begun.Steps))
	for i, s := range begun.Steps {
		steps[i].StepKey = s.StepKey
	}
	p.begin("replay of "+id, steps, begun.ID)
	replay, err := await(ctx, c, begun.ID, p)
	if err == nil {
		_, err = fmt.Fprintln(p.Out, Plain(compare(recorded, replay)))
	}
	return replay, err
}

// compare says what is another in a replay than in the execution that it repeats.
func compare(recorded, replay orchestrator.Execution) string {
	was := make(map[string]orchestrator.StepState, len(recorded.Steps))
	for _, s := range recorded.Steps {
		was[s.StepKey] = s
	}
	var taken, same int
	var others []string
	for _, s := range replay.Steps {
		switch before := was[s.StepKey]; {
		case s.Status == before.Status && sameJSON(s.Output, before.Output) && codeOf(s) == codeOf(before):
			if s.ReusedFrom != nil {
				taken++
			} else if s.Attempts > 0 {
				same++
			}
		default:
			others = append(others, fmt.Sprintf("  step %s: was %s, is %s", s.StepKey, result(before), result(s)))
		}
	}
	text := fmt.Sprintf("%s ran again and came to the same result, %s as recorded", count(same, "step"), count(taken, "step"))
	if len(others) > 0 {
		text += fmt.Sprintf(", %s came to another:\n%s", count(len(others), "step"), strings.Join(others, "\n"))
	}
	return text
}

// shown is how much of a result stands on a line.
const shown = 200

// result says in one line what came of a step.
func result(s orchestrator.StepState) string {
	text := s.Status
	switch {
	case s.Error != nil:
		text += " " + s.Error.Error()
	case s.Status == orchestrator.StepCompleted:
		text += " " + string(s.Output)
	}
	if len(text) > shown {
		text = strings.ToValidUTF8(text[:shown], "") + "..."
	}
	return text
}

func codeOf(s orchestrator.StepState) string {
	if s.Error == nil {
		return ""
	}
	return s.Error.Code
}

func sameJSON(a, b json.RawMessage) bool {
	var first, second bytes.Buffer
	if json.Compact(&first, a) != nil || json.Compact(&second, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(first.Bytes(), second.Bytes())
}
