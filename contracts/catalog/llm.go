package catalog

// Budget bounds what an LLM agent may use: before each call of a model what it may use at most is reserved, and after it what it
// has used is settled. A budget without a maximum bounds nothing.
type Budget struct {
	Scope      string  `json:"scope" enum:"step,execution,agent,workflow,user"` // whose use counts
	Period     string  `json:"period,omitempty" enum:"day"`                     // a UTC day: of an agent, a workflow, a user
	MaxCostUSD float64 `json:"maxCostUsd,omitempty"`                            // 0 for no bound
	MaxTokens  int64   `json:"maxTokens,omitempty"`                             // input and output together; 0 for no bound
	Action     string  `json:"action,omitempty" enum:"stop,downgrade,approve"`  // once it is used up; "" is stop
	Model      string  `json:"model,omitempty"`                                 // of downgrade: that is used instead
}

// Whose use a Budget bounds.
const (
	BudgetStep      = "step" // an item of a LOOP or a branch of a PARALLEL has its own
	BudgetExecution = "execution"
	BudgetAgent     = "agent"
	BudgetWorkflow  = "workflow"
	BudgetUser      = "user"
)

// What happens to a call that a Budget has no room for.
const (
	BudgetStop      = "stop"      // the step fails
	BudgetDowngrade = "downgrade" // a cheaper model is called instead, which the budget does not bound
	BudgetApprove   = "approve"   // the step waits until somebody decides
)

// MaxBudgets is how many budgets an LLM agent may have.
const MaxBudgets = 20
