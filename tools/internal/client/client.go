// Package client talks to the HTTP API of a running installation on behalf of one user.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
)

const (
	requestTimeout = 60 * time.Second
	maxAnswer      = 256 << 20
	pageSize       = 100 // the largest
)

// Client is a logged-in user. It is for one goroutine at a time.
type Client struct {
	base            string // without a slash at its end
	http            *http.Client
	patience        patience
	email, password string
	token           string
	user            identity.User
}

// Login opens a session at the address of an installation, like http://127.0.0.1:3001.
func Login(ctx context.Context, base, email, password string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of Turbocat; give one like http://127.0.0.1:3001", base)
	}
	c := &Client{
		base: strings.TrimSuffix(base, "/"), email: email, password: password, patience: defaultPatience,
		// Of its own, so that nothing is left open when the client is closed.
		http: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}},
	}
	return c, c.login(ctx)
}

// Close gives up the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// User is who is logged in.
func (c *Client) User() identity.User { return c.user }

// URL is the address of the installation.
func (c *Client) URL() string { return c.base }

func (c *Client) login(ctx context.Context) error {
	c.token = ""
	session, _, err := ask[identity.Session](ctx, c, http.MethodPost, "/auth/login", identity.LoginRequest{Email: c.email, Password: c.password})
	if err != nil {
		return err
	}
	c.token, c.user = session.AccessToken, session.User
	return nil
}

// Agents gives the user's own agents of exactly that name, oldest first.
func (c *Client) Agents(ctx context.Context, name string) ([]catalog.Agent, error) {
	return named(ctx, c, "/agents", name, func(a catalog.Agent) bool { return a.Name == name && a.UserID == c.user.ID })
}

// CreateAgent makes an agent of the fields of a body.
func (c *Client) CreateAgent(ctx context.Context, body any) (catalog.Agent, error) {
	agent, _, err := ask[catalog.Agent](ctx, c, http.MethodPost, "/agents", body)
	return agent, err
}

// PatchAgent changes the fields of an agent that a body has.
func (c *Client) PatchAgent(ctx context.Context, id string, body any) (catalog.Agent, error) {
	agent, _, err := ask[catalog.Agent](ctx, c, http.MethodPatch, "/agents/"+id, body)
	return agent, err
}

// Workflows gives the user's own workflows of exactly that name, oldest first and without their steps.
func (c *Client) Workflows(ctx context.Context, name string) ([]catalog.Workflow, error) {
	return named(ctx, c, "/workflows", name, func(w catalog.Workflow) bool { return w.Name == name && w.UserID == c.user.ID })
}

// Workflow gives a workflow with its steps.
func (c *Client) Workflow(ctx context.Context, id string) (catalog.Workflow, error) {
	workflow, _, err := ask[catalog.Workflow](ctx, c, http.MethodGet, "/workflows/"+id, nil)
	return workflow, err
}

// CreateWorkflow makes a workflow of the fields of a body.
func (c *Client) CreateWorkflow(ctx context.Context, body any) (catalog.Workflow, error) {
	workflow, _, err := ask[catalog.Workflow](ctx, c, http.MethodPost, "/workflows", body)
	return workflow, err
}

// PatchWorkflow changes the fields of a workflow that a body has.
func (c *Client) PatchWorkflow(ctx context.Context, id string, body any) (catalog.Workflow, error) {
	workflow, _, err := ask[catalog.Workflow](ctx, c, http.MethodPatch, "/workflows/"+id, body)
	return workflow, err
}

// Agent gives an agent.
func (c *Client) Agent(ctx context.Context, id string) (catalog.Agent, error) {
	agent, _, err := ask[catalog.Agent](ctx, c, http.MethodGet, "/agents/"+id, nil)
	return agent, err
}

// TestAgent runs an agent once with an input, a JSON object, and gives the id of that execution, which may still run.
func (c *Client) TestAgent(ctx context.Context, id string, input json.RawMessage) (executionID string, err error) {
	test, _, err := ask[struct{ ExecutionID string }](ctx, c, http.MethodPost, "/agents/"+id+"/test?wait=1s", map[string]json.RawMessage{"input": input})
	return test.ExecutionID, err
}

// Execute starts a workflow with inputs, a JSON object.
func (c *Client) Execute(ctx context.Context, workflowID string, inputs json.RawMessage) (orchestrator.Execution, error) {
	execution, _, err := ask[orchestrator.Execution](ctx, c, http.MethodPost, "/workflows/"+workflowID+"/execute", map[string]json.RawMessage{"inputs": inputs})
	return execution, err
}

// Replay repeats an execution that has ended, as a new one, by what is recorded of it.
func (c *Client) Replay(ctx context.Context, id string) (orchestrator.Execution, error) {
	execution, _, err := ask[orchestrator.Execution](ctx, c, http.MethodPost, "/executions/"+id+"/replay", nil)
	return execution, err
}

// Execution gives an execution with its steps.
func (c *Client) Execution(ctx context.Context, id string) (orchestrator.Execution, error) {
	execution, _, err := ask[orchestrator.Execution](ctx, c, http.MethodGet, "/executions/"+id, nil)
	return execution, err
}

// Cancel ends an execution; CONFLICT when it has ended already.
func (c *Client) Cancel(ctx context.Context, id string) error {
	_, _, err := ask[orchestrator.CommandResponse](ctx, c, http.MethodPost, "/executions/"+id+"/cancel", nil)
	return err
}

// DeadLetters gives inputs that could not be applied, of a reason or of any, oldest first, to each until it returns an error; fresh leaves
// out those that were sent once more. For an ADMIN.
func (c *Client) DeadLetters(ctx context.Context, reason string, fresh bool, each func(orchestrator.DeadLetter) error) error {
	query := url.Values{"pageSize": {strconv.Itoa(pageSize)}, "sortOrder": {"asc"}}
	if reason != "" {
		query.Set("reason", reason)
	}
	if fresh {
		query.Set("replayed", "false")
	}
	for {
		letters, page, err := ask[[]orchestrator.DeadLetter](ctx, c, http.MethodGet, "/dead-letters?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		for _, d := range letters {
			if err := each(d); err != nil {
				return err
			}
		}
		if page.NextCursor == nil {
			return nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

// DeadLetter gives one of them with its body.
func (c *Client) DeadLetter(ctx context.Context, id string) (orchestrator.DeadLetter, error) {
	d, _, err := ask[orchestrator.DeadLetter](ctx, c, http.MethodGet, "/dead-letters/"+url.PathEscape(id), nil)
	return d, err
}

// ReplayDeadLetter has one of them sent once more.
func (c *Client) ReplayDeadLetter(ctx context.Context, id string) (orchestrator.DeadLetter, error) {
	d, _, err := ask[orchestrator.DeadLetter](ctx, c, http.MethodPost, "/dead-letters/"+url.PathEscape(id)+"/replay", nil)
	return d, err
}

// LogTail gives the last lines of a step's log, at most 100, oldest first.
func (c *Client) LogTail(ctx context.Context, id, stepKey string) ([]telemetry.LogLine, error) {
	path := "/executions/" + id + "/logs?pageSize=" + strconv.Itoa(pageSize) + "&stepKey=" + url.QueryEscape(stepKey)
	lines, pages, err := ask[[]telemetry.LogLine](ctx, c, http.MethodGet, path, nil)
	if err != nil || pages.TotalPages < 2 {
		return lines, err
	}
	lines, _, err = ask[[]telemetry.LogLine](ctx, c, http.MethodGet, path+"&page="+strconv.Itoa(pages.TotalPages), nil)
	return lines, err
}

// named gives the items of a list that keep lets pass.
func named[T any](ctx context.Context, c *Client, path, name string, keep func(T) bool) ([]T, error) {
	query := url.Values{"search": {name}, "pageSize": {strconv.Itoa(pageSize)}, "sortBy": {"createdAt"}, "sortOrder": {"asc"}}
	var kept []T
	for {
		items, page, err := ask[[]T](ctx, c, http.MethodGet, path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if keep(item) {
				kept = append(kept, item)
			}
		}
		if page.NextCursor == nil {
			return kept, nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

// envelope is every answer of the API.
type envelope[T any] struct {
	Success bool `json:"success"`
	Data    T    `json:"data"`
	Meta    struct {
		Pagination rpc.Pagination `json:"pagination"`
	} `json:"meta"`
	Error     *errs.Error `json:"error"`
	RequestID string      `json:"requestId"`
}

// ask makes a request; an expired token is replaced. An error that the API gives is a *Refusal.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (T, rpc.Pagination, error) {
	var none T
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return none, rpc.Pagination{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for again := false; ; again = true {
		answer, err := c.send(ctx, method, path, raw, nil) //nolint:bodyclose // read closes it
		if err != nil {
			return none, rpc.Pagination{}, err
		}
		e, err := read[T](c, answer)
		if isExpired(err) && !again && c.token != "" {
			if err := c.login(ctx); err != nil {
				return none, rpc.Pagination{}, err
			}
			continue
		}
		return e.Data, e.Meta.Pagination, err
	}
}

// send sends a request of the user. The error is a sentence for the user.
func (c *Client) send(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return answer, nil
}

// read reads an answer to its end.
func read[T any](c *Client, answer *http.Response) (envelope[T], error) {
	defer func() { _ = answer.Body.Close() }()
	var e envelope[T]
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return e, c.unreachable(err)
	}
	if answer.StatusCode < 300 && len(raw) == 0 {
		return e, nil
	}
	if err := json.Unmarshal(raw, &e); err != nil || !e.Success && e.Error == nil {
		return e, fmt.Errorf("what answers at %s is not Turbocat (HTTP %d); correct the address", c.base, answer.StatusCode)
	}
	if e.Error != nil {
		return e, &Refusal{Reason: e.Error, Status: answer.StatusCode, RequestID: e.RequestID}
	}
	return e, nil
}

// Unreachable is an installation that does not answer.
type Unreachable struct {
	URL   string
	Cause error
}

func (e *Unreachable) Error() string {
	var timeout net.Error
	if errors.As(e.Cause, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("%s does not answer in time; look at the log of Turbocat there", e.URL)
	}
	return fmt.Sprintf("nothing answers at %s; start Turbocat with `make run`, or give its address with --url", e.URL)
}

func (e *Unreachable) Unwrap() error { return e.Cause }

func (c *Client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &Unreachable{URL: c.base, Cause: err}
}

// Refusal is an error that the API answers.
type Refusal struct {
	Reason    *errs.Error
	Status    int
	RequestID string
}

func (e *Refusal) Error() string {
	text := e.Reason.Message
	for _, d := range e.Reason.Details {
		text += "\n  "
		if d.Field != "" {
			text += d.Field + ": "
		}
		text += d.Message
	}
	if e.Status >= http.StatusInternalServerError {
		text += fmt.Sprintf(" (requestId %s)", e.RequestID)
	}
	return text
}

func (e *Refusal) Unwrap() error { return e.Reason }

func isExpired(err error) bool {
	return errs.CodeOf(err) == errs.TokenExpired
}
