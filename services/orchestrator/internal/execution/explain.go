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
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/dealing"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Explain tells why an execution is where it is.
func (s *Service) Explain(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.Explanation, error) {
	record, err := s.Visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.Explanation{}, err
	}
	out := explain(record, s.dealer, time.Now())
	if record.Execution.Slot == engine.SlotWaiting {
		queue, waits, err := s.store.Queue(ctx, record.Execution.ID)
		if err != nil {
			return orchestrator.Explanation{}, err
		}
		if waits { // else it has got a slot since it was read
			explainQueue(&out, queue)
		}
	}
	return out, nil
}

// explainQueue says what an execution waits for that is queued behind a limit.
func explainQueue(out *orchestrator.Explanation, q Queue) {
	out.Limit = &orchestrator.LimitExplanation{Key: q.Key, Max: q.Max, Held: q.Held, Holders: q.Holders, Place: q.Place, Waiting: q.Waiting}
	of := ""
	if q.Key != "" {
		of = " for the key " + strconv.Quote(q.Key)
	}
	held := list(q.Holders)
	if more := q.Held - len(q.Holders); more > 0 {
		held += " and " + strconv.Itoa(more) + " more"
	}
	out.Summary = fmt.Sprintf("It is queued behind the concurrency limit of the workflow, %d%s: number %d of %d in the queue, while these have not ended: %s.",
		q.Max, of, q.Place, q.Waiting, held)
	if out.Status == orchestrator.ExecutionPaused {
		out.Summary += " It is also paused, and begins when it is resumed."
	}
}

// Why a step is where it is.
const (
	reasonDependencies = "DEPENDENCIES"
	reasonLimit        = "LIMIT"
	reasonQueued       = "QUEUED"
	reasonRunner       = "RUNNER"
	reasonRunning      = "RUNNING"
	reasonRetry        = "RETRY"
	reasonTimer        = "TIMER"
	reasonSignal       = "SIGNAL"
	reasonChild        = "CHILD"
	reasonBudget       = "BUDGET"
	reasonItems        = "ITEMS"
	reasonPaused       = "PAUSED"
	reasonFailed       = "FAILED"
	reasonSkipped      = "SKIPPED"
)

// explain says it as the ledger knew it at now, and of runners and of the line for them what this process knows.
func explain(r Record, d *dealing.Dealer, now time.Time) orchestrator.Explanation {
	x := r.Execution
	out := orchestrator.Explanation{ExecutionID: x.ID, Status: x.Status, Steps: []orchestrator.StepExplanation{}}
	reasons := map[string]int{}
	for i := range x.Steps {
		s := &x.Steps[i]
		if s.Status == orchestrator.StepCompleted || s.Status == orchestrator.StepCancelled {
			continue
		}
		e := explainStep(r, d, i, engine.TimeOf(now))
		e.StepKey, e.Status = x.Definition.Steps[i].Key, s.Status
		reasons[e.Reason]++
		out.Steps = append(out.Steps, e)
	}
	out.Summary = summary(r, reasons) + compensationSummary(r)
	return out
}

func explainStep(r Record, d *dealing.Dealer, i int, now engine.Time) orchestrator.StepExplanation {
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
	case s.Child != "" && def.Work(0).Recorded:
		return orchestrator.StepExplanation{Reason: reasonRunning, Message: "its result is read from " + x.Definition.Recording.ExecutionID + ", which is replayed"}
	case def.Type == catalog.StepWait:
		return waits(r, i)
	case def.FansOut():
		return items(r, d, i, now)
	case s.Child != "":
		return orchestrator.StepExplanation{
			Reason: reasonChild, Message: fmt.Sprintf("attempt %d is the execution %s, which has not ended", s.Attempt, s.Child), Until: moment(s.Backstop),
			Remedy: "see why: GET /api/v1/executions/" + s.Child + "/explain",
		}
	case r.Undecided[i] > 0:
		return orchestrator.StepExplanation{
			Reason: reasonBudget, Message: fmt.Sprintf("attempt %d waits until somebody approves of more than a budget has, or refuses", s.Attempt), Until: moment(s.Backstop), Remedy: decide(x, i),
		}
	case ready(x, i):
		return waitsForRunner(r, d, i, now)
	case s.Backstop == 0: // the engine itself runs it
		return orchestrator.StepExplanation{Reason: reasonRunning, Message: "it is being decided"}
	}
	out := orchestrator.StepExplanation{Reason: reasonRunning, Message: fmt.Sprintf("attempt %d runs; the step began %s ago", s.Attempt, ago(now, s.StartedAt)), Until: moment(s.Backstop)}
	if lack, remedy := lacking(d, def.Work(0).Pool, def.Work(0).AgentType); lack != "" {
		out.Reason, out.Remedy = reasonRunner, remedy
		out.Message = fmt.Sprintf("attempt %d began on a runner, and now %s: unless it ends all the same, it begins again on another one", s.Attempt, lack)
	}
	return out
}

// decide tells how it is decided about the budgets of a step.
func decide(x *engine.Execution, i int) string {
	return fmt.Sprintf(`decide: POST /api/v1/executions/%s/steps/%s/budget with {"approved":true} or {"approved":false}; its log says which budget`, x.ID, x.Definition.Steps[i].Key)
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
	case x.Slot == engine.SlotWaiting:
		return orchestrator.StepExplanation{
			Reason: reasonLimit, Message: "the execution is queued behind the concurrency limit of its workflow",
			Remedy: "wait for the executions before it or cancel them, or raise max in the workflow's concurrency",
		}
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

func items(r Record, d *dealing.Dealer, i int, now engine.Time) orchestrator.StepExplanation {
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
	if n := r.Undecided[i]; n > 0 {
		out.Message += fmt.Sprintf("; %d of them wait until somebody approves of more than a budget has, or refuses", n)
		out.Remedy = decide(x, i)
	}
	for _, work := range atRunners(x, i) {
		if lack, remedy := lacking(d, work.Pool, work.AgentType); lack != "" {
			out.Message, out.Remedy = out.Message+"; "+lack, remedy
			break
		}
	}
	if x.Status == orchestrator.ExecutionPaused {
		out.Message += "; no more begin until the execution is resumed"
		out.Remedy = "resume the execution"
	}
	return out
}

// atRunners gives the works of a step's items that run, or wait for a runner: one of each kind.
func atRunners(x *engine.Execution, i int) (found []*engine.Work) {
	for _, item := range x.Steps[i].Items {
		w := x.Definition.Steps[i].Work(item.Iteration)
		same := func(other *engine.Work) bool { return other.Pool == w.Pool && other.AgentType == w.AgentType }
		if item.RetryAt == 0 && item.Child == "" && !slices.ContainsFunc(found, same) {
			found = append(found, w)
		}
	}
	return found
}

// ready tells whether a step is a runner's, and none has said that it has begun: it says so after 200 ms.
func ready(x *engine.Execution, i int) bool {
	s, def := &x.Steps[i], &x.Definition.Steps[i]
	return s.AwaitsResult() && s.RetryAt == 0 && s.Backstop == 0 && s.Child == "" && def.Type != catalog.StepWait && !def.FansOut()
}

// heldBack tells whether a step that is ready is not sent because of a pause.
func heldBack(r Record, i int) bool {
	return r.Execution.Status == orchestrator.ExecutionPaused && r.Sent[engine.Place{Step: i}] == 0
}

// longReady is how long a step waits for a runner until that is worth a look.
const longReady = 30 * time.Second

// waitsForRunner tells why a step that is ready has not begun. Which place it has in the line only the owner of the execution knows.
func waitsForRunner(r Record, d *dealing.Dealer, i int, now engine.Time) orchestrator.StepExplanation {
	x, p := r.Execution, engine.Place{Step: i}
	s, pool, agentType := &x.Steps[i], x.Definition.Steps[i].Work(0).Pool, x.Definition.Steps[i].Work(0).AgentType
	attempt := fmt.Sprintf("attempt %d", s.Attempt)
	if s.Attempt == 1 {
		attempt += fmt.Sprintf(", which was ready %s ago,", ago(now, s.StartedAt))
	}
	if heldBack(r, i) {
		return orchestrator.StepExplanation{Reason: reasonPaused, Message: attempt + " goes to a runner once the execution is resumed", Remedy: "resume the execution"}
	}
	out := orchestrator.StepExplanation{Reason: reasonRunner}
	if lack, remedy := lacking(d, pool, agentType); lack != "" {
		out.Message, out.Remedy = attempt+" waits for a runner: "+lack, remedy
		return out
	}
	line := d.Of(pool, agentType, x.UserID)
	runners := fmt.Sprintf("the runners that are alive run %d attempts of %s agents at once", line.Slots, agentType)
	if line.Runners == 0 {
		runners = "which runners are alive is not known yet, for this orchestrator has just started"
	}
	switch ahead, waits := d.Ahead(pool, agentType, x.UserID, x.ID, p); {
	case waits:
		out.Message = fmt.Sprintf("%s waits in line for a runner, with %d other steps of its user before it; users take turns; ", attempt, ahead)
	case r.Sent[p] == 0:
		out.Message = attempt + " waits in line for a runner, or was sent to one just now; "
	default:
		out.Message = attempt + " is among the next that runners take, or one has just begun it; "
	}
	out.Message += runners
	if time.Duration(now.Ms(s.StartedAt))*time.Millisecond > longReady {
		out.Remedy = "when it takes too long, start more runners"
	}
	return out
}

// lacking says that no runner can run an agent type in a pool, and what to do; "" when one can, or that is not known yet.
func lacking(d *dealing.Dealer, pool, agentType string) (lack, remedy string) {
	of, which, start := d.Of(pool, agentType, ""), "", "start a runner"
	if labels := catalog.LabelsOf(pool); pool != subject.DefaultPool {
		which, start = " labelled "+strings.Join(labels, " and "), "start a runner with TURBOCAT_RUNNER_LABELS="+strings.Join(labels, ",")+", or require other labels in the agent's config.runner"
	}
	switch {
	case !d.Listened() || of.Runners > 0:
		return "", ""
	case of.Alive == 0:
		return "no runner" + which + " is alive", start
	default:
		return fmt.Sprintf("of %d runners%s that are alive none takes %s agents", of.Alive, which, agentType), "see in the runners' logs why, or start one that does"
	}
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
		if x.Error != nil {
			return fmt.Sprintf("It was cancelled with %s; %s.", x.Error.Error(), remedy(x.Error.Code))
		}
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
		{reasonQueued, "step is about to start", "steps are about to start"},
		{reasonRunner, "step waits for a runner", "steps wait for a runner"},
		{reasonRetry, "step waits for another attempt", "steps wait for another attempt"},
		{reasonTimer, "step waits for a time", "steps wait for a time"},
		{reasonChild, "step waits for another execution", "steps wait for other executions"},
		{reasonSignal, "step waits for a signal", "steps wait for a signal"},
		{reasonBudget, "step waits for somebody to decide about a budget", "steps wait for somebody to decide about budgets"},
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

// compensationSummary adds what undoes an execution, or what it undoes.
func compensationSummary(r Record) string {
	out := ""
	if of := r.Execution.CompensationOf; of != "" {
		out = fmt.Sprintf(" It undoes what the execution %s has done.", of)
	}
	c := r.Compensation
	if c == nil {
		return out
	}
	out += fmt.Sprintf(" The execution %s, which undoes what it has done, is %s", c.ID, c.Status)
	if engine.Terminal(c.Status) && c.Status != orchestrator.ExecutionCompleted {
		out += "; see why, and retry that one"
	}
	return out + "."
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
