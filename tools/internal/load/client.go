package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/tools/internal/promises"
)

const (
	requestTimeout = 30 * time.Second
	// silence is how long an event stream may say nothing; the server shows a sign of life every 15 s.
	silence = 45 * time.Second
	// again is the pause before a request is repeated.
	again = 100 * time.Millisecond
)

// api is one user of an installation. It is safe for concurrent use.
type api struct {
	url  string
	http *http.Client

	mu      sync.Mutex
	account identity.LoginRequest
	token   string
}

// answer is what came back; status is 0 when nothing did.
type answer struct {
	status int
	code   errs.Code // of a refusal
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// unknown tells whether the request may or may not have had its effect, so that it is to be repeated with its key.
func (a answer) unknown() bool {
	return a.status == 0 || a.status >= 500 || a.status == http.StatusTooManyRequests || a.code == errs.TokenExpired
}

func newAPI(url string) *api {
	return &api{url: strings.TrimSuffix(url, "/") + "/api/v1", http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// send makes one request. Its error is that of ctx; what goes wrong otherwise is an answer without a status.
func (a *api) send(ctx context.Context, method, path string, body []byte, headers ...string) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := a.request(limited, method, path, body, headers...)
	if err != nil {
		return answer{}, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return answer{}, ctx.Err()
	}
	defer func() { _ = resp.Body.Close() }()
	got := answer{status: resp.StatusCode}
	if got.body, err = io.ReadAll(resp.Body); err != nil {
		return answer{}, ctx.Err()
	}
	var refusal struct{ Error struct{ Code errs.Code } }
	if resp.StatusCode >= 400 && json.Unmarshal(got.body, &refusal) == nil {
		got.code = refusal.Error.Code
	}
	if got.code == errs.TokenExpired {
		return got, a.login(ctx)
	}
	return got, nil
}

func (a *api) request(ctx context.Context, method, path string, body []byte, headers ...string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req, nil
}

// ask makes a request until it is answered, and gives the data of an answer with the status.
func ask[T any](ctx context.Context, a *api, method, path string, body any, status int) (T, rpc.Pagination, error) {
	var envelope struct {
		Data T
		Meta struct{ Pagination rpc.Pagination }
	}
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return envelope.Data, envelope.Meta.Pagination, err
		}
	}
	for {
		got, err := a.send(ctx, method, path, raw)
		switch {
		case err != nil:
			return envelope.Data, envelope.Meta.Pagination, err
		case got.status == status:
			err := json.Unmarshal(got.body, &envelope)
			return envelope.Data, envelope.Meta.Pagination, err
		case !got.unknown():
			return envelope.Data, envelope.Meta.Pagination, fmt.Errorf("%s %s: %s", method, path, got)
		}
		if err := nap(ctx, again); err != nil {
			return envelope.Data, envelope.Meta.Pagination, fmt.Errorf("%s %s: %w, the last answer is %s", method, path, err, got)
		}
	}
}

// register makes an account of its own.
func (a *api) register(ctx context.Context) error {
	a.account = identity.LoginRequest{Email: fmt.Sprintf("load-%d@example.com", time.Now().UnixNano()), Password: "Correct-horse-9"}
	session, _, err := ask[identity.Session](ctx, a, http.MethodPost, "/auth/register", object{"email": a.account.Email, "password": a.account.Password, "fullName": "A Load"}, http.StatusCreated)
	a.token = session.AccessToken
	return err
}

// login replaces an expired token. A failure is left to the next request.
func (a *api) login(ctx context.Context) error {
	raw, err := json.Marshal(a.account)
	if err != nil {
		return err
	}
	got, err := a.send(ctx, http.MethodPost, "/auth/login", raw)
	var envelope struct{ Data identity.Session }
	if err != nil || got.status != http.StatusOK || json.Unmarshal(got.body, &envelope) != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = envelope.Data.AccessToken
	return nil
}

// follow reads the events of an execution behind the one with the id last until the stream ends, and hands over each.
func (a *api) follow(ctx context.Context, execution string, last uint64, on func(promises.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	req, err := a.request(ctx, http.MethodGet, "/executions/"+execution+"/events", nil, "Last-Event-ID", strconv.FormatUint(last, 10))
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("the stream of %s answers %d %s", execution, resp.StatusCode, body)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var body []byte
	isText := false
	for lines.Scan() {
		quiet.Reset(silence)
		if kind, ok := bytes.CutPrefix(lines.Bytes(), []byte("event: ")); ok {
			isText = string(kind) == "token" // what a model writes, which is no event
		}
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok && !isText {
			body = bytes.Clone(data)
		}
		if len(lines.Bytes()) > 0 || body == nil {
			continue
		}
		// An empty line ends an event. What is cut off before it is none.
		e, err := promises.ParseEvent(body)
		if err != nil {
			return errors.Join(errBroken, err)
		}
		on(e)
		body = nil
	}
	return lines.Err()
}

// errBroken is an event stream that says what is none.
var errBroken = errors.New("the event stream is broken")

func isBroken(err error) bool { return errors.Is(err, errBroken) }

func nap(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
		return nil
	}
}
