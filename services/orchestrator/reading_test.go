package orchestrator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

func TestVisibility(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	starter := rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}
	resp, err := bus.Call(t.Context(), in.conn, contract.Submit, starter, contract.SubmitRequest{WorkflowID: in.workflow(chain(1)...), TriggerType: contract.TriggerManual})
	if err != nil {
		t.Fatal(err)
	}
	id := resp.Execution.ID
	in.await(id, "terminal", terminal)
	for _, c := range []struct {
		name   string
		caller rpc.Caller
		sees   bool
	}{
		{"who started it", starter, true},
		{"the workflow's owner", in.owner, true},
		{"an admin", rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleAdmin}, true},
		{"another user", rpc.Caller{UserID: uuid.NewString(), Role: rpc.RoleUser}, false},
		{"nobody", rpc.Caller{}, false},
	} {
		want := errs.Code("")
		if !c.sees {
			want = errs.NotFound
		}
		if _, err := bus.Call(t.Context(), in.conn, contract.GetExecution, c.caller, contract.IDRequest{ID: id}); errs.CodeOf(err) != want {
			t.Errorf("get by %s: %v", c.name, err)
		}
		if _, err := bus.Call(t.Context(), in.conn, contract.ListEvents, c.caller, contract.EventsRequest{ID: id}); errs.CodeOf(err) != want {
			t.Errorf("events by %s: %v", c.name, err)
		}
		list, err := bus.Call(t.Context(), in.conn, contract.ListExecution, c.caller, contract.ListRequest{})
		if c.name == "nobody" {
			if errs.CodeOf(err) != errs.Unauthorized {
				t.Errorf("list by nobody: %d items, %v", len(list.Items), err)
			}
			continue
		}
		if err != nil || (len(list.Items) == 1) != c.sees {
			t.Errorf("list by %s: %d items, %v", c.name, len(list.Items), err)
		}
	}
}

func TestStrangeIDs(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	x := in.submit(in.workflow(chain(1)...), `{}`)
	in.await(x.ID, "terminal", terminal)
	for _, id := range []string{"", "x", "\x00", "' OR 1=1 --", strings.Repeat("a", 10000), x.ID + " ", x.ID[:35], uuid.Nil.String()} {
		if _, err := bus.Call(t.Context(), in.conn, contract.GetExecution, in.owner, contract.IDRequest{ID: id}); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("get %.40q: %v", id, err)
		}
		if _, err := bus.Call(t.Context(), in.conn, contract.ListEvents, in.owner, contract.EventsRequest{ID: id}); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("events of %.40q: %v", id, err)
		}
	}
	for _, id := range []string{strings.ToUpper(x.ID), "urn:uuid:" + x.ID, "{" + x.ID + "}"} { // other spellings of a UUID
		if got, err := bus.Call(t.Context(), in.conn, contract.GetExecution, in.owner, contract.IDRequest{ID: id}); err != nil || got.ID != x.ID {
			t.Errorf("get %q: %v", id, err)
		}
		if got, err := bus.Call(t.Context(), in.conn, contract.ListEvents, in.owner, contract.EventsRequest{ID: id}); err != nil || !got.Terminal {
			t.Errorf("events of %q: %v", id, err)
		}
		if got, err := bus.Call(t.Context(), in.conn, contract.ListExecution, in.owner, contract.ListRequest{WorkflowID: strings.Replace(id, x.ID, x.WorkflowID, 1)}); err != nil {
			t.Errorf("list of workflow %q: %v, %v", id, got, err)
		}
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(echo)
	workflow, other := in.workflow(chain(1)...), in.workflow(chain(1)...)
	var want []string
	for range 25 {
		want = append(want, in.submit(workflow, `{}`).ID)
	}
	in.submit(other, `{}`)
	in.completed(db, want, 60*time.Second)
	slices.Reverse(want)
	list := func(req contract.ListRequest) rpc.List[contract.Execution] {
		t.Helper()
		resp, err := bus.Call(t.Context(), in.conn, contract.ListExecution, in.owner, req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	var byNumber, byCursor []string
	for n := 1; n <= 4; n++ {
		resp := list(contract.ListRequest{WorkflowID: workflow, Page: rpc.Page{Page: n, PageSize: 7}})
		if p := resp.Pagination; p.Total != 25 || p.TotalPages != 4 || p.Page != n || p.PageSize != 7 {
			t.Errorf("pagination %+v", p)
		}
		for _, x := range resp.Items {
			byNumber = append(byNumber, x.ID)
			if x.Steps != nil || x.Progress.Completed != 1 || x.DurationMs == nil || x.Status != contract.ExecutionCompleted {
				t.Errorf("an item of the list: %+v", x)
			}
		}
	}
	for req := (contract.ListRequest{WorkflowID: workflow, Page: rpc.Page{PageSize: 10}}); ; {
		resp := list(req)
		for _, x := range resp.Items {
			byCursor = append(byCursor, x.ID)
		}
		if resp.Pagination.NextCursor == nil {
			break
		}
		req.Cursor = *resp.Pagination.NextCursor
	}
	if !slices.Equal(byNumber, want) || !slices.Equal(byCursor, want) {
		t.Errorf("listed\n%v by number,\n%v by cursor, want\n%v", byNumber, byCursor, want)
	}
	now := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name string
		req  contract.ListRequest
		n    int
	}{
		{"all", contract.ListRequest{}, 26},
		{"status", contract.ListRequest{Status: contract.ExecutionFailed}, 0},
		{"trigger", contract.ListRequest{TriggerType: contract.TriggerAPI}, 26},
		{"from", contract.ListRequest{From: &now}, 0},
		{"to", contract.ListRequest{To: &now}, 26},
		{"search", contract.ListRequest{Page: rpc.Page{Search: want[3]}}, 1},
		{"search for wildcards", contract.ListRequest{Page: rpc.Page{Search: "%_"}}, 0},
		{"another's workflow", contract.ListRequest{WorkflowID: uuid.NewString()}, 0},
	} {
		if got := list(c.req).Pagination.Total; got != c.n {
			t.Errorf("%s: %d, want %d", c.name, got, c.n)
		}
	}
	for name, req := range map[string]contract.ListRequest{
		"status": {Status: "DONE"}, "triggerType": {TriggerType: "api"}, "workflowId": {WorkflowID: "x"}, "pageSize": {Page: rpc.Page{PageSize: 101}},
		"sortBy": {Page: rpc.Page{SortBy: "userId"}}, "sortOrder": {Page: rpc.Page{SortOrder: "up"}}, "cursor": {Page: rpc.Page{Cursor: "x"}}, "search": {Page: rpc.Page{Search: "\x00"}},
	} {
		_, err := bus.Call(t.Context(), in.conn, contract.ListExecution, in.owner, req)
		if e := errs.From(err); err == nil || e.Code != errs.Validation || len(e.Details) != 1 || e.Details[0].Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEventPages(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	in.start()
	in.play(echo)
	x := in.submit(in.workflow(diamond()...), `{"n":1}`)
	in.await(x.ID, "terminal", terminal)
	var seqs []uint64
	for after := uint64(0); ; {
		resp, err := bus.Call(t.Context(), in.conn, contract.ListEvents, in.owner, contract.EventsRequest{ID: x.ID, After: after, Limit: 4})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			seqs = append(seqs, e.Seq)
			after = e.Seq
		}
		if resp.Terminal {
			break
		}
		if len(resp.Events) == 0 {
			t.Fatal("a page in the middle is empty")
		}
	}
	if len(seqs) != 11 || seqs[0] != 1 || seqs[10] != 11 {
		t.Errorf("seqs %v", seqs)
	}
	resp, err := bus.Call(t.Context(), in.conn, contract.ListEvents, in.owner, contract.EventsRequest{ID: x.ID, After: 1 << 63, Limit: -3})
	if err != nil || len(resp.Events) != 0 || !resp.Terminal {
		t.Errorf("beyond the end: %+v, %v", resp, err)
	}
}
