package calls

import (
	"cmp"
	"math"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
)

// Amount is what calls use together.
type Amount struct{ Tokens, Micros int64 }

// Plus adds two amounts, to what a number can hold at most.
func (a Amount) Plus(b Amount) Amount {
	return Amount{sum(a.Tokens, b.Tokens), sum(a.Micros, b.Micros)}
}

func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// within tells whether an amount is no more than a maximum, of which 0 bounds nothing.
func (a Amount) within(most Amount) bool {
	return (most.Tokens == 0 || a.Tokens <= most.Tokens) && (most.Micros == 0 || a.Micros <= most.Micros)
}

// Approval is what somebody has decided, or is to decide, about a budget that a step had used up.
type Approval struct {
	Status  string // Pending, Approved or Rejected
	Most    Amount // of an approved one, instead of the budget's; zero bounds nothing
	Comment string
}

// Statuses of an Approval.
const (
	Pending  = "PENDING"
	Approved = "APPROVED"
	Rejected = "REJECTED"
)

// Standing is what decides whether a call may begin. It does not change while that is decided.
type Standing struct {
	Used      map[string]Amount // settled and reserved, by the scopes of budgets
	Approvals map[int]Approval  // by the place of the budget
}

// Operator is the place of the operator's own budget.
const Operator = -1

// Bounds are what a call has to stay within.
type Bounds struct {
	Budgets         []catalog.Budget
	UserDailyMicros int64 // the operator's, for each user and day; 0 for none
}

// Deny gives the budget that has no room for a call of a model; nil when all have. When several have none, one that stops the step goes
// before one that has another model called, and that before one that somebody may approve: nobody is asked in vain.
func Deny(b Bounds, model string, reserve Amount, now Standing) *orchestrator.DeniedCall {
	var worst *orchestrator.DeniedCall
	if most := (Amount{Micros: b.UserDailyMicros}); !now.Used[catalog.BudgetUser].Plus(reserve).within(most) {
		worst = denied(Operator, catalog.BudgetUser, catalog.BudgetStop, now, most)
	}
	for i, budget := range b.Budgets {
		most := Amount{budget.MaxTokens, orchestrator.Micros(budget.MaxCostUSD)}
		action := cmp.Or(budget.Action, catalog.BudgetStop)
		approval := now.Approvals[i]
		if action == catalog.BudgetApprove && approval.Status == Approved {
			most = approval.Most
		}
		if action == catalog.BudgetDowngrade && budget.Model == model || now.Used[budget.Scope].Plus(reserve).within(most) {
			continue
		}
		d := denied(i, budget.Scope, action, now, most)
		if action == catalog.BudgetApprove {
			if d.Pending = approval.Status != Rejected; !d.Pending {
				d.Comment = approval.Comment
			}
		}
		if worst == nil || severity(d) > severity(worst) {
			worst = d
		}
	}
	return worst
}

func denied(budget int, scope, action string, now Standing, most Amount) *orchestrator.DeniedCall {
	used := now.Used[scope]
	return &orchestrator.DeniedCall{
		Budget: budget, Scope: scope, Action: action, UsedTokens: used.Tokens, UsedMicros: used.Micros, MaxTokens: most.Tokens, MaxMicros: most.Micros,
	}
}

func severity(d *orchestrator.DeniedCall) int {
	switch {
	case d.Pending:
		return 0
	case d.Action == catalog.BudgetDowngrade:
		return 1
	}
	return 2
}
