package code

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/runner/internal/code/frame"
	"turbocat.io/services/runner/internal/code/script"
	"turbocat.io/services/runner/internal/executor"
)

const (
	maxFetched      = 128 << 20 // bytes of all bodies of an attempt
	headSize        = 4         // the length of a head
	maxRequestHead  = 256 << 10
	maxResponseHead = 1 << 20 // what the guard lets through, as JSON
)

// calls are what the code of an attempt fetches. They are made here, as its process can reach nobody.
type calls struct {
	ctx    context.Context // ends with the attempt
	client *http.Client
	hosts  hosts
	ours   func() bool
	lost   func() // is called when ours says no

	mu     sync.Mutex
	atWork map[uint32]context.CancelFunc
	begun  int
	aborts int
	left   int64 // of maxFetched

	writing sync.Mutex
	out     io.Writer
	working sync.WaitGroup
}

func newCalls(ctx context.Context, client *http.Client, hosts hosts, ours func() bool, lost func(), out io.Writer) *calls {
	return &calls{ctx: ctx, client: client, hosts: hosts, ours: ours, lost: lost, out: out, atWork: map[uint32]context.CancelFunc{}, left: maxFetched}
}

// begin begins the call that a frame asks for. An error means that the sandbox breaks the rules; what else is
// wrong with a call is answered.
func (c *calls) begin(body []byte) error {
	var r script.Request
	var err error
	if r.Body, err = unpack(body, &r); err != nil {
		return errors.Join(frame.ErrBroken, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun++
	switch {
	case c.begun > script.MaxFetches:
		return fmt.Errorf("%w: it fetches more often than it may", frame.ErrBroken)
	case len(c.atWork) == script.MaxFetchesAtOnce:
		return fmt.Errorf("%w: it fetches more at once than it may", frame.ErrBroken)
	case c.atWork[r.ID] != nil:
		return fmt.Errorf("%w: it fetches twice under the number %d", frame.ErrBroken, r.ID)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	c.atWork[r.ID] = cancel
	c.working.Go(func() {
		defer cancel()
		c.answer(c.fetch(ctx, r))
	})
	return nil
}

// abort ends the call whose number a frame has. One that has just ended is no fault.
func (c *calls) abort(body []byte) error {
	if len(body) != 4 {
		return fmt.Errorf("%w: an abort has no number", frame.ErrBroken)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborts++; c.aborts > c.begun {
		return fmt.Errorf("%w: it aborts more than it fetches", frame.ErrBroken)
	}
	if cancel := c.atWork[binary.BigEndian.Uint32(body)]; cancel != nil {
		cancel()
	}
	return nil
}

// wait waits until nothing is left of the calls; their context is to have ended.
func (c *calls) wait() { c.working.Wait() }

func (c *calls) answer(r script.Response) {
	body, err := pack(r, r.Body)
	if err != nil || len(body)-len(r.Body) > headSize+maxResponseHead {
		body, _ = pack(script.Response{ID: r.ID, Error: "fetch: the headers of the answer are too large"}, nil)
	}
	// From its answer on it may fetch another.
	c.mu.Lock()
	delete(c.atWork, r.ID)
	c.mu.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = frame.Write(c.out, frame.Response, body) // a sandbox that is gone needs none
}

func (c *calls) fetch(ctx context.Context, r script.Request) script.Response {
	response, err := c.try(ctx, r)
	if err != nil {
		if !c.ours() {
			c.lost()
		}
		response = script.Response{Error: reason(r, err)}
	}
	response.ID = r.ID
	return response
}

// reason tells in one line what became of a request; of its URL, whose query may be secret, what has no secret.
func reason(r script.Request, err error) string {
	where := ""
	if u, err := url.Parse(r.URL); err == nil {
		where = " " + (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	}
	return "fetch" + where + ": " + guard.Reason(err)
}

func (c *calls) try(ctx context.Context, r script.Request) (script.Response, error) {
	req, err := http.NewRequestWithContext(guard.While(ctx, c.ours), r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return script.Response{}, err
	}
	if slices.Contains([]string{http.MethodConnect, http.MethodTrace}, strings.ToUpper(r.Method)) {
		return script.Response{}, fmt.Errorf("fetch takes no method %s", r.Method)
	}
	if req.URL.User != nil {
		return script.Response{}, errors.New("the URL has a user; send the header Authorization")
	}
	if err := c.hosts.refusal(req.URL); err != nil {
		return script.Response{}, err
	}
	if err := setHeaders(ctx, req.Header, r.Headers); err != nil {
		return script.Response{}, err
	}
	if !c.take(int64(len(r.Body))) {
		return script.Response{}, errFetched
	}
	if !c.ours() {
		return script.Response{}, executor.ErrNotOurs
	}
	client, redirected := *c.client, false
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		switch r.Redirect {
		case "manual":
			return http.ErrUseLastResponse
		case "error":
			return errors.New("the answer is a redirect, which the redirect of the request forbids")
		}
		if err := c.hosts.refusal(next.URL); err != nil {
			return fmt.Errorf("redirected to %s: %w", next.URL.Host, err)
		}
		redirected = true
		return c.client.CheckRedirect(next, via)
	}
	resp, err := client.Do(req)
	if err != nil {
		return script.Response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := c.read(resp.Body)
	if err != nil {
		return script.Response{}, err
	}
	final := *resp.Request.URL
	final.Fragment = ""
	response := script.Response{
		Status: resp.StatusCode, StatusText: strings.TrimSpace(strings.TrimPrefix(resp.Status, fmt.Sprint(resp.StatusCode))),
		URL: final.String(), Redirected: redirected, Body: body,
	}
	for name, values := range resp.Header {
		for _, value := range values {
			response.Headers = append(response.Headers, [2]string{strings.ToLower(name), fromLatin1(value)})
		}
	}
	return response, nil
}

var (
	errFetched = fmt.Errorf("an attempt may send and fetch %d MiB; fetch less, or split the work into several steps", maxFetched>>20)
	errLarge   = fmt.Errorf("the body of the answer is larger than %d MiB; ask the server for less, such as a page", script.MaxFetchBody>>20)
)

func (c *calls) read(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, script.MaxFetchBody+1))
	switch {
	case errors.Is(err, guard.ErrBodyTooLarge) || len(body) > script.MaxFetchBody:
		return nil, errLarge
	case err == nil && !c.take(int64(len(body))):
		return nil, errFetched
	}
	return body, err
}

// take counts bytes of bodies, and tells whether the attempt may have them.
func (c *calls) take(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.left {
		return false
	}
	c.left -= n
	return true
}

// transports are the headers that are the transport's to set; as in browsers, others leave them alone and are not told.
var transports = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func setHeaders(ctx context.Context, to http.Header, list [][2]string) error {
	to.Set("User-Agent", "Turbocat")
	if traceparent := observe.Traceparent(ctx); traceparent != "" {
		to.Set("Traceparent", traceparent)
	}
	for _, pair := range list {
		name := http.CanonicalHeaderKey(pair[0])
		if slices.Contains(transports, name) || strings.HasPrefix(name, "Proxy-") {
			continue
		}
		value, ok := toLatin1(pair[1])
		if !ok {
			return fmt.Errorf("the header %s has a character beyond U+00FF", name)
		}
		to.Set(name, value)
	}
	return nil
}

// fromLatin1 gives the bytes of a header as text.
func fromLatin1(value string) string {
	text := make([]rune, len(value))
	for i := range len(value) {
		text[i] = rune(value[i])
	}
	return string(text)
}

func toLatin1(text string) (string, bool) {
	value := make([]byte, 0, len(text))
	for _, c := range text {
		if c > 0xff {
			return "", false
		}
		value = append(value, byte(c))
	}
	return string(value), true
}

// pack gives the body of a frame that has a head and a body of its own.
func pack(head any, body []byte) ([]byte, error) {
	encoded, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	packed := make([]byte, 0, headSize+len(encoded)+len(body))
	packed = binary.BigEndian.AppendUint32(packed, uint32(len(encoded)))
	return append(append(packed, encoded...), body...), nil
}

func unpack(packed []byte, head any) ([]byte, error) {
	if len(packed) < headSize {
		return nil, errors.New("there is no head")
	}
	size := binary.BigEndian.Uint32(packed)
	rest := packed[headSize:]
	if uint64(size) > uint64(len(rest)) {
		return nil, fmt.Errorf("the head has %d bytes, and %d are there", size, len(rest))
	}
	return rest[size:], json.Unmarshal(rest[:size], head)
}
