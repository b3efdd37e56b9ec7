package postgres

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/orchestrator/internal/execution"
)

// ledger is a store with the table behind it.
type ledger struct {
	t testing.TB
	*Store
	db *sqlx.DB
}

func newLedger(t testing.TB) ledger {
	t.Helper()
	db := pgtest.New(t, "orchestrator", migrations.Of("orchestrator"))
	return ledger{t, New(db, db), db}
}

// acceptable is an execution of steps that run one after the other.
func (l ledger) acceptable(keys ...string) execution.Accepted {
	l.t.Helper()
	agent := uuid.NewString()
	def := catalog.Definition{
		WorkflowID: uuid.NewString(), WorkflowOwner: uuid.NewString(), WorkflowVersion: 1, TimeoutMs: 60_000,
		Agents: []catalog.DefinitionAgent{{ID: agent, Type: catalog.AgentData, Version: 1, Config: json.RawMessage(`{}`)}},
	}
	for i, key := range keys {
		step := catalog.Step{StepKey: key, StepType: catalog.StepAgent, AgentID: &agent, OnError: catalog.OnErrorFail, TriggerRule: catalog.TriggerNoneFailed, TimeoutMs: 1000}
		if i > 0 {
			step.DependsOn = keys[i-1 : i]
		}
		def.Steps = append(def.Steps, step)
	}
	body, err := json.Marshal(def)
	if err != nil {
		l.t.Fatal(err)
	}
	hash := sha256.Sum256(body)
	return execution.Accepted{
		ID: uuid.Must(uuid.NewV7()).String(), Caller: rpc.Caller{UserID: uuid.NewString()}, Definition: def, DefinitionBody: body, DefinitionHash: hash[:],
		TriggerType: orchestrator.TriggerAPI, Priority: 5, Inputs: []byte(`{}`), CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

func (l ledger) accept(x execution.Accepted) string {
	l.t.Helper()
	if _, _, err := l.Accept(l.t.Context(), []execution.Accepted{x}); err != nil {
		l.t.Fatal(err)
	}
	return x.ID
}

func (l ledger) exec(query string, args ...any) {
	l.t.Helper()
	if _, err := l.db.ExecContext(l.t.Context(), query, args...); err != nil {
		l.t.Fatalf("%s: %v", query, err)
	}
}

func (l ledger) signal(id, name string) execution.Command {
	return execution.Command{
		ID: uuid.NewString(), ExecutionID: id, Partition: subject.PartitionOf(id), Kind: execution.CommandSignal, UserID: "u", Name: name, Signal: []byte(`{"name":"` + name + `"}`),
	}
}

func TestAddSignal(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	var seen execution.Standing
	see := func(now execution.Standing) error {
		seen = now
		return nil
	}
	for i, want := range []execution.Standing{{Status: "PENDING"}, {Status: "PENDING", Kept: 1, Named: 1}, {Status: "PENDING", Kept: 2, Named: 2}} {
		c := l.signal(id, "paid")
		if outcome, err := l.AddSignal(t.Context(), c, nil, see); err != nil || outcome != (execution.Outcome{ID: c.ID}) || seen != want {
			t.Errorf("%d: %+v, %v, decided by %+v", i, outcome, err, seen)
		}
	}
	l.exec(`UPDATE commands SET applied_at = now(), kept = CASE WHEN created_at = (SELECT min(created_at) FROM commands) THEN 7 END`)
	if _, err := l.AddSignal(t.Context(), l.signal(id, "other"), nil, see); err != nil || seen != (execution.Standing{Status: "PENDING", Kept: 1}) {
		t.Errorf("once applied: %v, decided by %+v", err, seen)
	}
	if err := l.AddCommands(t.Context(), []execution.Command{{ID: uuid.NewString(), ExecutionID: id, Kind: execution.CommandPause, UserID: "u"}}); err != nil {
		t.Fatal(err)
	}
	refused := errs.New(errs.RateLimited, "no")
	if _, err := l.AddSignal(t.Context(), l.signal(id, "paid"), nil, func(now execution.Standing) error {
		seen = now
		return refused
	}); errs.CodeOf(err) != errs.RateLimited || seen != (execution.Standing{Status: "PENDING", Kept: 2, Named: 3}) {
		t.Errorf("refused: %v, decided by %+v", err, seen)
	}
	if _, err := l.AddSignal(t.Context(), l.signal(uuid.NewString(), "paid"), nil, see); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("of no execution: %v", err)
	}
	if n, err := l.count(`SELECT count(*) FROM commands WHERE signal = '{"name":"paid"}' AND kind = 'SIGNAL'`); n != 3 || err != nil {
		t.Errorf("%d signals, %v", n, err)
	}
}

func (l ledger) count(query string) (n int, err error) {
	err = l.db.GetContext(l.t.Context(), &n, query)
	return n, err
}

func TestAddSignalByKey(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	key := func(body string) *execution.IdempotencyKey {
		return &execution.IdempotencyKey{UserID: "u", Route: "signal:" + id, Key: "k", BodyHash: []byte(body)}
	}
	free := func(execution.Standing) error { return nil }
	first := l.signal(id, "paid")
	if _, err := l.AddSignal(t.Context(), first, key("1"), func(execution.Standing) error { return errs.New(errs.RateLimited, "no") }); errs.CodeOf(err) != errs.RateLimited {
		t.Fatal(err)
	}
	if outcome, err := l.AddSignal(t.Context(), first, key("1"), free); err != nil || outcome != (execution.Outcome{ID: first.ID}) {
		t.Errorf("after a refusal: %+v, %v", outcome, err)
	}
	l.exec(`UPDATE executions SET status = 'COMPLETED'`)
	closed := func(execution.Standing) error { return errs.New(errs.Conflict, "ended") }
	if outcome, err := l.AddSignal(t.Context(), l.signal(id, "paid"), key("1"), closed); err != nil || outcome != (execution.Outcome{ID: first.ID, Replayed: true}) {
		t.Errorf("repeated: %+v, %v", outcome, err)
	}
	if outcome, err := l.AddSignal(t.Context(), l.signal(id, "paid"), key("2"), closed); err != nil || !outcome.Conflict {
		t.Errorf("another body: %+v, %v", outcome, err)
	}
	l.exec(`UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'`)
	later := l.signal(id, "paid")
	if outcome, err := l.AddSignal(t.Context(), later, key("2"), free); err != nil || outcome != (execution.Outcome{ID: later.ID}) {
		t.Errorf("a day later: %+v, %v", outcome, err)
	}
}

// TestSignalsAreDecidedOneByOne lets only one of many at once in, as an approval does. While one is decided others wait, as
// many as there are connections.
func TestSignalsAreDecidedOneByOne(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	id := l.accept(l.acceptable("a"))
	var all sync.WaitGroup
	const many = 20
	deciding, results := make(chan struct{}, many), make(chan error, many)
	for range many {
		all.Go(func() {
			_, err := l.AddSignal(t.Context(), l.signal(id, "ok"), nil, func(now execution.Standing) error {
				if now.Named > 0 {
					return errs.New(errs.Conflict, "decided")
				}
				deciding <- struct{}{}
				<-time.After(300 * time.Millisecond) // for others that nothing keeps out
				return nil
			})
			results <- err
		})
	}
	all.Wait()
	if len(deciding) != 1 {
		t.Errorf("%d are decided at once", len(deciding))
	}
	taken := 0
	for range many {
		if err := <-results; err == nil {
			taken++
		} else if errs.CodeOf(err) != errs.Conflict {
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("%d decisions are taken", taken)
	}
}

// TestAcceptWithReusedSteps copies results of an execution, and of one that has them from another.
func TestAcceptWithReusedSteps(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	old := l.acceptable("a", "b", "c", "d")
	l.accept(old)
	older := uuid.NewString()
	l.exec(`INSERT INTO steps (execution_id, step_index, iteration, p, status, attempt, token, dispatch, sent, output, started_at, completed_at, reused_from) VALUES
		($1, 0, 0, 1, 'COMPLETED', 2, '', 1, 0, '{"n":1}', 'epoch', timestamptz 'epoch' + interval '1 s', NULL),
		($1, 1, 0, 1, 'COMPLETED', 1, '', 1, 0, '2', 'epoch', timestamptz 'epoch' + interval '2 s', $2),
		($1, 1, 1, 1, 'COMPLETED', 1, '', 1, 0, '3', 'epoch', timestamptz 'epoch' + interval '2 s', NULL),
		($1, 2, 0, 1, 'FAILED', 3, '', 1, 0, NULL, 'epoch', timestamptz 'epoch' + interval '3 s', NULL)`, old.ID, older)
	again := old
	again.ID, again.RetryOf, again.DefinitionBody = uuid.Must(uuid.NewV7()).String(), old.ID, nil
	again.Reused = []execution.ReusedStep{{Index: 0}, {Index: 1}, {Index: 2, Output: []byte(`null`)}}
	plain := l.acceptable("a")
	if _, _, err := l.Accept(t.Context(), []execution.Accepted{again, plain}); err != nil {
		t.Fatal(err)
	}
	r, err := l.Get(t.Context(), again.ID)
	if err != nil {
		t.Fatal(err)
	}
	if r.RetryOf == nil || *r.RetryOf != old.ID || len(r.Reused) != 3 || r.Reused[0] != old.ID || r.Reused[1] != older || r.Reused[2] != old.ID {
		t.Errorf("retry of %v, reuses %v", r.RetryOf, r.Reused)
	}
	for i, want := range []struct {
		status, output string
		attempt        int
		end            int64
	}{{"COMPLETED", `{"n":1}`, 2, 1_000_000}, {"COMPLETED", `2`, 1, 2_000_000}, {"COMPLETED", `null`, 3, 3_000_000}, {"PENDING", ``, 0, 0}} {
		s := r.Execution.Steps[i]
		if s.Status != want.status || string(s.Output) != want.output || s.Attempt != want.attempt || int64(s.CompletedAt) != want.end || s.Error != nil || len(s.Items) != 0 {
			t.Errorf("step %d is %+v", i, s)
		}
	}
	if p := r.Execution.Progress(); p.Completed != 3 || p.Percent != 75 {
		t.Errorf("progress %+v", p)
	}
	summaries, _, err := l.List(t.Context(), "", orchestrator.ListRequest{WorkflowID: old.Definition.WorkflowID, Page: rpc.Page{Search: again.ID}})
	if err != nil || len(summaries) != 1 || summaries[0].Progress != r.Execution.Progress() {
		t.Errorf("listed as %+v, %v", summaries, err)
	}
	if n, err := l.count(`SELECT count(*) FROM steps WHERE execution_id = '` + plain.ID + `'`); n != 0 || err != nil {
		t.Errorf("the other has %d steps, %v", n, err)
	}
	loaded, err := l.Load(t.Context(), []string{again.ID})
	if err != nil || len(loaded) != 1 || loaded[0].Execution.Steps[0].Status != "COMPLETED" || loaded[0].Execution.Status != "PENDING" {
		t.Errorf("loaded as %+v, %v", loaded, err)
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	var all []string
	first := l.acceptable("a")
	for i := range 230 {
		x := first
		x.ID, x.CreatedAt = uuid.Must(uuid.NewV7()).String(), first.CreatedAt.Add(time.Duration(i/10)*time.Second)
		l.accept(x)
		all = append(all, x.ID)
	}
	l.exec(`UPDATE executions SET status = 'FAILED', error = '{}', completed_at = now() WHERE id = ANY($1::uuid[])`, "{"+all[5]+","+all[6]+","+all[7]+"}")
	again := first
	again.ID, again.RetryOf, again.CreatedAt = uuid.Must(uuid.NewV7()).String(), all[6], first.CreatedAt.Add(time.Hour)
	l.accept(again)
	others := l.accept(l.acceptable("a"))
	for _, c := range []struct {
		name     string
		user     string
		req      orchestrator.ListRequest
		statuses []string
		action   string
		limit    int
		want     []string
		matched  int
	}{
		{"failed", first.Caller.UserID, orchestrator.ListRequest{}, []string{"FAILED", "TIMEOUT"}, orchestrator.BulkCancel, 10, all[5:8], 3},
		{"not run again", first.Caller.UserID, orchestrator.ListRequest{}, []string{"FAILED", "TIMEOUT"}, orchestrator.BulkRetry, 10, []string{all[5], all[7]}, 2},
		{"by its owner", first.Definition.WorkflowOwner, orchestrator.ListRequest{Status: "FAILED"}, []string{"FAILED"}, orchestrator.BulkCancel, 2, all[5:7], 3},
		{"by somebody else", uuid.NewString(), orchestrator.ListRequest{}, []string{"FAILED"}, orchestrator.BulkCancel, 10, nil, 0},
		{"of another status", first.Caller.UserID, orchestrator.ListRequest{Status: "PENDING"}, []string{"FAILED"}, orchestrator.BulkCancel, 10, nil, 0},
		{"more than a page", first.Caller.UserID, orchestrator.ListRequest{Page: rpc.Page{PageSize: 1, SortOrder: "desc", Page: 7}}, []string{"PENDING"}, orchestrator.BulkRetry, 150, slices.Concat(all[:5], all[8:153]), 228},
		{"everybody's", "", orchestrator.ListRequest{Page: rpc.Page{Search: others}}, []string{"PENDING"}, orchestrator.BulkRetry, 10, []string{others}, 1},
	} {
		ids, matched, err := l.Named(t.Context(), c.user, c.req, c.action, c.statuses, c.limit)
		slices.Sort(ids) // they are as old as their ids say
		if err != nil || matched != c.matched || len(ids) != len(c.want) || !slices.Equal(ids, slices.Sorted(slices.Values(c.want))) {
			t.Errorf("%s: %d of %d, %v", c.name, len(ids), matched, err)
		}
	}
	if _, _, err := l.Named(t.Context(), "", orchestrator.ListRequest{WorkflowID: "x", Status: "DONE"}, orchestrator.BulkRetry, nil, 1); len(errs.From(err).Details) != 2 {
		t.Errorf("a wrong filter: %v", err)
	}
}
