package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
)

// DefaultTimeout bounds a call whose context has no deadline, but for the time that a large body takes; see timeoutFor.
const DefaultTimeout = 10 * time.Second

// bytesPerSecond is how fast bodies come along at least.
const bytesPerSecond = 2 << 20

// timeoutFor gives the time for work with that many bytes.
func timeoutFor(size int) time.Duration {
	return DefaultTimeout + time.Duration(size)*time.Second/bytesPerSecond
}

// Call asks a service and waits for its answer. The error is an *errs.Error: the one the
// service gave, or DEPENDENCY_UNAVAILABLE when none answers in time. Whether a call that
// timed out took effect is unknown. A json.RawMessage is sent as it is, and given as it came.
func Call[Req, Resp any](ctx context.Context, c *Conn, m rpc.Method[Req, Resp], caller rpc.Caller, req Req) (resp Resp, err error) {
	ctx, done := c.calling(ctx, m.Service, m.Name, &caller)
	defer func() { done(err) }()
	body, err := encode(req)
	if err != nil {
		return resp, errs.Wrap(err, errs.Internal, "encode the request %s.%s", m.Service, m.Name)
	}
	if len(body) > maxBody {
		return resp, errs.New(errs.PayloadTooLarge, "the request is larger than %d bytes; send less at once", maxBody)
	}
	waiting := ctx
	_, bounded := ctx.Deadline()
	if !bounded {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, timeoutFor(len(body)))
		defer cancel()
	}
	msg := nats.NewMsg(subject.RPC(m.Service, m.Version, m.Name))
	setCaller(msg.Header, caller)
	offered, err := attach(c.nc, msg, body)
	if err != nil {
		return resp, errs.Wrap(err, errs.DependencyUnavailable, "the request can not be sent; try again shortly")
	}
	defer offered.close()
	if deadline, ok := waiting.Deadline(); ok {
		msg.Header.Set(rpc.HeaderTimeoutMs, strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	answer, err := c.calls.do(waiting, c.nc, msg)
	var data []byte
	if err == nil {
		data, err = answerOf(ctx, c.nc, answer, bounded)
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders) && answer == nil:
		return resp, errs.Wrap(err, errs.DependencyUnavailable, "the %s service is not running; try again shortly", m.Service)
	case err != nil:
		return resp, errs.Wrap(err, errs.DependencyUnavailable, "the %s service did not answer in time; try again shortly", m.Service)
	}
	if answer.Header.Get(micro.ErrorCodeHeader) != "" {
		var e errs.Error
		if err := json.Unmarshal(data, &e); err != nil || e.Code == "" {
			return resp, errs.New(errs.Internal, "%s", answer.Header.Get(micro.ErrorHeader))
		}
		return resp, &e
	}
	if raw, ok := any(&resp).(*json.RawMessage); ok {
		*raw = data
		return resp, nil
	}
	if err := json.Unmarshal(data, &resp); err != nil {
		return resp, errs.Wrap(err, errs.Internal, "decode the answer of %s.%s", m.Service, m.Name)
	}
	return resp, nil
}

// answerOf gives the body of an answer. A large one has the time that it takes, unless the caller says how long that may be.
func answerOf(ctx context.Context, nc *nats.Conn, answer *nats.Msg, bounded bool) ([]byte, error) {
	size, err := sizeOf(answer.Header)
	if err == nil && size > 0 && !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeoutFor(size))
		defer cancel()
	}
	return bodyOf(ctx, nc, answer)
}

// encode gives the JSON of a request or an answer. Nothing shows it in a page, so that < and & stay one byte: payloads are bounded
// by their bytes, and must not grow on their way.
func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok && raw != nil {
		return raw, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

func setCaller(h nats.Header, c rpc.Caller) {
	for _, f := range []struct{ k, v string }{
		{rpc.HeaderUser, c.UserID},
		{rpc.HeaderRole, c.Role},
		{rpc.HeaderSession, c.SessionID},
		{rpc.HeaderAPIKey, c.APIKeyID},
		{rpc.HeaderRequestID, c.RequestID},
		{rpc.HeaderTraceparent, c.Traceparent},
		{rpc.HeaderIP, c.IP},
		{rpc.HeaderUserAgent, singleLine(c.UserAgent)},
		{rpc.HeaderIdempotencyKey, singleLine(c.IdempotencyKey)},
	} {
		if f.v != "" {
			h.Set(f.k, f.v)
		}
	}
	if c.Scopes != nil {
		h.Set(rpc.HeaderScopes, strings.Join(c.Scopes, " "))
	}
}

func callerOf(h nats.Header) rpc.Caller {
	c := rpc.Caller{
		UserID: h.Get(rpc.HeaderUser), Role: h.Get(rpc.HeaderRole), SessionID: h.Get(rpc.HeaderSession), APIKeyID: h.Get(rpc.HeaderAPIKey), RequestID: h.Get(rpc.HeaderRequestID),
		Traceparent: h.Get(rpc.HeaderTraceparent), IP: h.Get(rpc.HeaderIP), UserAgent: h.Get(rpc.HeaderUserAgent),
		IdempotencyKey: h.Get(rpc.HeaderIdempotencyKey),
	}
	if values, ok := h[rpc.HeaderScopes]; ok && len(values) > 0 {
		c.Scopes = strings.Fields(values[0])
	}
	return c
}

func singleLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// calls matches replies to the calls that wait for them, over one subscription.
type calls struct {
	prefix string

	mu      sync.Mutex
	waiting map[string]chan *nats.Msg
}

func (c *calls) listen(nc *nats.Conn) error {
	c.prefix = nats.NewInbox() + "."
	c.waiting = map[string]chan *nats.Msg{}
	_, err := nc.Subscribe(c.prefix+"*", func(m *nats.Msg) {
		c.mu.Lock()
		ch := c.waiting[strings.TrimPrefix(m.Subject, c.prefix)]
		c.mu.Unlock()
		select {
		case ch <- m: // a nil channel takes nothing
		default: // there is an answer already
		}
	})
	return err
}

func (c *calls) do(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (*nats.Msg, error) {
	id := nuid.Next()
	ch := make(chan *nats.Msg, 1)
	c.mu.Lock()
	c.waiting[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	msg.Reply = c.prefix + id
	if err := nc.PublishMsg(msg); err != nil {
		return nil, err
	}
	select {
	case m := <-ch:
		if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
			return nil, nats.ErrNoResponders
		}
		return m, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer: %w", ctx.Err())
	}
}
