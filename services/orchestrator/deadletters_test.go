package orchestrator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/event"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// admin calls a method as an ADMIN.
func admin[Req, Resp any](in *installation, m rpc.Method[Req, Resp], req Req) Resp {
	in.t.Helper()
	resp, err := bus.Call(in.t.Context(), in.conn, m, rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}, req)
	if err != nil {
		in.t.Fatalf("%s: %v", m.Name, err)
	}
	return resp
}

// TestDeadLetters looks at dead letters and sends them once more: what is none still is another one, and what a step waits for ends it, once.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	release := make(chan struct{})
	defer close(release)
	in.play(in.holding("held", release))
	x := in.submit(in.workflow(catalog.Step{StepKey: "held"}, catalog.Step{StepKey: "then", DependsOn: []string{"held"}}), `{}`)
	in.await(x.ID, "running", func(x contract.Execution) bool { return x.Status == contract.ExecutionRunning })
	p, nobody := subject.PartitionOf(x.ID), uuid.NewString()
	large := strings.Repeat("x", contract.MaxDeadBody-1) + "äb"
	in.inject(input{partition: p, kind: "io.turbocat.later.v1", execution: x.ID, body: large})
	in.inject(input{partition: p, kind: runner.TypeStepCompleted, execution: nobody, step: "held", id: "token", body: "{}"})
	letters := func(n int, req contract.DeadLettersRequest) []contract.DeadLetter {
		t.Helper()
		req.SortOrder = "asc"
		var list rpc.List[contract.DeadLetter]
		in.eventually(60*time.Second, "the dead letters are there", func() bool {
			list = admin(in, contract.ListDeadLetters, req)
			return len(list.Items) >= n
		})
		if len(list.Items) != n {
			t.Fatalf("there are %+v", list.Items)
		}
		return list.Items
	}
	first := letters(2, contract.DeadLettersRequest{})
	later, lost := first[0], first[1]
	if later.Reason == contract.DeadNoExecution { // both came in one commit, and so at one time
		later, lost = lost, later
	}
	if later.Reason != contract.DeadNoInput || later.Message != `no input has the type "io.turbocat.later.v1"` || later.Subject != subject.ExecutionInputRun(p) || later.Partition != p ||
		later.Size != len(large) || later.Body != "" || later.Replays != 0 || later.ReplayedAt != nil {
		t.Errorf("the first one is %+v", later)
	}
	if lost.Reason != contract.DeadNoExecution || lost.Headers[event.HeaderID][0] != "token" || lost.Headers[event.HeaderType][0] != runner.TypeStepCompleted {
		t.Errorf("the other one is %+v", lost)
	}
	if got := admin(in, contract.GetDeadLetter, contract.IDRequest{ID: later.ID}); got.Body != large[:contract.MaxDeadBody-1]+"\uFFFD" || got.Size != len(large) {
		t.Errorf("of %d bytes %d are shown", got.Size, len(got.Body))
	}
	if got := admin(in, contract.ReplayDeadLetter, contract.IDRequest{ID: later.ID}); got.Replays != 1 || got.ReplayedAt == nil {
		t.Errorf("it was replayed %d times", got.Replays)
	}
	again := letters(2, contract.DeadLettersRequest{Reason: contract.DeadNoInput})[1]
	if again.Sequence <= lost.Sequence || again.Size != later.Size || again.Headers[event.HeaderSubject][0] != x.ID {
		t.Errorf("sent once more it is %+v", again)
	}
	if fresh := letters(2, contract.DeadLettersRequest{Replayed: "false"}); fresh[0].ID != lost.ID || fresh[1].ID != again.ID {
		t.Errorf("not sent once more are %+v", fresh)
	}

	// What an earlier version did not know, this one does.
	token := scan[string](in, db, `SELECT token FROM steps WHERE execution_id = $1 AND status = 'RUNNING'`, x.ID)[0]
	if _, err := db.ExecContext(t.Context(), `UPDATE dead_letters SET headers = convert_to(replace(replace(convert_from(headers, 'UTF8'), $2, $3), '"token"', '"' || $4 || '"'), 'UTF8') WHERE id = $1`,
		lost.ID, nobody, x.ID, token); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		admin(in, contract.ReplayDeadLetter, contract.IDRequest{ID: lost.ID})
	}
	if x = in.await(x.ID, "terminal", terminal); x.Status != contract.ExecutionCompleted || string(x.Steps[0].Output) != `{}` || x.Steps[0].Attempts != 1 {
		t.Errorf("the execution is %s, %s after %d attempts", x.Status, x.Steps[0].Output, x.Steps[0].Attempts)
	}
	counts := admin(in, contract.CountDeadLetters, rpc.Empty{}).Counts
	if len(counts) != 2 || counts[0].Reason != contract.DeadNoInput || counts[0].Count != 2 || counts[0].Replayed != 1 || counts[1].Count != 1 || counts[1].Replayed != 1 || counts[1].Oldest == nil {
		t.Errorf("they are counted as %+v", counts)
	}
	for _, id := range []string{uuid.NewString(), "none"} {
		if _, err := bus.Call(t.Context(), in.conn, contract.ReplayDeadLetter, rpc.System("test"), contract.IDRequest{ID: id}); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("of %q: %v", id, err)
		}
	}
	if _, err := bus.Call(t.Context(), in.conn, contract.ListDeadLetters, rpc.System("test"), contract.DeadLettersRequest{Reason: "X", Replayed: "Y"}); errs.CodeOf(err) != errs.Validation {
		t.Errorf("a list of what is not: %v", err)
	}
	refused(in, errs.Forbidden, in.owner, contract.ListDeadLetters, contract.DeadLettersRequest{})
	refused(in, errs.Forbidden, in.owner, contract.GetDeadLetter, contract.IDRequest{ID: later.ID})
	refused(in, errs.Forbidden, in.owner, contract.CountDeadLetters, rpc.Empty{})
	refused(in, errs.Forbidden, in.owner, contract.ReplayDeadLetter, contract.IDRequest{ID: later.ID})
	in.checkLedger(db)
}
