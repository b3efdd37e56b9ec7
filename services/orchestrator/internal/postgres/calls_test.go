package postgres

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/calls"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
)

// attempt is one that runs.
func (l ledger) attempt(id string, step, iteration int) calls.Attempt {
	l.t.Helper()
	token := strings.ReplaceAll(uuid.NewString(), "-", "")
	l.exec(`INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent) VALUES ($1, $2, $3, 3, 'RUNNING', 1, $4, 1, 0)
		ON CONFLICT (execution_id, step_index, iteration) DO UPDATE SET token = excluded.token, attempt = steps.attempt + 1`, id, step, iteration, token)
	a, found, err := l.Attempt(l.t.Context(), orchestrator.AttemptRequest{ExecutionID: id, StepKey: []string{"a", "b"}[step], Iteration: iteration, Token: token, Attempt: 1})
	if err != nil || !found || !a.Awaited {
		l.t.Fatalf("%+v, %t, %v", a, found, err)
	}
	return a
}

func callOf(a calls.Attempt, n int, reserve calls.Amount) calls.Call {
	return calls.Call{
		Attempt: a, ID: uuid.Must(uuid.NewV7()).String(), Run: "run", N: n, Kind: orchestrator.CallOfModel, Name: "large", Provider: "p", Input: []byte(`{"n":1}`),
		Reserve: reserve, Within: time.Minute,
	}
}

func within(budgets ...catalog.Budget) func(calls.Call) func(calls.Standing) *orchestrator.DeniedCall {
	return func(c calls.Call) func(calls.Standing) *orchestrator.DeniedCall {
		return func(now calls.Standing) *orchestrator.DeniedCall {
			return calls.Deny(calls.Bounds{Budgets: budgets}, c.Name, c.Reserve, now)
		}
	}
}

// checkCounters wants every counter to be what the calls add up to.
func (l ledger) checkCounters() {
	l.t.Helper()
	n, err := l.count(`WITH sums AS (
			SELECT scope, key, day, sum(reserved_tokens) AS rt, sum(reserved_micros) AS rm, sum(tokens) AS st, sum(micros) AS sm FROM (
				SELECT v.scope, v.key, v.day, CASE WHEN ended_at IS NULL THEN reserved_tokens ELSE 0 END AS reserved_tokens, CASE WHEN ended_at IS NULL THEN reserved_micros ELSE 0 END AS reserved_micros,
					input_tokens + output_tokens AS tokens, cost_micros AS micros
				FROM calls c, LATERAL (VALUES ('agent', agent_id::text, (started_at AT TIME ZONE 'UTC')::date), ('user', user_id::text, (started_at AT TIME ZONE 'UTC')::date),
					('workflow', workflow_id::text, (started_at AT TIME ZONE 'UTC')::date), ('execution', execution_id::text, '-infinity'::date),
					('step', execution_id || '/' || (CASE step_index WHEN 0 THEN 'a' ELSE 'b' END) || '/' || iteration, '-infinity'::date)) v(scope, key, day)) c GROUP BY 1, 2, 3)
		SELECT count(*) FROM sums FULL JOIN spending USING (scope, key, day) WHERE (coalesce(rt, 0), coalesce(rm, 0), coalesce(st, 0), coalesce(sm, 0))
			IS DISTINCT FROM (coalesce(reserved_tokens, 0), coalesce(reserved_micros, 0), coalesce(spent_tokens, 0), coalesce(spent_micros, 0))`)
	if err != nil || n != 0 {
		l.t.Errorf("%d counters are not what the calls add up to, %v", n, err)
	}
}

// A hundred items at once never reserve more than the budget has, whatever they end with; what is settled for less leaves room.
func TestBudgetsAtOnce(t *testing.T) {
	t.Parallel()
	const items, room = 100, 10
	reserve := calls.Amount{Tokens: 100, Micros: 1000}
	for _, scope := range []string{catalog.BudgetExecution, catalog.BudgetAgent, catalog.BudgetWorkflow, catalog.BudgetUser} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			id := l.accept(l.acceptable("a"))
			attempts := make([]calls.Attempt, items)
			for i := range attempts {
				attempts[i] = l.attempt(id, 0, i+1)
			}
			deny := within(catalog.Budget{Scope: scope, MaxCostUSD: room * 0.001})
			begin := func(n int) (begun []calls.Call) {
				var mu sync.Mutex
				var group sync.WaitGroup
				connections := make(chan struct{}, 6) // as two processes have
				for _, a := range attempts {
					group.Go(func() {
						connections <- struct{}{}
						defer func() { <-connections }()
						c := callOf(a, n, reserve)
						_, denied, err := l.BeginCall(t.Context(), c, deny(c))
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err != nil:
							t.Error(err)
						case denied == nil:
							begun = append(begun, c)
						}
					})
				}
				group.Wait()
				return begun
			}
			begun := begin(1)
			if len(begun) != room {
				t.Fatalf("%d calls are let through; there is room for %d", len(begun), room)
			}
			l.checkCounters()
			var group sync.WaitGroup
			for _, c := range begun { // each uses a half of what it might have
				group.Go(func() {
					for range 2 { // told twice, it is settled once
						if _, err := l.EndCall(t.Context(), calls.Ending{ExecutionID: c.ExecutionID, CallID: c.ID, Token: c.Token, Status: orchestrator.CallCompleted, InputTokens: 30, OutputTokens: 20, Micros: 500}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			l.checkCounters()
			if again := begin(2); len(again) != room/2 {
				t.Errorf("%d more calls are let through; there is room for %d", len(again), room/2)
			}
			l.checkCounters()
		})
	}
}

// Whatever begins and ends in whatever order, the counters are the sums, and no call was let through beyond a budget.
func TestCountersAreSums(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	template := l.acceptable("a", "b")
	var attempts []calls.Attempt
	for range 3 {
		x := template
		x.ID = uuid.Must(uuid.NewV7()).String()
		id := l.accept(x)
		for i := range 4 {
			attempts = append(attempts, l.attempt(id, i%2, 0), l.attempt(id, i%2, i+1))
		}
	}
	budgets := []catalog.Budget{{Scope: catalog.BudgetExecution, MaxTokens: 4000}, {Scope: catalog.BudgetUser, MaxTokens: 9000}, {Scope: catalog.BudgetStep, MaxTokens: 2500}}
	deny := within(budgets...)
	var denials, beyond atomic.Int64
	var group sync.WaitGroup
	for w := range 6 {
		draw := rand.New(rand.NewPCG(seed, uint64(w)))
		group.Go(func() {
			var open []calls.Call
			for n := range 60 {
				if len(open) > 0 && draw.IntN(2) == 0 {
					i := draw.IntN(len(open))
					c := open[i]
					open = slices.Delete(open, i, i+1)
					used := draw.Int64N(c.Reserve.Tokens + 1)
					e := calls.Ending{ExecutionID: c.ExecutionID, CallID: c.ID, Token: c.Token, Status: orchestrator.CallFailed, InputTokens: used, Micros: used * 7}
					if _, err := l.EndCall(t.Context(), e); err != nil {
						t.Error(err)
					}
					continue
				}
				c := callOf(attempts[draw.IntN(len(attempts))], n+1, calls.Amount{Tokens: draw.Int64N(600), Micros: draw.Int64N(9)})
				c.Run = fmt.Sprint("run ", w)
				id, denied, err := l.BeginCall(t.Context(), c, func(now calls.Standing) *orchestrator.DeniedCall {
					for _, b := range budgets {
						if now.Used[b.Scope].Tokens > b.MaxTokens {
							beyond.Add(1)
						}
					}
					return deny(c)(now)
				})
				switch {
				case err != nil:
					t.Error(err)
				case denied != nil:
					denials.Add(1)
				default:
					c.ID = id
					open = append(open, c)
				}
			}
		})
	}
	group.Wait()
	l.checkCounters()
	if denials.Load() == 0 || beyond.Load() > 0 {
		t.Errorf("%d calls were denied, and %d times more was used than a budget has", denials.Load(), beyond.Load())
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	a := l.attempt(id, 0, 0)
	budget := within(catalog.Budget{Scope: catalog.BudgetStep, MaxTokens: 250})
	begin := func(c calls.Call) (string, *orchestrator.DeniedCall) {
		t.Helper()
		id, denied, err := l.BeginCall(t.Context(), c, budget(c))
		if err != nil {
			t.Fatal(err)
		}
		return id, denied
	}
	first := callOf(a, 1, calls.Amount{Tokens: 100})
	begin(first)
	again := callOf(a, 1, calls.Amount{Tokens: 100})
	if got, _ := begin(again); got != first.ID {
		t.Errorf("asked again it is %s, not %s", got, first.ID)
	}
	l.checkCounters()

	// A runner that dies tells nothing of its call: who begins the attempt anew pays once more, and what the first had reserved counts in full.
	anew := callOf(a, 1, calls.Amount{Tokens: 100})
	anew.Run = "another"
	if got, denied := begin(anew); got != anew.ID || denied != nil {
		t.Fatalf("%s, %+v", got, denied)
	}
	list := l.calls(id)
	if len(list) != 2 || list[0].Status != orchestrator.CallUnknown || list[0].ReservedTokens != 100 || list[1].Status != orchestrator.CallRunning {
		t.Errorf("the calls are %+v", list)
	}
	third := callOf(a, 2, calls.Amount{Tokens: 100})
	third.Run = "another"
	if _, denied := begin(third); denied == nil || denied.UsedTokens != 200 {
		t.Errorf("there was room for a third: %+v", denied)
	}
	l.checkCounters()

	// Nobody else can end it; late it is settled all the same.
	end := calls.Ending{ExecutionID: id, CallID: first.ID, Token: "forged", Status: orchestrator.CallCompleted, InputTokens: 1, OutputTokens: 2, Micros: 3, Output: []byte(`"out"`)}
	if _, err := l.EndCall(t.Context(), end); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("a forged end: %v", err)
	}
	end.Token = a.Token
	if _, err := l.EndCall(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	l.checkCounters()
	if list = l.calls(id); list[0].Status != orchestrator.CallCompleted || list[0].InputTokens != 1 || list[0].ReservedTokens != 0 || list[0].CostUSD != 0.000003 || string(list[0].Output) != `"out"` || list[0].EndedAt == nil {
		t.Errorf("it is %+v", list[0])
	}

	// What reserves nothing has no counters, and counts once it is known what it used.
	tool := callOf(a, 7, calls.Amount{})
	tool.Kind, tool.Run = orchestrator.CallOfMCP, "another"
	begin(tool)
	l.checkCounters()
	if _, err := l.EndCall(t.Context(), calls.Ending{ExecutionID: id, CallID: tool.ID, Token: a.Token, Status: orchestrator.CallFailed, Error: []byte(`{"code":"X","message":"y"}`), OutputTokens: 5, Micros: 11}); err != nil {
		t.Fatal(err)
	}
	l.checkCounters()

	// An attempt that is over, or that never was, is none.
	for _, req := range []orchestrator.AttemptRequest{
		{ExecutionID: id, StepKey: "a", Token: "forged"},
		{ExecutionID: id, StepKey: "a"},
		{ExecutionID: id, StepKey: "b", Token: a.Token},
		{ExecutionID: uuid.NewString(), StepKey: "a", Token: a.Token},
		{ExecutionID: id, StepKey: "a", Iteration: 5, Token: a.Token},
		{ExecutionID: "x", StepKey: "a", Token: a.Token},
	} {
		if got, _, err := l.Attempt(t.Context(), req); err != nil || got.Awaited {
			t.Errorf("%+v is awaited, %v", req, err)
		}
	}
	l.exec(`UPDATE steps SET status = 'COMPLETED', token = '' WHERE execution_id = $1`, id)
	if got, _, _ := l.Attempt(t.Context(), orchestrator.AttemptRequest{ExecutionID: id, StepKey: "a", Token: a.Token}); got.Awaited {
		t.Error("it is awaited when it is over")
	}
}

func (l ledger) calls(id string) []orchestrator.Call {
	l.t.Helper()
	list, _, err := l.ListCalls(l.t.Context(), id, 0, rpc.Page{})
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

func TestApproval(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	a := l.attempt(id, 0, 0)
	budget := within(catalog.Budget{Scope: catalog.BudgetStep, MaxTokens: 100, Action: catalog.BudgetApprove})
	n := 0
	begin := func(tokens int64) *orchestrator.DeniedCall {
		t.Helper()
		n++
		c := callOf(a, n, calls.Amount{Tokens: tokens})
		_, denied, err := l.BeginCall(t.Context(), c, budget(c))
		if err != nil {
			t.Fatal(err)
		}
		return denied
	}
	decide := func(status string, tokens int64, want int) {
		t.Helper()
		decided, err := l.DecideBudget(t.Context(), calls.Decision{ExecutionID: id, StepKey: "a", Approval: calls.Approval{Status: status, Most: calls.Amount{Tokens: tokens}, Comment: "so"}, By: "somebody"})
		if err != nil || decided != want {
			t.Fatalf("%d are decided, %v", decided, err)
		}
	}
	decide(calls.Approved, 0, 0)
	if denied := begin(100); denied != nil {
		t.Fatalf("%+v", denied)
	}
	for range 2 {
		if denied := begin(100); denied == nil || !denied.Pending {
			t.Fatalf("%+v", denied)
		}
	}
	decide(calls.Approved, 200, 1)
	decide(calls.Approved, 200, 0)
	if denied := begin(100); denied != nil {
		t.Fatalf("%+v", denied)
	}
	if denied := begin(1); denied == nil || !denied.Pending || denied.MaxTokens != 200 {
		t.Fatalf("beyond what was approved: %+v", denied)
	}
	decide(calls.Rejected, 0, 1)
	if denied := begin(1); denied == nil || denied.Pending || denied.Comment != "so" {
		t.Errorf("%+v", denied)
	}
	if n := mustCount(l, `SELECT count(*) FROM outbox WHERE body::text LIKE '%execution.budget_decided%'`); n != 2 {
		t.Errorf("the audit trail is told of %d decisions", n)
	}
}

// Who asks again and again does not undo the decision that comes meanwhile.
func TestADecisionIsFinal(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	budget := within(catalog.Budget{Scope: catalog.BudgetStep, MaxTokens: 100, Action: catalog.BudgetApprove})
	for i := range 20 {
		c := callOf(l.attempt(id, 0, i+1), 1, calls.Amount{Tokens: 101})
		var askers sync.WaitGroup
		var decided atomic.Bool
		for range 2 {
			askers.Go(func() {
				for {
					final := decided.Load()
					_, denied, err := l.BeginCall(t.Context(), c, budget(c))
					if err != nil || final && denied != nil {
						t.Errorf("after the decision it is %+v, %v", denied, err)
					}
					if err != nil || final || denied == nil {
						return
					}
				}
			})
		}
		for n := 0; n == 0; {
			var err error
			n, err = l.DecideBudget(t.Context(), calls.Decision{ExecutionID: id, StepKey: "a", Approval: calls.Approval{Status: calls.Approved}, By: "somebody"})
			if err != nil {
				t.Fatal(err)
			}
		}
		decided.Store(true)
		askers.Wait()
	}
}

// The executions that calls have begun end when nobody waits for them any more.
func TestUnawaitedAgents(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	a := l.attempt(id, 0, 0)
	child := func(n int, run string) (c calls.Call, childID string) {
		t.Helper()
		c = callOf(a, n, calls.Amount{})
		c.Kind, c.Run = orchestrator.CallOfAgent, run
		if _, _, err := l.BeginCall(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
		childID, err := calls.ChildOf(c.ID, a.Token)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.NameChild(t.Context(), id, c.ID, "forged", childID); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("a forged attempt: %v", err)
		}
		if err := l.NameChild(t.Context(), id, c.ID, a.Token, childID); err != nil {
			t.Fatal(err)
		}
		x := l.acceptable("a")
		x.ID, x.Depth, x.Detached = childID, 1, true
		x.Parent = &engine.Parent{ExecutionID: id, StepKey: "a", Token: a.Token}
		return c, l.accept(x)
	}
	expect := func(when string, want ...string) {
		t.Helper()
		inputs, err := l.EndUnawaited(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range inputs {
			got = append(got, c.ExecutionID)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %v are ended, not %v", when, got, want)
		}
	}
	given, givenUp := child(1, "run")
	expect("at first")
	inputs, err := l.EndCall(t.Context(), calls.Ending{ExecutionID: id, CallID: given.ID, Token: a.Token, Status: orchestrator.CallFailed})
	if err != nil || len(inputs) != 1 || inputs[0].ExecutionID != givenUp {
		t.Errorf("of a call that has ended %+v, %v", inputs, err)
	}
	_, superseded := child(2, "run")
	_, one := child(3, "another") // which the first run knows nothing of
	expect("after another run", superseded)
	expect("asked again")
	l.exec(`UPDATE steps SET token = 'next' WHERE execution_id = $1`, id)
	expect("after the attempt", one)
	x := l.acceptable("a")
	x.Detached, x.Parent = true, &engine.Parent{ExecutionID: id, StepKey: "a", Token: a.Token}
	if outcomes, _, err := l.Accept(t.Context(), []execution.Accepted{x}); err != nil || !outcomes[0].Obsolete {
		t.Errorf("one more is begun for an attempt that is over: %+v, %v", outcomes, err)
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	say := func(a calls.Attempt, key string, texts ...string) {
		t.Helper()
		var messages []calls.Message
		for _, text := range texts {
			messages = append(messages, calls.Message(`"`+text+`"`))
		}
		if err := l.Remember(t.Context(), a, key, messages); err != nil {
			t.Fatal(err)
		}
	}
	recall := func(a calls.Attempt, key string, most int) string {
		t.Helper()
		found, err := l.Recall(t.Context(), a, key, most)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, m := range found {
			b.Write(m)
		}
		return b.String()
	}
	one := l.attempt(id, 0, 0)
	say(one, "k", "a", "b")
	say(one, "k", "a", "b") // asked again
	other := one
	other.UserID = uuid.NewString()
	if got := recall(one, "k", 9) + recall(one, "k", 1) + recall(one, "l", 9) + recall(other, "k", 9); got != `"a""b""b"` {
		t.Errorf("%s is recalled", got)
	}
	two := l.attempt(id, 0, 0)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			a := two
			a.Token = fmt.Sprint(i)
			say(a, "k", slices.Repeat([]string{fmt.Sprint(i)}, 30)...)
		})
	}
	group.Wait()
	got := recall(one, "k", 1000)
	if n := strings.Count(got, `""`) + 1; n != orchestrator.MaxConversation {
		t.Errorf("%d messages are kept", n)
	}
	for i := range 8 {
		if text := strings.Repeat(fmt.Sprintf("%q", fmt.Sprint(i)), 20); strings.Contains(got, fmt.Sprintf("%q", fmt.Sprint(i))) && !strings.Contains(got, text) {
			t.Errorf("the messages of %d do not stand together", i)
		}
	}
}
