package promises

import "turbocat.io/contracts/orchestrator"

// checkChildren checks that executions which are steps of others, and those steps, know of one another and have one end.
func (c *checker) checkChildren() {
	all := c.byID()
	for i := range c.Executions {
		x := &c.Executions[i]
		if x.last() == nil {
			continue
		}
		if told := x.last().ParentExecutionID; x.ParentID != deref(told) {
			c.say("I2", "the execution %s was made by a step of %q, and says %q", x.ID, x.ParentID, deref(told))
		}
		for _, s := range x.Plan {
			state, _ := stepOf(x.last().Execution, s.Key)
			id := deref(state.ChildExecutionID)
			if !s.Child || id == "" {
				continue
			}
			child := all[id]
			if child == nil || child.last() == nil {
				c.say("I1", "the execution %s, which the step %s of %s waits for, can not be read", id, s.Key, x.ID)
				continue
			}
			c.compareWithChild(x, s, state, child)
		}
	}
}

func (c *checker) compareWithChild(x *Execution, s Step, state orchestrator.StepState, child *Execution) {
	if child.ParentID != x.ID {
		c.say("I2", "the step %s of %s waits for %s, which is of %q", s.Key, x.ID, child.ID, child.ParentID)
	}
	end := child.last()
	if state.Status != orchestrator.StepCompleted {
		return
	}
	if end.Status != orchestrator.ExecutionCompleted || !sameJSON(state.Output, end.Outputs) {
		c.say("I2", "the step %s of %s gives %s, and the execution %s, which it waited for, is %s and gives %s", s.Key, x.ID, state.Output, child.ID, end.Status, end.Outputs)
	}
}

// checkReruns checks that steps which are not run again have the results of the execution that they are of, which stay as they are.
func (c *checker) checkReruns() {
	all := c.byID()
	for i := range c.Executions {
		x := &c.Executions[i]
		if x.last() == nil {
			continue
		}
		if told := deref(x.last().RetryOf); told != x.RerunOf {
			c.say("I2", "the execution %s is of %q again, and says %q", x.ID, x.RerunOf, told)
		}
		source := all[x.RerunOf]
		for _, s := range x.Plan {
			state, _ := stepOf(x.last().Execution, s.Key)
			if s.Reused != (state.ReusedFrom != nil) || s.Reused && *state.ReusedFrom != x.RerunOf {
				c.say("I2", "the step %s of %s says that its result is of %q", s.Key, x.ID, deref(state.ReusedFrom))
			}
			if !s.Reused || source == nil || source.last() == nil {
				continue
			}
			if was, _ := stepOf(source.last().Execution, s.Key); !sameResult(was, state) {
				c.say("I2", "the step %s of %s is %s, and it was %s in %s, whose result it is", s.Key, x.ID, result(state), result(was), source.ID)
			}
		}
	}
}

func (c *checker) byID() map[string]*Execution {
	all := make(map[string]*Execution, len(c.Executions))
	for i := range c.Executions {
		all[c.Executions[i].ID] = &c.Executions[i]
	}
	return all
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
