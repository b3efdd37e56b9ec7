package orchestrator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/catalog"
	contract "turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
)

// allTypes is a workflow with a step of every type.
func (in *installation) allTypes() string {
	return in.workflow(
		catalog.Step{StepKey: "pick", StepType: catalog.StepCondition, Config: json.RawMessage(`{"expression":"inputs.n > 2","then":["each"],"else":["never"]}`)},
		catalog.Step{StepKey: "never", DependsOn: []string{"pick"}},
		catalog.Step{
			StepKey: "each", StepType: catalog.StepLoop, DependsOn: []string{"pick"}, Inputs: json.RawMessage(`{"item":"{{item}}","index":"{{index}}"}`),
			Config: json.RawMessage(`{"forEach":"1..inputs.n","concurrency":5}`), OnError: catalog.OnErrorRetry, RetryCount: 2, RetryDelayMs: 10,
		},
		catalog.Step{
			StepKey: "again", StepType: catalog.StepLoop, Config: json.RawMessage(`{"while":"index < 4"}`), Inputs: json.RawMessage(`{"before":"{{item}}"}`),
		},
		catalog.Step{
			StepKey: "both", StepType: catalog.StepParallel, DependsOn: []string{"each", "again"},
			Config: json.RawMessage(`{"branches":[{"key":"l","agentId":"AGENT","inputs":{"x":"{{each.output[1].item}}"}},{"key":"r","agentId":"AGENT"}]}`),
		},
		catalog.Step{StepKey: "rest", StepType: catalog.StepWait, DependsOn: []string{"both"}, Config: json.RawMessage(`{"durationMs":300}`)},
		catalog.Step{StepKey: "last", DependsOn: []string{"rest"}, Inputs: json.RawMessage(`{"l":"{{both.output.l}}","n":"{{again.output[3].n}}"}`)},
	)
}

// itemwise answers the items of allTypes; the first attempt of the third item fails.
func itemwise(a attempt) (string, *runner.StepError) {
	var in struct {
		Item   int
		Index  int
		Before *struct{ N int }
	}
	if err := json.Unmarshal(a.input, &in); err != nil {
		return "", &runner.StepError{Code: runner.CodeError, Message: err.Error()}
	}
	switch {
	case a.step == "each" && in.Item == 3 && a.number == "1":
		return "", &runner.StepError{Code: runner.CodeError, Message: "not yet", Retryable: true}
	case a.step == "each":
		return fmt.Sprintf(`{"item":%d,"index":%d}`, in.Item*10, in.Index), nil
	case a.step == "again" && in.Before == nil:
		return `{"n":1}`, nil
	case a.step == "again":
		return fmt.Sprintf(`{"n":%d}`, in.Before.N*2), nil
	}
	return string(a.input), nil
}

func (in *installation) checkAllTypes(x contract.Execution, n int) {
	in.t.Helper()
	if x.Status != contract.ExecutionCompleted {
		raw, _ := json.Marshal(x)
		in.t.Fatalf("it ended %s: %s", x.Status, raw)
	}
	output := map[string]string{}
	for _, s := range x.Steps {
		output[s.StepKey] = s.Status + " " + string(s.Output)
	}
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(`{"item":%d,"index":%d}`, (i+1)*10, i))
	}
	for key, want := range map[string]string{
		"pick": `COMPLETED {"branch":"then"}`, "never": "SKIPPED null", "each": "COMPLETED [" + strings.Join(items, ",") + "]",
		"again": `COMPLETED [{"n":1},{"n":2},{"n":4},{"n":8}]`, "both": `COMPLETED {"l":{"x":20},"r":{}}`, "rest": "COMPLETED null", "last": `COMPLETED {"l":{"x":20},"n":8}`,
	} {
		if output[key] != want {
			in.t.Errorf("step %s: %s\nwant %s", key, output[key], want)
		}
	}
}

func TestEveryStepType(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(itemwise)
	x := in.await(in.submit(in.allTypes(), `{"n":12}`).ID, "ended", terminal)
	in.checkAllTypes(x, 12)
	in.checkLedger(db)
	in.checkPublished(db)
}

// Orchestrators die in the midst of loops, branches, waits and gatherings; no item that was recorded runs again.
func TestEveryStepTypeOverKills(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	workflow := in.allTypes()
	var mu sync.Mutex
	runs := map[string]int{}
	in.play(func(a attempt) (string, *runner.StepError) {
		mu.Lock()
		runs[a.execution+" "+a.step+" "+a.iteration+" "+a.number]++
		mu.Unlock()
		wait(t.Context(), 20*time.Millisecond)
		return itemwise(a)
	})
	p := in.spawn()
	in.awaitShares(db, 60*time.Second, subject.Partitions)
	var ids []string
	for range 12 {
		ids = append(ids, in.submit(workflow, `{"n":30}`).ID)
	}
	for range 2 {
		done := len(in.taken(&mu, runs))
		in.eventually(60*time.Second, "items run", func() bool { return len(in.taken(&mu, runs)) > done+40 })
		p.kill()
		p = in.spawn()
	}
	for _, id := range ids {
		in.checkAllTypes(in.await(id, "ended", terminal), 30)
	}
	for what, n := range in.taken(&mu, runs) {
		if n > 1 {
			t.Errorf("%s ran %d times", what, n)
		}
	}
	in.checkLedger(db)
	in.checkPublished(db)
	if n := scan[int](in, db, `SELECT count(*) FROM steps WHERE iteration > 0 AND status <> 'COMPLETED'`)[0]; n > 0 {
		t.Errorf("%d items have not completed", n)
	}
}

func (in *installation) taken(mu *sync.Mutex, runs map[string]int) map[string]int {
	mu.Lock()
	defer mu.Unlock()
	out := make(map[string]int, len(runs))
	for k, v := range runs {
		out[k] = v
	}
	return out
}

// What a PARALLEL needs no more is stopped, wherever it is.
func TestBranchesThatAreNotNeeded(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	db := in.db()
	in.start()
	in.play(func(a attempt) (string, *runner.StepError) {
		if a.iteration == "2" {
			return `"quick"`, nil
		}
		wait(t.Context(), time.Minute)
		return "", nil
	})
	x := in.submit(in.workflow(catalog.Step{
		StepKey: "race", StepType: catalog.StepParallel,
		Config: json.RawMessage(`{"join":"any","branches":[{"key":"a","agentId":"AGENT"},{"key":"b","agentId":"AGENT"},{"key":"c","agentId":"AGENT"}]}`),
	}), `{}`)
	x = in.await(x.ID, "ended", terminal)
	if x.Status != contract.ExecutionCompleted || string(x.Steps[0].Output) != `{"b":"quick"}` {
		t.Errorf("%s, %s", x.Status, x.Steps[0].Output)
	}
	in.eventually(60*time.Second, "the other messages are gone", func() bool {
		return in.stepsWaiting() == 0 && scan[int](in, db, `SELECT count(*) FROM steps WHERE status = 'CANCELLED' AND sent > 0`)[0] == 0
	})
	in.checkLedger(db)
}
