package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Explain tells why an execution is where it is.
func (s *Service) Explain(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.Explanation, error) {
	record, err := s.visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.Explanation{}, err
	}
	return explain(record, time.Now()), nil
}

// Why a step is where it is.
const (
	reasonDependencies = "DEPENDENCIES"
	reasonQueued       = "QUEUED"
	reasonRunning      = "RUNNING"
	reasonRetry        = "RETRY"
	reasonTimer        = "TIMER"
	reasonSignal       = "SIGNAL"
	reasonChild        = "CHILD"
	reasonItems        = "ITEMS"
	reasonPaused       = "PAUSED"
	reasonFailed       = "FAILED"
	reasonSkipped      = "SKIPPED"
)

// explain says it as the ledger knew it at now.
func explain(r Record, now time.Time) orchestrator.Explanation {
	x := r.Execution
	out := orchestrator.Explanation{ExecutionID: x.ID, Status: x.Status, Steps: []orchestrator.StepExplanation{}}
	reasons := map[string]int{}
	for i := range x.Steps {
		s := &x.Steps[i]
		if s.Status == orchestrator.StepCompleted || s.Status == orchestrator.StepCancelled {
			continue
		}
		e := explainStep(r, i, engine.TimeOf(now))
		e.StepKey, e.Status = x.Definition.Steps[i].Key, s.Status
		reasons[e.Reason]++
		out.Steps = append(out.Steps, e)
	}
	out.Summary = summary(r, reasons)
	return out
}

func explainStep(r Record, i int, now engine.Time) orchestrator.StepExplanation {
	x := r.Execution
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	switch {
	case s.Status == orchestrator.StepFailed:
		return failed(s)
	case s.Status == orchestrator.StepSkipped:
		return orchestrator.StepExplanation{Reason: reasonSkipped, Message: whySkipped(r, i)}
	case s.Status == orchestrator.StepPending:
		return notBegun(x, i)
	case s.RetryAt != 0:
		return backingOff(x, &s.Task, now)
	case def.Type == catalog.StepWait:
		return waits(r, i)
	case def.FansOut():
		return items(r, i, now)
	case s.Child != "":
		return orchestrator.StepExplanation{
			Reason: reasonChild, Message: fmt.Sprintf("attempt %d is the execution %s, which has not ended", s.Attempt, s.Child), Until: moment(s.Backstop),
			Remedy: "see why: GET /api/v1/executions/" + s.Child + "/explain",
		}
	case s.Backstop == 0 && s.Token != "":
		return queued(x, i, now)
	}
	message := fmt.Sprintf("attempt %d runs; the step began %s ago", s.Attempt, ago(now, s.StartedAt))
	if s.Backstop == 0 { // the engine itself runs it
		message = "it is being decided"
	}
	return orchestrator.StepExplanation{Reason: reasonRunning, Message: message, Until: moment(s.Backstop)}
}

func failed(s *engine.Step) orchestrator.StepExplanation {
	out := orchestrator.StepExplanation{Reason: reasonFailed, Message: "it failed"}
	if e := s.Error; e != nil {
		out.Message = fmt.Sprintf("attempt %d failed with %s", s.Attempt, e.Error())
		out.Remedy = remedy(e.Code)
	}
	return out
}

func notBegun(x *engine.Execution, i int) orchestrator.StepExplanation {
	var open []string
	for _, dep := range x.Definition.Steps[i].DependsOn {
		if s := x.Steps[dep].Status; s == orchestrator.StepPending || s == orchestrator.StepRunning {
			open = append(open, x.Definition.Steps[dep].Key)
		}
	}
	switch {
	case len(open) > 0:
		return orchestrator.StepExplanation{Reason: reasonDependencies, Message: "it waits for " + list(open) + " to end"}
	case x.Status == orchestrator.ExecutionPaused:
		return orchestrator.StepExplanation{Reason: reasonPaused, Message: "it could start, but the execution is paused", Remedy: "resume the execution"}
	}
	return orchestrator.StepExplanation{Reason: reasonQueued, Message: "nothing is before it; the orchestrator is about to start it"}
}

func backingOff(x *engine.Execution, t *engine.Task, now engine.Time) orchestrator.StepExplanation {
	out := orchestrator.StepExplanation{Reason: reasonRetry, Message: fmt.Sprintf("attempt %d failed", t.Attempt), Until: moment(t.RetryAt)}
	if t.Error != nil {
		out.Message += " with " + t.Error.Error()
	}
	if x.Status == orchestrator.ExecutionPaused {
		out.Reason, out.Until, out.Remedy = reasonPaused, nil, "resume the execution"
		out.Message += fmt.Sprintf("; attempt %d begins once the execution is resumed and its delay is over", t.Attempt+1)
		return out
	}
	out.Message += fmt.Sprintf("; attempt %d begins in %s", t.Attempt+1, ago(t.RetryAt, now))
	return out
}

func waits(r Record, i int) orchestrator.StepExplanation {
	x := r.Execution
	until := x.WaitsUntil(i)
	name := x.Signal(i)
	if name == "" {
		return orchestrator.StepExplanation{Reason: reasonTimer, Message: "it waits for a time", Until: moment(until)}
	}
	out := orchestrator.StepExplanation{
		Reason: reasonSignal, Message: "it waits for the signal " + strconv.Quote(name), Until: moment(until),
		Remedy: fmt.Sprintf("send it: POST /api/v1/executions/%s/signals/%s", x.ID, name),
	}
	if _, approval := x.Definition.Awaits(name); approval {
		out.Message = "it waits for somebody to approve or refuse " + strconv.Quote(name)
		out.Remedy += ` with {"approve":true} or {"approve":false}`
	}
	return out
}

func items(r Record, i int, now engine.Time) orchestrator.StepExplanation {
	x := r.Execution
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	what, all := "items", strconv.Itoa(s.Begun)+" items begun so far"
	if def.Type == catalog.StepParallel {
		var c catalog.ParallelConfig
		if json.Unmarshal(r.Definition.Steps[i].Config, &c) == nil {
			what, all = "branches", strconv.Itoa(len(c.Branches))+" branches"
		}
	}
	out := orchestrator.StepExplanation{Reason: reasonItems}
	if def.TimeoutMs > 0 {
		out.Until = moment(s.StartedAt.Add(def.TimeoutMs))
	}
	waiting, next := 0, engine.Time(0)
	for _, item := range s.Items {
		if item.RetryAt != 0 {
			waiting++
			if next == 0 || item.RetryAt < next {
				next = item.RetryAt
			}
		}
	}
	ended := fmt.Sprintf("%d completed, %d failed", s.Completed, s.Failed)
	if len(s.Items) == 0 {
		out.Message = fmt.Sprintf("all %s that have begun have ended: %s", what, ended)
	} else {
		out.Message = fmt.Sprintf("%d of %s run or wait for a runner, %s", len(s.Items)-waiting, all, ended)
	}
	if waiting > 0 {
		out.Message += fmt.Sprintf(", %d wait for another attempt, the first of them for %s", waiting, ago(next, now))
	}
	if x.Status == orchestrator.ExecutionPaused {
		out.Message += "; no more begin until the execution is resumed"
		out.Remedy = "resume the execution"
	}
	return out
}

// longQueued is how long a step waits for a runner until that is worth a look.
const longQueued = 30 * time.Second

func queued(x *engine.Execution, i int, now engine.Time) orchestrator.StepExplanation {
	s := &x.Steps[i]
	out := orchestrator.StepExplanation{Reason: reasonQueued, Message: fmt.Sprintf("attempt %d waits for a runner, or has just begun", s.Attempt)}
	if s.Attempt == 1 {
		out.Message += fmt.Sprintf("; it was ready %s ago", ago(now, s.StartedAt))
	}
	if time.Duration(now.Ms(s.StartedAt))*time.Millisecond > longQueued {
		out.Remedy = "see whether runners are up and not all busy: GET /health; start more of them"
	}
	return out
}

// whySkipped tells what kept a step from running.
func whySkipped(r Record, i int) string {
	x := r.Execution
	def := &x.Definition.Steps[i]
	if x.Status == orchestrator.ExecutionFailed && x.Steps[i].CompletedAt == x.CompletedAt {
		return "the execution failed before it could start"
	}
	for _, c := range def.NamedBy {
		condition, key := &x.Steps[c], x.Definition.Steps[c].Key
		if condition.Status != orchestrator.StepCompleted {
			return fmt.Sprintf("the CONDITION %s, which names it, is %s", key, condition.Status)
		}
		if branch, names := takenBranch(r.Definition.Steps[c], condition.Output); !slices.Contains(names, def.Key) {
			return fmt.Sprintf("the CONDITION %s took the branch %s, which does not name it", key, branch)
		}
	}
	states := make([]string, len(def.DependsOn))
	for n, dep := range def.DependsOn {
		states[n] = x.Definition.Steps[dep].Key + " is " + x.Steps[dep].Status
	}
	return fmt.Sprintf("its triggerRule %s does not hold: %s", def.Rule, list(states))
}

// takenBranch gives the branch that the output of a CONDITION tells of, and the steps it names.
func takenBranch(step catalog.Step, output []byte) (branch string, names []string) {
	var taken struct {
		Branch string `json:"branch"`
	}
	var c catalog.ConditionConfig
	if json.Unmarshal(output, &taken) != nil || json.Unmarshal(step.Config, &c) != nil {
		return "", nil
	}
	switch taken.Branch {
	case "then":
		return taken.Branch, c.Then
	case "else":
		return taken.Branch, c.Else
	}
	for i, one := range c.Cases {
		if taken.Branch == "cases["+strconv.Itoa(i)+"]" {
			return taken.Branch, one.Then
		}
	}
	return taken.Branch, nil
}

// summary says in a sentence where an execution is.
func summary(r Record, reasons map[string]int) string {
	x := r.Execution
	switch x.Status {
	case orchestrator.ExecutionPending:
		return "It is accepted and begins as soon as an orchestrator has read it."
	case orchestrator.ExecutionCompleted:
		return "It completed."
	case orchestrator.ExecutionCancelled:
		return "It was cancelled."
	case orchestrator.ExecutionTimeout:
		return fmt.Sprintf("It ran longer than its timeoutMs of %d; give the workflow more time, or retry it.", x.Definition.TimeoutMs)
	case orchestrator.ExecutionFailed:
		if x.Error == nil {
			return "It failed."
		}
		where := ""
		if x.Error.StepKey != "" {
			where = " at the step " + x.Error.StepKey
		}
		out := fmt.Sprintf("It failed%s with %s", where, x.Error.Error())
		if remedy := remedy(x.Error.Code); remedy != "" {
			out += "; " + remedy
		}
		return out + "."
	}
	var parts []string
	for _, one := range []struct{ reason, singular, plural string }{
		{reasonRunning, "step runs", "steps run"},
		{reasonItems, "step works on its items", "steps work on their items"},
		{reasonQueued, "step waits for a runner", "steps wait for a runner"},
		{reasonRetry, "step waits for another attempt", "steps wait for another attempt"},
		{reasonTimer, "step waits for a time", "steps wait for a time"},
		{reasonChild, "step waits for another execution", "steps wait for other executions"},
		{reasonSignal, "step waits for a signal", "steps wait for a signal"},
		{reasonDependencies, "step waits for others", "steps wait for others"},
		{reasonPaused, "step could start", "steps could start"},
	} {
		switch n := reasons[one.reason]; {
		case n == 1:
			parts = append(parts, "1 "+one.singular)
		case n > 1:
			parts = append(parts, strconv.Itoa(n)+" "+one.plural)
		}
	}
	state := "It is running"
	if x.Status == orchestrator.ExecutionPaused {
		state = "It is paused, and goes on when it is resumed"
	}
	if len(parts) > 0 {
		state += ": " + strings.Join(parts, ", ")
	}
	return state + "."
}

// maxNamed is how many names a sentence has.
const maxNamed = 10

func list(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + " and " + strconv.Itoa(len(names)-maxNamed) + " more"
	}
	return strings.Join(names, ", ")
}

// ago gives the time from one moment to a later one, for people.
func ago(later, earlier engine.Time) string {
	d := time.Duration(later.Ms(earlier)) * time.Millisecond
	if d > 10*time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}
