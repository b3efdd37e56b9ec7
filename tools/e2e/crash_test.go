//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbocat.io/contracts/orchestrator"
)

const (
	crashInFlight = 16
	crashLoad     = 40 * time.Second
	crashEvery    = 6 * time.Second // on average
	crashLeast    = 4
	crashDrain    = 90 * time.Second
)

// ledger counts the calls that API steps make, by idempotency key.
type ledger struct {
	mu    sync.Mutex
	calls map[string]int
	keys  map[string]string // by the number that the step sent
	wrong []string
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	l.calls[key]++
	if n := string(body); l.keys[n] == "" {
		l.keys[n] = key
	} else if l.keys[n] != key {
		l.wrong = append(l.wrong, n+" came with "+l.keys[n]+" and "+key)
	}
	l.mu.Unlock()
	select { // a call takes its time, so that kills come in the midst of it
	case <-time.After(30 * time.Millisecond):
	case <-r.Context().Done():
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// total gives the number of calls, and of those beyond the first of their key.
func (l *ledger) total() (calls, repeated int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.calls {
		calls += n
	}
	return calls, calls - len(l.calls)
}

// accepted is an execution that was answered 201.
type accepted struct {
	n         int
	id, key   string
	mustFail  bool
	answered  int // how often
	execution orchestrator.Execution
}

// TestKilledUnderLoad kills the whole process again and again under load. Each accepted execution must end
// as it should, with each step and each event recorded once.
func TestKilledUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("TURBOCAT_E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TURBOCAT_E2E_SEED=%d repeats the moments of the kills", seed)
	moments := rand.New(rand.NewPCG(seed, 0))

	i := own(t, "crash")
	if err := i.start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	book := &ledger{calls: map[string]int{}, keys: map[string]string{}}
	server := httptest.NewServer(book)
	t.Cleanup(server.Close)
	c := register(t, i.url)
	workflow := c.crashWorkflow(t, server.URL)

	load, endLoad := context.WithTimeout(t.Context(), crashLoad)
	defer endLoad()
	var numbers atomic.Int64
	var mu sync.Mutex
	var all []*accepted
	var clients sync.WaitGroup
	for range crashInFlight {
		clients.Go(func() {
			for load.Err() == nil {
				one, err := c.submit(t.Context(), workflow, int(numbers.Add(1)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, one)
				mu.Unlock()
				if err := c.await(load, one); err != nil && load.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	kills := 0
	for load.Err() == nil || kills < crashLeast {
		pause := time.NewTimer(crashEvery/2 + time.Duration(moments.Int64N(int64(crashEvery))))
		select {
		case <-pause.C:
		case <-load.Done():
			pause.Stop()
		}
		i.kill()
		kills++
		if err := i.start(); err != nil {
			endLoad()
			clients.Wait()
			t.Fatal(err)
		}
	}
	clients.Wait()
	if t.Failed() {
		return
	}

	drain, cancel := context.WithTimeout(t.Context(), crashDrain)
	defer cancel()
	for _, one := range all {
		if err := c.await(drain, one); err != nil {
			t.Fatalf("an accepted execution does not end: %v: %+v", err, one.execution)
		}
	}
	took := time.Since(began)
	calls, repeated := book.total()

	for _, one := range all {
		c.checkCrashed(t, one)
		book.check(t, one, kills)
	}
	if len(book.keys) != len(all) {
		t.Errorf("%d executions made calls, %d were accepted", len(book.keys), len(all))
	}
	if len(book.wrong) > 0 {
		t.Errorf("calls with several keys: %v", book.wrong)
	}
	_, p := page[object](t, c.do(t, "GET", "/executions?workflowId="+workflow, nil))
	if p.Total != len(all) {
		t.Errorf("there are %d executions, %d were accepted", p.Total, len(all))
	}
	// Once more everything is started anew, and nothing of it is done again.
	again := c.mustSubmit(t, workflow, all[0].n)
	if again.id != all[0].id {
		t.Errorf("the key %s gives %s, and gave %s", again.key, again.id, all[0].id)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	if now, _ := book.total(); now != calls {
		t.Errorf("%d calls were made after the end of all executions", now-calls)
	}
	failed, retried := 0, 0
	for _, one := range all {
		if one.mustFail {
			failed++
		}
		if one.answered > 1 {
			retried++
		}
	}
	t.Logf("%d accepted (%d of them meant to fail), %d kills, %d submits repeated, %d calls of which %d repeated, %.0f s",
		len(all), failed, kills, retried, calls, repeated, took.Seconds())
}

// crashWorkflow has eight steps: code, data and a call side by side, one that needs a second attempt, one
// that fails and is passed over, and for some numbers one that fails for good.
func (c *client) crashWorkflow(t *testing.T, ledger string) string {
	begin := c.code(t, `function handler(input) { return {n: input.n, rows: [1, 2, 3].map(k => ({k, v: input.n * k}))} }`)
	double := c.code(t, `function handler(input) { return input.n * 2 }`)
	sum := c.agent(t, "DATA", object{"operation": "aggregate", "aggregations": object{"sum": object{"function": "sum", "field": "v"}}})
	call := c.agent(t, "API", object{"method": "POST", "url": ledger, "body": "{{n}}"})
	second := c.code(t, `function handler(input, context) { if (context.attempt < 2) throw new Error("not yet"); return input.n + 1 }`)
	boom := c.code(t, `function handler() { throw new Error("passed over") }`)
	join := c.code(t, `function handler(input) {
		if (input.fail) { const e = new Error("meant to fail"); e.retryable = false; throw e }
		return {all: [input.double, input.sum, input.call, input.second, input.message]}
	}`)
	pick := c.agent(t, "DATA", object{"operation": "filter", "conditions": []object{{"field": ".", "operator": "exists", "value": true}}})
	return c.workflow(t, []object{
		step("begin", begin, inputs(object{"n": "{{inputs.n}}"})),
		step("double", double, after("begin"), inputs(object{"n": "{{begin.output.n}}"})),
		step("sum", sum, after("begin"), inputs(object{"data": "{{begin.output.rows}}"})),
		step("call", call, after("begin"), inputs(object{"n": "{{begin.output.n}}"}), object{"onError": "RETRY", "retryDelayMs": 50}),
		step("second", second, after("double"), inputs(object{"n": "{{double.output}}"}), object{"onError": "RETRY", "retryDelayMs": 20}),
		step("boom", boom, after("sum"), object{"onError": "CONTINUE"}),
		step("join", join, after("second", "boom", "call"), inputs(object{
			"fail": "{{inputs.fail}}", "double": "{{double.output}}", "sum": "{{sum.output.data.sum}}", "call": "{{call.output.body}}", "second": "{{second.output}}", "message": "{{boom.error.message}}",
		})),
		step("end", pick, after("join"), inputs(object{"data": "{{join.output.all}}"})),
	}, object{"outputs": object{"all": "{{end.output.data}}"}})
}

// submit starts one execution, repeating the request with its key until it is answered 201. After that it
// repeats it once more now and then: the answer must be the same.
func (c *client) submit(ctx context.Context, workflow string, n int) (*accepted, error) {
	one := &accepted{n: n, key: "crash-" + strconv.Itoa(n), mustFail: n%10 == 0}
	times := 1
	if n%7 == 0 {
		times = 2
	}
	body := object{"inputs": object{"n": n, "fail": one.mustFail}}
	for answered := 0; answered < times; {
		one.answered++
		var got orchestrator.Execution
		done, err := c.request(ctx, "POST", "/workflows/"+workflow+"/execute", body, http.StatusCreated, &got, "Idempotency-Key", one.key)
		switch {
		case err != nil:
			return nil, err
		case !done:
			if err := nap(ctx); err != nil {
				return nil, err
			}
		case one.id != "" && one.id != got.ID:
			return nil, fmt.Errorf("the key %s gave %s and then %s", one.key, one.id, got.ID)
		default:
			one.id = got.ID
			answered++
		}
	}
	return one, nil
}

func (c *client) mustSubmit(t *testing.T, workflow string, n int) *accepted {
	t.Helper()
	one, err := c.submit(t.Context(), workflow, n)
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// await waits until the execution is terminal.
func (c *client) await(ctx context.Context, one *accepted) error {
	for {
		if _, err := c.request(ctx, "GET", "/executions/"+one.id, nil, http.StatusOK, &one.execution); err != nil {
			return err
		}
		if one.execution.ID == one.id && ended(one.execution) {
			return nil
		}
		if err := nap(ctx); err != nil {
			return err
		}
	}
}

// request tells whether the answer came. None comes from what is being killed or started; any other
// answer than the one expected is an error.
func (c *client) request(ctx context.Context, method, path string, body any, status int, into any, headers ...string) (bool, error) {
	a, err := c.send(ctx, method, "/api/v1"+path, body, headers...)
	if err != nil {
		return false, ctx.Err()
	}
	switch a.status {
	case status:
		return true, json.Unmarshal(a.body, &struct{ Data any }{into})
	case http.StatusServiceUnavailable:
		return false, nil
	}
	return false, errors.New(a.String())
}

func nap(ctx context.Context) error {
	pause := time.NewTimer(100 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
		return nil
	}
}

// checkCrashed checks the outcome of an execution and that all of it is recorded once.
func (c *client) checkCrashed(t *testing.T, one *accepted) {
	t.Helper()
	e := one.execution
	want := "COMPLETED: begin COMPLETED double COMPLETED sum COMPLETED call COMPLETED second COMPLETED boom FAILED join COMPLETED end COMPLETED"
	progress := orchestrator.Progress{Total: 8, Completed: 7, Failed: 1, Percent: 100}
	outputs := fmt.Sprintf(`{"all":[%d,%d,%d,%d,"passed over"]}`, 2*one.n, 6*one.n, one.n, 2*one.n+1)
	last := "completed"
	if one.mustFail {
		want = "FAILED: begin COMPLETED double COMPLETED sum COMPLETED call COMPLETED second COMPLETED boom FAILED join FAILED end SKIPPED"
		progress = orchestrator.Progress{Total: 8, Completed: 5, Failed: 2, Skipped: 1, Percent: 100}
		outputs, last = "null", "failed"
	}
	if got := statuses(e); got != want || e.Progress != progress {
		t.Errorf("the execution %d (%s) is %s with %+v and %+v", one.n, one.id, got, e.Progress, e.Error)
	}
	same(t, "the outputs of "+strconv.Itoa(one.n), e.Outputs, outputs)
	if s := state(t, e, "second"); s.Attempts != 2 {
		t.Errorf("%s: second took %d attempts", one.id, s.Attempts)
	}

	events := c.all(t, one.id, "")
	completed, terminal := map[string]int{}, 0
	for n, s := range events {
		if s.id != strconv.Itoa(n+1) || payload(t, s).Seq != uint64(n+1) {
			t.Errorf("%s: event %d has the id %s", one.id, n+1, s.id)
		}
		switch name := strings.TrimSuffix(strings.TrimPrefix(s.kind, "io.turbocat.execution."), ".v1"); name {
		case "completed", "failed", "cancelled", "timed_out":
			if terminal++; name != last || n != len(events)-1 {
				t.Errorf("%s: %s is event %d of %d", one.id, name, n+1, len(events))
			}
		case "step_completed", "step_failed", "step_skipped", "step_cancelled":
			completed[payload(t, s).StepKey]++
		}
	}
	if terminal != 1 || len(completed) != 8 {
		t.Errorf("%s: %d terminal events, %d steps with an end: %s", one.id, terminal, len(completed), names(t, events))
	}
	for key, n := range completed {
		if n != 1 {
			t.Errorf("%s: the step %s ended %d times", one.id, key, n)
		}
	}
}

// check checks the calls of one execution: they have one key, and a kill repeats at most one.
func (l *ledger) check(t *testing.T, one *accepted, kills int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.calls[l.keys[strconv.Itoa(one.n)]]; n < 1 || n > 1+kills {
		t.Errorf("%s: %d calls", one.id, n)
	}
}
