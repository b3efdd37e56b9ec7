package calls

import (
	"math"
	"testing"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/orchestrator"
)

func TestDeny(t *testing.T) {
	t.Parallel()
	day := func(scope, action, model string, usd float64, tokens int64) catalog.Budget {
		return catalog.Budget{Scope: scope, MaxCostUSD: usd, MaxTokens: tokens, Action: action, Model: model}
	}
	used := map[string]Amount{catalog.BudgetStep: {100, 1_000_000}, catalog.BudgetUser: {500, 5_000_000}}
	for _, c := range []struct {
		name      string
		budgets   []catalog.Budget
		operator  int64
		model     string
		reserve   Amount
		approvals map[int]Approval
		want      *orchestrator.DeniedCall
	}{
		{name: "no budget", reserve: Amount{1 << 40, 1 << 40}},
		{name: "a budget without a maximum", budgets: []catalog.Budget{day("step", "", "", 0, 0)}, reserve: Amount{1 << 40, 1 << 40}},
		{name: "just room", budgets: []catalog.Budget{day("step", "", "", 1.5, 150)}, reserve: Amount{50, 500_000}},
		{
			name: "a token too many", budgets: []catalog.Budget{day("step", "", "", 1.5, 150)}, reserve: Amount{51, 0},
			want: &orchestrator.DeniedCall{Scope: "step", Action: "stop", UsedTokens: 100, UsedMicros: 1_000_000, MaxTokens: 150, MaxMicros: 1_500_000},
		},
		{
			name: "a millionth too much", budgets: []catalog.Budget{day("step", "", "", 1.5, 0)}, reserve: Amount{0, 500_001},
			want: &orchestrator.DeniedCall{Scope: "step", Action: "stop", UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_500_000},
		},
		{
			name: "the operator's", operator: 5_000_000, reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Budget: Operator, Scope: "user", Action: "stop", UsedTokens: 500, UsedMicros: 5_000_000, MaxMicros: 5_000_000},
		},
		{
			name: "more than a number holds", budgets: []catalog.Budget{day("step", "", "", 1.5, 0)}, reserve: Amount{0, math.MaxInt64},
			want: &orchestrator.DeniedCall{Scope: "step", Action: "stop", UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_500_000},
		},
		{
			name: "downgrade", budgets: []catalog.Budget{day("step", "downgrade", "small", 1, 0)}, model: "large", reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Scope: "step", Action: "downgrade", UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_000_000},
		},
		{name: "downgraded", budgets: []catalog.Budget{day("step", "downgrade", "small", 1, 0)}, model: "small", reserve: Amount{0, 1}},
		{
			name: "downgraded, and stopped by another", budgets: []catalog.Budget{day("step", "downgrade", "small", 1, 0), day("user", "stop", "", 5, 0)}, model: "small", reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Budget: 1, Scope: "user", Action: "stop", UsedTokens: 500, UsedMicros: 5_000_000, MaxMicros: 5_000_000},
		},
		{
			name: "nobody is asked in vain", budgets: []catalog.Budget{day("step", "approve", "", 1, 0), day("step", "downgrade", "small", 1, 0), day("user", "stop", "", 5, 0)}, reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Budget: 2, Scope: "user", Action: "stop", UsedTokens: 500, UsedMicros: 5_000_000, MaxMicros: 5_000_000},
		},
		{
			name: "a cheaper model before a question", budgets: []catalog.Budget{day("step", "approve", "", 1, 0), day("step", "downgrade", "small", 1, 0)}, reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Budget: 1, Scope: "step", Action: "downgrade", UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_000_000},
		},
		{
			name: "nobody has decided", budgets: []catalog.Budget{day("step", "approve", "", 1, 0)}, reserve: Amount{0, 1},
			want: &orchestrator.DeniedCall{Scope: "step", Action: "approve", Pending: true, UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_000_000},
		},
		{
			name: "approved", budgets: []catalog.Budget{day("step", "approve", "", 1, 0)}, reserve: Amount{1 << 40, 1 << 40},
			approvals: map[int]Approval{0: {Status: Approved}},
		},
		{
			name: "approved up to what is used up too", budgets: []catalog.Budget{day("step", "approve", "", 0.5, 0)}, reserve: Amount{0, 1},
			approvals: map[int]Approval{0: {Status: Approved, Most: Amount{Micros: 1_000_000}}},
			want:      &orchestrator.DeniedCall{Scope: "step", Action: "approve", Pending: true, UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_000_000},
		},
		{
			name: "refused", budgets: []catalog.Budget{day("step", "approve", "", 1, 0)}, reserve: Amount{0, 1},
			approvals: map[int]Approval{0: {Status: Rejected, Comment: "too dear"}},
			want:      &orchestrator.DeniedCall{Scope: "step", Action: "approve", Comment: "too dear", UsedTokens: 100, UsedMicros: 1_000_000, MaxMicros: 1_000_000},
		},
		{
			name: "what is refused matters once it is used up", budgets: []catalog.Budget{day("step", "approve", "", 2, 0)}, reserve: Amount{0, 1},
			approvals: map[int]Approval{0: {Status: Rejected}},
		},
	} {
		got := Deny(Bounds{c.budgets, c.operator}, c.model, c.reserve, Standing{used, c.approvals})
		switch {
		case (got == nil) != (c.want == nil):
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		case got != nil && *got != *c.want:
			t.Errorf("%s: %+v, want %+v", c.name, *got, *c.want)
		}
	}
}

func TestChildOf(t *testing.T) {
	t.Parallel()
	const call = "0199f0aa-1234-7abc-8def-0123456789ab"
	one, err := ChildOf(call, "token")
	again, _ := ChildOf(call, "token")
	other, _ := ChildOf(call, "forged")
	if err != nil || one != again || one == other || one == call || one[:13] != call[:13] || one[14] != '7' {
		t.Errorf("%s, %s, %s, %v", one, again, other, err)
	}
	if _, err := ChildOf("no id", "token"); err == nil {
		t.Error("it is a child of what is no call")
	}
}
