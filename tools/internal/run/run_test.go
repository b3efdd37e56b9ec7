package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/contracts/orchestrator"
	"turbocat.io/tools/internal/client"
	"turbocat.io/tools/internal/workflowfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is as much of the HTTP API as a run needs, in memory.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	things  map[string][]map[string]any // by collection
	changes []string                    // requests that change something
	refuse  string                      // what the next change is answered with, instead
	events  []string                    // of the one execution; the stream stays open behind a "..."
	ended   string                      // the execution at its end
}

func newAPI(t *testing.T) (*api, *client.Client) {
	t.Helper()
	a := &api{things: map[string][]map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/auth/login", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"user": map[string]any{"id": "u"}, "accessToken": "t"})
	})
	mux.HandleFunc("GET /api/v1/{kind}", func(w http.ResponseWriter, r *http.Request) { reply(w, 200, a.list(r.PathValue("kind"))) })
	mux.HandleFunc("GET /api/v1/workflows/{id}", func(w http.ResponseWriter, r *http.Request) { reply(w, 200, a.find("workflows", r.PathValue("id"))) })
	mux.HandleFunc("POST /api/v1/{kind}", a.change)
	mux.HandleFunc("PATCH /api/v1/{kind}/{id}", a.change)
	mux.HandleFunc("POST /api/v1/workflows/{id}/execute", func(w http.ResponseWriter, _ *http.Request) {
		a.note("execute")
		reply(w, 201, map[string]any{"id": "x"})
	})
	mux.HandleFunc("POST /api/v1/executions/x/cancel", func(w http.ResponseWriter, _ *http.Request) {
		a.note("cancel")
		reply(w, 202, map[string]any{})
	})
	mux.HandleFunc("GET /api/v1/executions/x", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, json.RawMessage(a.ended)) })
	mux.HandleFunc("GET /api/v1/executions/x/logs", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, []map[string]any{{"level": "WARN", "message": "about to \x1b[31mfail", "attempt": 2}})
	})
	mux.HandleFunc("GET /api/v1/executions/x/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i, e := range a.events {
			if e == "..." {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			name, data, _ := strings.Cut(e, " ")
			_, _ = fmt.Fprintf(w, "id: %d\nevent: io.turbocat.execution.%s.v1\ndata: {\"data\":%s}\n\n", i+1, name, data)
		}
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	c, err := client.Login(t.Context(), a.URL, "a@b.c", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return a, c
}

func reply(w http.ResponseWriter, status int, data any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
}

func (a *api) note(change string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes = append(a.changes, change)
}

// noted gives the changes since it was last asked.
func (a *api) noted() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.changes = nil }()
	return strings.Join(a.changes, "\n")
}

func (a *api) list(kind string) []map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]map[string]any{}, a.things[kind]...)
}

func (a *api) find(kind, id string) map[string]any {
	for _, thing := range a.list(kind) {
		if thing["id"] == id {
			return thing
		}
	}
	return nil
}

// change makes or changes a thing as its body says; steps are replaced, but for their removal.
func (a *api) change(w http.ResponseWriter, r *http.Request) {
	kind, id := r.PathValue("kind"), r.PathValue("id")
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	if a.refuse != "" {
		w.WriteHeader(400)
		_, _ = w.Write([]byte(a.refuse))
		return
	}
	raw, _ := json.Marshal(body)
	a.note(strings.TrimSpace(r.Method + " " + kind + " " + string(raw)))
	thing := a.find(kind, id)
	if thing == nil {
		thing = map[string]any{"id": fmt.Sprintf("%s%d", kind, len(a.list(kind))), "userId": "u", "version": 1}
		a.mu.Lock()
		a.things[kind] = append(a.things[kind], thing)
		a.mu.Unlock()
	}
	for name, value := range body {
		thing[name] = value
	}
	reply(w, 200, thing)
}

const greet = `
name: Greet
agents:
  Greeter: {type: CODE, config: {runtime: javascript, source: x}}
steps:
  - {stepKey: a, stepType: AGENT, agent: Greeter, inputs: {n: 1}}
  - {stepKey: b, stepType: AGENT, agent: Greeter, dependsOn: [a]}
`

func parse(t *testing.T, text string) *workflowfile.File {
	t.Helper()
	f, err := workflowfile.Parse("w.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestApplyChangesOnlyWhatDiffers(t *testing.T) {
	a, c := newAPI(t)
	for _, step := range []struct {
		name, file string
		want       []string // prefixes of the changes
	}{
		{"new", greet, []string{`POST agents {"config":{"runtime":"javascript","source":"x"}`, `POST workflows {"concurrency":null`}},
		{"again", greet, nil},
		{"agent", strings.Replace(greet, "source: x", "source: y", 1), []string{`PATCH agents {"config":{"runtime":"javascript","source":"y"}}`}},
		{"field", strings.Replace(greet, "source: x", "source: y", 1) + "priority: 7\n", []string{`PATCH workflows {"priority":7}`}},
		{"default again", strings.Replace(greet, "source: x", "source: y", 1), []string{`PATCH workflows {"priority":5}`}},
		{"step removed", strings.Replace(greet, "source: x", "source: y", 1)[:strings.Index(greet, "  - {stepKey: b")], []string{`PATCH workflows {"steps":[{"agentId":"agents0"`}},
	} {
		if _, err := Apply(t.Context(), c, parse(t, step.file)); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got := a.noted()
		if lines := strings.Split(got, "\n"); len(step.want) == 0 && got != "" || len(step.want) > 0 && len(lines) != len(step.want) {
			t.Errorf("%s: changed\n%s", step.name, got)
			continue
		}
		for i, want := range step.want {
			if line := strings.Split(got, "\n")[i]; !strings.HasPrefix(line, want) {
				t.Errorf("%s: change %s, want %s", step.name, line, want)
			}
		}
		if step.name == "step removed" && !strings.Contains(got, `{"_delete":true,"stepKey":"b"}`) {
			t.Errorf("the step stays: %s", got)
		}
	}
}

func TestApplyFaults(t *testing.T) {
	a, c := newAPI(t)
	a.refuse = `{"success":false,"error":{"code":"VALIDATION_ERROR","message":"1 problem","details":[{"field":"config.runtime","message":"is odd"}]}}`
	if _, err := Apply(t.Context(), c, parse(t, greet)); err == nil || err.Error() != "w.yaml:4: agents.Greeter.config.runtime: is odd" {
		t.Errorf("got %v", err)
	}
	a.things["agents"] = []map[string]any{{"id": "1", "userId": "u", "name": "Greeter"}, {"id": "2", "userId": "u", "name": "Greeter"}}
	if _, err := Apply(t.Context(), c, parse(t, greet)); err == nil || !strings.Contains(err.Error(), `you have 2 agents with the name "Greeter"; rename or delete`) {
		t.Errorf("got %v", err)
	}
}

func TestRunShowsStepsAndGivesTheEnd(t *testing.T) {
	a, c := newAPI(t)
	a.events = []string{
		`created {"seq":1}`, `started {"seq":2}`, `step_started {"seq":3,"stepKey":"a","attempt":1}`,
		`step_retry_scheduled {"seq":4,"stepKey":"a","attempt":1,"error":{"code":"E","message":"boom\nmore"}}`,
		`step_started {"seq":5,"stepKey":"a","attempt":2}`, `step_failed {"seq":6,"stepKey":"a","attempt":2,"durationMs":1500,"error":{"code":"E","message":"boom"}}`,
		`step_skipped {"seq":7,"stepKey":"b"}`, `failed {"seq":8}`,
	}
	a.ended = `{"id":"x","status":"FAILED","error":{"code":"E","message":"boom"},"steps":[
		{"stepKey":"a","status":"FAILED","attempts":2,"error":{"code":"E","message":"boom","stack":"at line 1"}},{"stepKey":"b","status":"SKIPPED"}]}`
	var out bytes.Buffer
	x, err := Run(t.Context(), c, parse(t, greet), json.RawMessage(`{}`), &Progress{Out: &out})
	if err != nil || x.Status != orchestrator.ExecutionFailed {
		t.Fatalf("%+v, %v", x, err)
	}
	want := `Running "Greet", 2 steps, as execution x
  a  running
  a  attempt 1 failed: boom
  a  running, attempt 2
  a  failed in 1.5 s: boom
  b  skipped
`
	if out.String() != want {
		t.Errorf("showed\n%s", out.String())
	}
	text := Failure(t.Context(), c, x)
	for _, want := range []string{"the execution x ended FAILED: boom\n", "step a: E: boom\n  at line 1\n", "the end of its log:\n", "WARN  about to [31mfail"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestProgressOnATerminal(t *testing.T) {
	a, c := newAPI(t)
	a.events = []string{`step_started {"stepKey":"a"}`, `step_completed {"stepKey":"a","durationMs":5}`, `step_started {"stepKey":"b"}`, `step_completed {"stepKey":"b","durationMs":5}`, `completed {}`}
	a.ended = `{"id":"x","status":"COMPLETED"}`
	var out bytes.Buffer
	if _, err := Run(t.Context(), c, parse(t, greet), json.RawMessage(`{}`), &Progress{Out: &out, Live: true}); err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll(out.String(), clearLine, "<")
	for _, want := range []string{"<  0 of 2; running: a<", "<  a  completed in 5 ms\n", "<  1 of 2; running: b<"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is missing in %q", want, shown)
		}
	}
	if !strings.HasSuffix(shown, "<  2 of 2<") {
		t.Errorf("something is left on the line: %q", shown)
	}
}

func TestAnInterruptCancels(t *testing.T) {
	a, c := newAPI(t)
	a.events = []string{`step_started {"stepKey":"a"}`, "..."}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, c, parse(t, greet), json.RawMessage(`{}`), &Progress{Out: writer(func(p []byte) {
		if bytes.Contains(p, []byte("  a  running")) {
			cancel()
		}
	})})
	var interrupted *Interrupted
	if !errors.As(err, &interrupted) || interrupted.ExecutionID != "x" || interrupted.Cancel != nil || !strings.HasSuffix(a.noted(), "execute\ncancel") {
		t.Errorf("got %v", err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func TestPretty(t *testing.T) {
	long := strings.Repeat("x", 60)
	for raw, want := range map[string]string{
		`3`:                        `3`,
		`{}`:                       `{}`,
		`{"a":{"b":[1,2],"c":""}}`: "{\n  \"a\": {\"b\": [1, 2], \"c\": \"\"}\n}",
		`[{"a:,":"\",:{"}]`:        "[\n  {\"a:,\": \"\\\",:{\"}\n]",
		`{"a":["` + long + `","` + long + `",1]}`: "{\n  \"a\": [\n    \"" + long + "\",\n    \"" + long + "\", 1\n  ]\n}",
		`not json`: `not json`,
	} {
		if got := Pretty(json.RawMessage(raw)); got != want {
			t.Errorf("%s is shown as\n%s\nwant\n%s", raw, got, want)
		}
	}
}

func FuzzPretty(f *testing.F) {
	f.Add(`{"a":[1,{"b":"c,:{}[]\\\""}],"d":{}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		if !json.Valid([]byte(raw)) {
			return
		}
		var before, after bytes.Buffer
		if json.Compact(&before, []byte(raw)) != nil || json.Compact(&after, []byte(Pretty(json.RawMessage(raw)))) != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
			t.Errorf("%q is shown as %q", raw, Pretty(json.RawMessage(raw)))
		}
	})
}
