package enginetest

import (
	"encoding/json"
	"fmt"
	"strconv"

	"turbocat.io/contracts/catalog"
)

// Case is a branch of a CONDITION.
type Case struct {
	Test  Test
	Steps []int // that it names
}

// Test is an expression of a CONDITION; Step is what some of them look at.
type Test struct {
	Kind TestKind
	Step int
}

// TestKind says what a Test asks.
type TestKind int

// The kinds of a Test.
const (
	HoldsAlways TestKind = iota
	HoldsNever
	ScoredHigh // the output of the step has a v of at least 500
	Completed  // the step is COMPLETED
	Broken     // it is no condition
	Otherwise  // the else: no expression
)

func (t Test) expression(p Plan) string {
	key := p.Key(t.Step)
	return map[TestKind]string{
		HoldsAlways: "inputs.n == 20", HoldsNever: "inputs.n > 20", ScoredHigh: "(" + key + ".output.v ?? 0) >= 500",
		Completed: key + `.status == "COMPLETED"`, Broken: "inputs.n",
	}[t.Kind]
}

// Loop is what a LOOP goes over, and how.
type Loop struct {
	Form        LoopForm
	Over        []Reference // the items of Templated and Computed
	Count       int         // the items of Literal; of While, up to which index it holds
	Concurrency int
	Most        int // maxIterations; 0 for the default
	Failures    int
	Percent     float64
}

// LoopForm says what a LOOP is given.
type LoopForm int

// The forms of a LOOP.
const (
	Literal   LoopForm = iota // an array
	Templated                 // an array with templates in it
	Computed                  // an expression that gives an array
	NoArray                   // an expression that gives none
	While                     // an expression that holds for a while
)

// WhileBelow is what the v of an item's output must be below, so that a While goes on.
const WhileBelow = 900

func (l Loop) config(p Plan) catalog.LoopConfig {
	c := catalog.LoopConfig{Concurrency: l.Concurrency, MaxIterations: l.Most, MaxFailures: l.Failures, MaxFailurePercent: l.Percent}
	var items []any
	switch l.Form {
	case Literal:
		for n := range l.Count {
			items = append(items, 10*n)
		}
	case Templated:
		for _, r := range l.Over {
			items = append(items, r.text(p))
		}
	case Computed:
		text := "["
		for n, r := range l.Over {
			if n > 0 {
				text += ", "
			}
			text += r.expression(p)
		}
		c.ForEach = encoded(text + "]")
		return c
	case NoArray:
		c.ForEach = encoded("inputs.n")
		return c
	case While:
		c.While = fmt.Sprintf("index < %d && (item.v ?? 0) < %d", l.Count, WhileBelow)
		return c
	}
	if items == nil {
		items = []any{}
	}
	c.ForEach = encoded(items)
	return c
}

// Wait is what a WAIT waits for.
type Wait struct {
	Form      WaitForm
	Ms        int64  // of Passes
	Signal    string // of Hears and Approved; "" for the step's key
	TimeoutMs int64  // of the signal
	Default   bool   // there is one
}

// WaitForm says what a WAIT waits for.
type WaitForm int

// The forms of a WAIT.
const (
	Passes     WaitForm = iota // a number of milliseconds
	PassesBy                   // a template that gives 20 of them
	PassesNot                  // a template that gives none
	PastMoment                 // a moment that is over
	Hears                      // a signal
	Approved                   // an approval
)

// DefaultOutput is the output of a WAIT with a Default whose signal does not come.
const DefaultOutput = `{"v":7}`

func (w Wait) config() catalog.WaitConfig {
	c := catalog.WaitConfig{TimeoutMs: w.TimeoutMs, Signal: w.Signal}
	if w.Default {
		c.Default = json.RawMessage(DefaultOutput)
	}
	switch w.Form {
	case Passes:
		c.DurationMs = encoded(w.Ms)
	case PassesBy:
		c.DurationMs = encoded("{{inputs.n}}")
	case PassesNot:
		c.DurationMs = encoded("{{inputs.m}}")
	case PastMoment:
		c.Until = "{{metadata.startedAt}}"
	case Approved:
		c.Approval = true
	case Hears:
	}
	return c
}

// SignalOf is the name of the signal that step i waits for; "" when it waits for none.
func (p Plan) SignalOf(i int) string {
	w := p.Steps[i].Wait
	switch {
	case w == nil || w.Form != Hears && w.Form != Approved:
		return ""
	case w.Signal == "":
		return p.Key(i)
	}
	return w.Signal
}

// Branch is a branch of a PARALLEL, whose key is its place; see BranchKey.
type Branch struct{ Inputs []Reference }

// BranchKey is the key of the n-th branch, from 0.
func BranchKey(n int) string { return "b" + strconv.Itoa(n) }

// needed is how many branches of a PARALLEL must complete.
func (s Step) needed() int {
	switch s.Join {
	case "", catalog.JoinAll:
		return len(s.Branches)
	case catalog.JoinAny:
		return 1
	}
	n, err := strconv.Atoi(s.Join)
	if err != nil {
		panic(err) // a plan has no other
	}
	return n
}

// fill writes what is peculiar to the type of step i.
func (p Plan) fill(i int, out *catalog.Step) {
	s := p.Steps[i]
	agent := agentID
	var config any
	switch s.Type {
	case catalog.StepCondition:
		config = p.condition(s)
	case catalog.StepLoop:
		out.AgentID, out.Inputs = &agent, p.template(s.Inputs)
		config = s.Loop.config(p)
	case catalog.StepParallel:
		c := catalog.ParallelConfig{}
		for n, b := range s.Branches {
			c.Branches = append(c.Branches, catalog.Branch{Key: BranchKey(n), AgentID: agentID, Inputs: p.template(b.Inputs)})
		}
		if _, err := strconv.Atoi(s.Join); err == nil {
			c.Join = json.RawMessage(s.Join)
		} else if s.Join != "" {
			c.Join = encoded(s.Join)
		}
		config = c
	case catalog.StepWait:
		config = s.Wait.config()
	default:
		if s.Child != nil {
			agent = s.Child.agent().ID
		}
		out.AgentID, out.Inputs = &agent, p.template(s.Inputs)
		return
	}
	out.StepType, out.Config = s.Type, encoded(config)
}

func (p Plan) condition(s Step) catalog.ConditionConfig {
	keys := func(c Case) []string {
		var named []string
		for _, i := range c.Steps {
			named = append(named, p.Key(i))
		}
		return named
	}
	last := len(s.Cases) - 1
	c := catalog.ConditionConfig{Else: keys(s.Cases[last])}
	if s.Then {
		c.Expression, c.Then = s.Cases[0].Test.expression(p), keys(s.Cases[0])
		return c
	}
	for _, one := range s.Cases[:last] {
		c.Cases = append(c.Cases, catalog.ConditionCase{When: one.Test.expression(p), Then: keys(one)})
	}
	return c
}

// caseName is what the output of a CONDITION calls its n-th case.
func (s Step) caseName(n int) string {
	switch {
	case n == len(s.Cases)-1:
		return "else"
	case s.Then:
		return "then"
	}
	return "cases[" + strconv.Itoa(n) + "]"
}

// expression is the reference as part of an expression.
func (r Reference) expression(p Plan) string {
	key := p.Key(r.Step)
	switch r.Part {
	case WholeOutput:
		return key + ".output"
	case OutputValue, OutputText:
		return key + ".output.v"
	case MissingPath:
		return key + ".output.w[2]"
	case StepStatus:
		return key + ".status"
	case ErrorCode:
		return key + ".error.code"
	case ExecutionInput:
		return "inputs.n"
	default:
		return "inputs.m"
	}
}

func encoded(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // it has nothing but strings, numbers and what was encoded before
	}
	return raw
}
