package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/promises"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// installation plays the API of one over the true wire format. Of each key, the first request gets no answer, the second
// a refusal, and later ones the execution, which has ended at the second look.
type installation struct {
	t   *testing.T
	mu  sync.Mutex
	ask map[string]int // requests, by key
	see map[string]int // looks, by execution
	cut bool           // of the first event stream
}

func (in *installation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v1")
	id := strings.Split(path+"///", "/")[2]
	switch {
	case path == "/auth/register":
		in.answer(w, 201, `{"user":{"id":"u"},"accessToken":"token"}`)
	case r.Header.Get("Authorization") != "Bearer token":
		in.t.Errorf("%s comes with the token %q", path, r.Header.Get("Authorization"))
	case r.Method == http.MethodPost && (path == "/agents" || path == "/workflows"):
		in.answer(w, 201, `{"id":"made"}`)
	case strings.HasSuffix(path, "/execute"):
		in.execute(w, r.Header.Get("Idempotency-Key"))
	case strings.HasSuffix(path, "/events"):
		in.events(w, id, r.Header.Get("Last-Event-ID"))
	case path == "/executions":
		in.answer(w, 200, `[]`)
	default:
		in.see[id]++
		status, completed := "RUNNING", "null"
		if in.see[id] > 1 {
			status, completed = "COMPLETED", `"2030-01-01T12:00:00Z"`
		}
		in.answer(w, 200, fmt.Sprintf(`{"id":%q,"status":%q,"outputs":null,"completedAt":%s,"steps":[]}`, id, status, completed))
	}
}

func (in *installation) answer(w http.ResponseWriter, status int, data string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"success":true,"data":%s,"meta":{"pagination":{"total":3}}}`, data)
}

func (in *installation) execute(w http.ResponseWriter, key string) {
	in.ask[key]++
	switch {
	case in.ask[key] == 1:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			in.t.Error(err)
			return
		}
		_ = conn.Close()
	case in.ask[key] == 2:
		w.WriteHeader(503)
		_, _ = fmt.Fprint(w, `{"success":false,"error":{"code":"DEPENDENCY_UNAVAILABLE","message":"away","details":[]}}`)
	case key == "load-2" && in.ask[key] == 3:
		w.WriteHeader(500)
		_, _ = fmt.Fprint(w, `{"success":false,"error":{"code":"INTERNAL","message":"a fault","details":[]}}`)
	case key == "load-7" && in.ask[key] == 4:
		in.answer(w, 201, `{"id":"another"}`)
	default:
		in.answer(w, 201, fmt.Sprintf(`{"id":"x-%s"}`, key))
	}
}

// events gives two events behind the last that is known; the first stream of all ends in the midst of the second.
func (in *installation) events(w http.ResponseWriter, id, last string) {
	kinds := []event.Type[orchestrator.ExecutionEvent]{orchestrator.EventCreated, orchestrator.EventCompleted}
	for i, status := range []string{"PENDING", "COMPLETED"} {
		if fmt.Sprint(i) < last {
			continue
		}
		body, err := kinds[i].Encode(event.Meta{ID: fmt.Sprint(id, i), Source: "orchestrator", Subject: id, Time: time.Unix(0, 0), Number: uint64(i + 1)}, orchestrator.ExecutionEvent{
			ExecutionID: id, Seq: uint64(i + 1), Status: status,
		})
		if err != nil {
			in.t.Error(err)
		}
		_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n: ping\n\n", i+1, kinds[i], body)
		if !in.cut {
			in.cut = true
			_, _ = fmt.Fprint(w, "id: 2\nevent: x\ndata: {\"specversion\":") // a gateway that is killed stops in the midst of a line
			return
		}
	}
}

func TestLoadSurvivesEverything(t *testing.T) {
	in := &installation{t: t, ask: map[string]int{}, see: map[string]int{}}
	server := httptest.NewServer(in)
	defer server.Close()
	l, err := Start(t.Context(), server.URL, Calls("http://book", 1, time.Second), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 7 {
		if err := l.Submit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Grow(t.Context(), 0); err != nil || l.Accepted() != 7 {
		t.Errorf("%d executions are accepted, %v", l.Accepted(), err)
	}
	all, strange := l.Stop(t.Context())
	if err := l.Submit(t.Context()); err == nil {
		t.Error("an execution begins after the end")
	}
	want := []string{"a request for an execution is answered 500 INTERNAL", "the key of the execution 7 gave x-load-7 and then another"}
	if slices.Sort(strange); !slices.Equal(strange, want) {
		t.Errorf("strange are %q, want %q", strange, want)
	}
	for i, x := range all {
		if x.ID != fmt.Sprintf("x-load-%d", i+1) || len(x.Readings) != 3 || x.Readings[0].Status != "RUNNING" || x.Readings[2].Status != "COMPLETED" || len(x.Replay) != 2 {
			t.Errorf("the execution %d is remembered as %+v", i+1, x)
		}
		if followed := (i+1)%3 == 0; (x.Followed != nil) != followed || followed && !slices.Equal(x.Followed, x.Replay) {
			t.Errorf("of %s was followed %v of %v", x.ID, x.Followed, x.Replay)
		}
	}
	answers := map[int]int{}
	for _, a := range l.Answers() {
		answers[a.Status]++
	}
	if answers[503] != 7 || answers[500] != 1 || answers[201] != 8 {
		t.Errorf("the answers are %v", answers)
	}
	totals, err := l.Totals(t.Context())
	if err != nil || totals[""] != 3 || totals["COMPLETED"] != 3 || len(totals) != 8 {
		t.Errorf("the totals are %v, %v", totals, err)
	}
}

// TestRunsAgainWhatFailedAsMeant: what failed because its runners were lost has no results that another could go on from.
func TestRunsAgainWhatFailedAsMeant(t *testing.T) {
	for failed, want := range map[string]int{"join": 1, "begin": 0} {
		reruns := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/rerun"):
				reruns++
				w.WriteHeader(http.StatusForbidden)
			default:
				_, _ = fmt.Fprintf(w, `{"data":{"id":"x","status":"FAILED","steps":[{"stepKey":%q,"status":"FAILED"}]}}`, failed)
			}
		}))
		l := &Load{ctx: t.Context(), api: newAPI(server.URL), workflow: Diamond("http://book")}
		l.watch(8, &promises.Execution{ID: "x", Status: orchestrator.ExecutionFailed})
		l.api.http.CloseIdleConnections()
		server.Close()
		if reruns != want {
			t.Errorf("when %s failed, it was run again %d times, want %d", failed, reruns, want)
		}
	}
}

// TestDiamond checks the workflow itself: what its steps depend on is there, and what they must become adds up.
func TestDiamond(t *testing.T) {
	w := Diamond("http://book")
	kinds, calls := map[string]int{}, map[string]bool{}
	seen := map[string]bool{}
	for _, l := range w.lines {
		for _, key := range l.after {
			if !seen[key] {
				t.Errorf("%s comes before %s, which it depends on", l.key, key)
			}
		}
		seen[l.key] = true
		kinds[l.kind]++
		if l.agent != nil {
			kinds[l.agent.kind]++
		}
		for name := range l.calls {
			if calls[name] {
				t.Errorf("%s calls under a name of another", name)
			}
			calls[name] = true
		}
	}
	if len(w.lines) != 18 || kinds["API"] < 4 || kinds["CODE"] < 2 || kinds["DATA"] < 2 || kinds["WORKFLOW"] != 1 || kinds["WAIT"] != 2 || kinds["LOOP"] != 1 ||
		kinds["PARALLEL"] != 1 || kinds["CONDITION"] != 1 || len(calls) != 12 || !calls["each/4"] {
		t.Errorf("%d steps, %v, %v", len(w.lines), kinds, calls)
	}
	good, bad, again := w.meant(1, false), w.meant(9, true), w.meantAgain(9, "bad")
	if good.Status != "COMPLETED" || !json.Valid([]byte(good.Outputs)) || bad.Status != "FAILED" || bad.Outputs != "" || again.Status != "COMPLETED" || again.RerunOf != "bad" {
		t.Errorf("meant are %+v, %+v and %+v", good, bad, again)
	}
	ends, reused := map[string]int{}, 0
	for i, s := range bad.Plan {
		ends[s.Status]++
		if again.Plan[i].Reused {
			reused++
		}
	}
	if ends["COMPLETED"] != 13 || ends["FAILED"] != 2 || ends["SKIPPED"] != 3 || reused != 13 || !promises.Ended(bad.Status) {
		t.Errorf("the steps of one that is meant to fail are meant to be %v, %d are not run again", ends, reused)
	}
}

// TestWorkflowsSayWhatTheyMean checks of each workflow that it can be sent, and that what it is meant to become is said of each step.
func TestWorkflowsSayWhatTheyMean(t *testing.T) {
	for _, w := range []Workflow{Diamond("http://b"), Calls("http://b", 3, time.Second), Quick("http://b", time.Second), Sleepers("http://b", time.Second), Endless("http://b"), Hanging("http://b", 2), Greedy()} {
		ids := map[*agent]string{}
		for i, a := range w.agents() {
			ids[a] = fmt.Sprint(i)
		}
		raw, err := json.Marshal(w.body(ids))
		if err != nil || strings.Contains(string(raw), `"agentId":""`) {
			t.Errorf("%s is sent as %s, %v", w, raw, err)
		}
		for _, s := range w.meant(1, false).Plan {
			if (s.Status == "") != w.anyEnd || s.Attempts == 0 {
				t.Errorf("%s of %s is meant to become %+v", s.Key, w, s)
			}
		}
	}
}
