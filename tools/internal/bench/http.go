//go:build unix

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// HTTPOptions of RunHTTP.
type HTTPOptions struct {
	Rate     int           // rounds of the mix per second
	Duration time.Duration // of the load
	Program  string
	Environ  map[string]string
	JSON     io.Writer // one object per line and kind of request; may be nil
	Table    io.Writer // the same for people; may be nil
	Progress io.Writer
}

// HTTPResult is what was measured of one kind of request.
type HTTPResult struct {
	Request string  `json:"request"`
	Count   int     `json:"count"`
	Failed  int     `json:"failed"` // not answered, or by another status than it should be
	P50Ms   float64 `json:"p50Ms"`
	P95Ms   float64 `json:"p95Ms"`
	P99Ms   float64 `json:"p99Ms"`

	times []time.Duration
}

// loginsPerSecond is how often somebody logs in meanwhile. A login is 0.3 s of a processor, by bcrypt, so more would measure that.
const loginsPerSecond = 1

// RunHTTP measures the API of a whole installation, each service a process of its own: first how much the gateway adds to the RPC
// behind it, then how long requests take under a load. The load is open: a request is sent when it is due, whatever those before it
// do, and its time counts from then.
func RunHTTP(ctx context.Context, o HTTPOptions) error {
	dir, err := os.MkdirTemp("", "turbocat-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil { // the database's user passes through
		return err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(o.Progress, format+"\n", args...) }
	say("Starting PostgreSQL, NATS, Redis and all six services, each a process of its own, in %s", dir)
	w, err := start(ctx, dir, Options{Program: o.Program, Environ: o.Environ, Progress: o.Progress}, "identity", "catalog", "orchestrator", "runner", "telemetry", "gateway")
	if err != nil {
		return err
	}
	defer w.stop()
	l := &httpLoad{
		w: w, results: map[string]*HTTPResult{},
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	defer l.client.CloseIdleConnections()
	if err := l.prepare(ctx); err != nil {
		return err
	}
	say("what the gateway adds ...")
	if err := l.addition(ctx, o.Duration/2); err != nil {
		return err
	}
	say("%d rounds and %d logins a second for %s ...", o.Rate, loginsPerSecond, o.Duration)
	l.load(ctx, o)
	results := l.settled()
	if o.JSON != nil {
		for _, r := range results {
			if err := json.NewEncoder(o.JSON).Encode(r); err != nil {
				return err
			}
		}
	}
	if o.Table != nil {
		return httpTable(o, results)
	}
	return nil
}

// httpLoad sends requests to an installation and keeps how long they took.
type httpLoad struct {
	w        *world
	client   *http.Client
	email    string
	session  identity.Session
	workflow string

	mu      sync.Mutex
	results map[string]*HTTPResult
	order   []string
}

const benchPassword = "Bench-and-load-1"

// prepare makes the user and the workflow of the load.
func (l *httpLoad) prepare(ctx context.Context) error {
	l.email = "load@example.com"
	var session struct{ Data identity.Session }
	if err := l.send(ctx, "", "POST", "/api/v1/auth/register", "", map[string]any{"email": l.email, "password": benchPassword, "fullName": "Load"}, 201, &session); err != nil {
		return err
	}
	l.session = session.Data
	var agent, workflow struct{ Data struct{ ID string } }
	if err := l.send(ctx, "", "POST", "/api/v1/agents", l.session.AccessToken, loadAgent(), 201, &agent); err != nil {
		return err
	}
	err := l.send(ctx, "", "POST", "/api/v1/workflows", l.session.AccessToken, map[string]any{
		"name": "load", "status": "ACTIVE", "steps": []any{map[string]any{"stepKey": "a", "stepType": "AGENT", "agentId": agent.Data.ID, "inputs": map[string]any{"data": []int{1, 2, 3}}}},
	}, 201, &workflow)
	l.workflow = workflow.Data.ID
	return err
}

func loadAgent() map[string]any {
	return map[string]any{"name": "load", "type": "DATA", "status": "ACTIVE", "config": map[string]any{"operation": "unique"}}
}

// The names under which results are told.
const (
	overHTTP = "GET users/me, one after the other"
	overRPC  = "the RPC behind it, one after the other"
)

// addition asks for the same thing by turns over HTTP and by the RPC that the gateway makes of it.
func (l *httpLoad) addition(ctx context.Context, lasts time.Duration) error {
	caller := rpc.Caller{UserID: l.session.User.ID, Role: rpc.RoleUser, RequestID: "bench"}
	for until := time.Now().Add(lasts); time.Now().Before(until) && ctx.Err() == nil; {
		if err := l.send(ctx, overHTTP, "GET", "/api/v1/users/me", l.session.AccessToken, nil, 200, nil); err != nil {
			return err
		}
		began := time.Now()
		if _, err := bus.Call(ctx, l.w.conn, identity.GetMe, caller, rpc.Empty{}); err != nil {
			return err
		}
		l.keep(overRPC, time.Since(began), nil)
	}
	return ctx.Err()
}

// load runs a round of the mix as often as asked for, each on its own, until all have ended.
func (l *httpLoad) load(ctx context.Context, o HTTPOptions) {
	var running sync.WaitGroup
	every := func(perSecond int, do func(context.Context, time.Time)) {
		running.Go(func() {
			ticker := time.NewTicker(time.Second / time.Duration(perSecond))
			defer ticker.Stop()
			for end := time.After(o.Duration); ; {
				select {
				case <-ctx.Done():
					return
				case <-end:
					return
				case due := <-ticker.C:
					running.Go(func() { do(ctx, due) })
				}
			}
		})
	}
	every(o.Rate, l.round)
	every(loginsPerSecond, l.login)
	running.Wait()
}

// round is what a client does: it looks, makes an agent, reads, changes, lists and deletes it, and has an execution run to its end.
func (l *httpLoad) round(ctx context.Context, due time.Time) {
	token := l.session.AccessToken
	var agent struct{ Data struct{ ID string } }
	steps := []struct {
		name, method, path string
		body               any
		status             int
		into               any
	}{
		{"GET health/live", "GET", "/health/live", nil, 200, nil},
		{"POST agents", "POST", "/api/v1/agents", loadAgent(), 201, &agent},
		{"GET agents/:id", "GET", "/api/v1/agents/%s", nil, 200, nil},
		{"PATCH agents/:id", "PATCH", "/api/v1/agents/%s", map[string]any{"description": "changed"}, 200, nil},
		{"GET agents", "GET", "/api/v1/agents", nil, 200, nil},
		{"DELETE agents/:id", "DELETE", "/api/v1/agents/%s", nil, 204, nil},
		{"POST workflows/:id/execute", "POST", "/api/v1/workflows/" + l.workflow + "/execute", map[string]any{}, 201, nil},
		{"POST workflows/:id/execute?wait", "POST", "/api/v1/workflows/" + l.workflow + "/execute?wait=10s", map[string]any{}, 200, nil},
		{"GET executions", "GET", "/api/v1/executions", nil, 200, nil},
	}
	for _, s := range steps {
		path := s.path
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, agent.Data.ID)
		}
		if l.sendDue(ctx, due, s.name, s.method, path, token, s.body, s.status, s.into) != nil {
			return
		}
		due = time.Now()
	}
}

// login is what a person does who comes, stays and goes.
func (l *httpLoad) login(ctx context.Context, due time.Time) {
	var session struct{ Data identity.Session }
	if l.sendDue(ctx, due, "POST auth/login", "POST", "/api/v1/auth/login", "", map[string]any{"email": l.email, "password": benchPassword}, 200, &session) != nil ||
		l.send(ctx, "GET users/me", "GET", "/api/v1/users/me", session.Data.AccessToken, nil, 200, nil) != nil ||
		l.send(ctx, "POST auth/refresh", "POST", "/api/v1/auth/refresh", "", map[string]any{"refreshToken": session.Data.RefreshToken}, 200, &session) != nil {
		return
	}
	_ = l.send(ctx, "POST auth/logout", "POST", "/api/v1/auth/logout", "", map[string]any{"refreshToken": session.Data.RefreshToken}, 204, nil) // its failure is counted
}

func (l *httpLoad) send(ctx context.Context, name, method, path, token string, body any, status int, into any) error {
	return l.sendDue(ctx, time.Now(), name, method, path, token, body, status, into)
}

// sendDue sends a request and keeps how long after due its answer was there, under its name if it has one.
func (l *httpLoad) sendDue(ctx context.Context, due time.Time, name, method, path, token string, body any, status int, into any) error {
	err := l.exchange(ctx, method, path, token, body, status, into)
	if name != "" && ctx.Err() == nil {
		l.keep(name, time.Since(due), err)
	}
	return err
}

func (l *httpLoad) exchange(ctx context.Context, method, path, token string, body any, status int, into any) error {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.w.url+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, got)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(got, into)
}

func (l *httpLoad) keep(name string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.results[name]
	if r == nil {
		r = &HTTPResult{Request: name}
		l.results[name] = r
		l.order = append(l.order, name)
	}
	r.Count++
	r.times = append(r.times, took)
	if err != nil {
		r.Failed++
	}
}

func (l *httpLoad) settled() []HTTPResult {
	var results []HTTPResult
	for _, name := range l.order {
		r := l.results[name]
		slices.Sort(r.times)
		r.P50Ms, r.P95Ms, r.P99Ms = percentile(r.times, 50), percentile(r.times, 95), percentile(r.times, 99)
		results = append(results, *r)
	}
	return results
}

func httpTable(o HTTPOptions, results []HTTPResult) error {
	t := tabwriter.NewWriter(o.Table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "request\tcount\tfailed\tp50 ms\tp95 ms\tp99 ms")
	for _, r := range results {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\n", r.Request, r.Count, r.Failed, r.P50Ms, r.P95Ms, r.P99Ms)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(o.Table, `
%d processors, shared by everything, the load too. PostgreSQL: own process, fsync on. bcrypt at its default cost.
The load: %d rounds of the nine requests that begin with health and end with executions, and %d of the four from login to logout, a second, for %s;
a request's time counts from when it was due.
`, runtime.NumCPU(), o.Rate, loginsPerSecond, o.Duration)
	return err
}
