//go:build unix

package e2e

import (
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/examples"
)

// TestCompensation undoes the example's order, which has no address, through the API alone.
func TestCompensation(t *testing.T) {
	t.Parallel()
	c := user(t)
	workflow := c.example(t, examples.Order())
	shipped := c.run(t, workflow, object{"amount": 20, "items": []string{"lamp"}, "address": "Lane"})
	if got := statuses(shipped); got != "COMPLETED: charge COMPLETED reserve COMPLETED ship COMPLETED" || shipped.CompensatedBy != nil {
		t.Fatal(got)
	}

	failed := c.run(t, workflow, object{"amount": 20, "items": []string{"lamp", "chair"}, "address": ""})
	if got := statuses(failed); got != "FAILED: charge COMPLETED reserve COMPLETED ship FAILED" || failed.CompensatedBy == nil {
		t.Fatal(got, failed.CompensatedBy)
	}
	undone := c.until(t, *failed.CompensatedBy, "ended", ended)
	if got := statuses(undone); got != "COMPLETED: reserve COMPLETED charge COMPLETED" || undone.CompensationOf == nil || *undone.CompensationOf != failed.ID {
		t.Error(got, undone.CompensationOf)
	}
	same(t, "what is released", state(t, undone, "reserve").Output, `{"released":["lamp","chair"]}`)
	same(t, "what is refunded", state(t, undone, "charge").Output, `{"refunded":"charge-20"}`)
	want := "It undoes what the execution " + failed.ID + " has done."
	if e := data[orchestrator.Explanation](t, c.do(t, "GET", "/executions/"+undone.ID+"/explain", nil), 200); e.Summary != "It completed. "+want {
		t.Errorf("it is explained by %q", e.Summary)
	}
	listed := data[[]orchestrator.Execution](t, c.do(t, "GET", "/workflows/"+workflow+"/executions?sortOrder=asc", nil), 200)
	if len(listed) != 3 || listed[1].CompensatedBy == nil || *listed[1].CompensatedBy != undone.ID || listed[2].CompensationOf == nil || *listed[2].CompensationOf != failed.ID {
		t.Errorf("listed as %+v", listed)
	}

	// Its retry makes everything anew, and fails again; what is undone can not be undone again.
	fault(t, c.do(t, "POST", "/executions/"+undone.ID+"/retry", nil), errs.Conflict)
	fault(t, c.do(t, "POST", "/executions/"+undone.ID+"/rerun", object{"from": "charge"}), errs.Conflict)
	again := c.until(t, data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+failed.ID+"/retry", nil), 201).ID, "ended", ended)
	if state(t, again, "charge").ReusedFrom != nil || again.CompensatedBy == nil || *again.CompensatedBy == undone.ID {
		t.Errorf("the retry is %s, compensated by %v", statuses(again), again.CompensatedBy)
	}
	rerun := c.until(t, data[orchestrator.Execution](t, c.do(t, "POST", "/executions/"+shipped.ID+"/rerun", object{"from": "ship", "inputs": object{"amount": 20, "items": []string{}, "address": ""}}), 201).ID, "ended", ended)
	if rerun.Status != "FAILED" || rerun.CompensatedBy != nil {
		t.Errorf("a rerun that has charged nothing itself is %s, compensated by %v", statuses(rerun), rerun.CompensatedBy)
	}
}
