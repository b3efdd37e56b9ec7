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

// DefaultTimeout bounds a call whose context has no deadline.
const DefaultTimeout = 10 * time.Second

// A reply larger than partSize travels in parts; all parts of one may hold maxReply bytes.
const (
	partSize = 2 << 20
	maxReply = 128 << 20
)

// Call asks a service and waits for its answer. The error is an *errs.Error: the one the
// service gave, or DEPENDENCY_UNAVAILABLE when none answers in time. Whether a call that
// timed out took effect is unknown.
func Call[Req, Resp any](ctx context.Context, c *Conn, m rpc.Method[Req, Resp], caller rpc.Caller, req Req) (resp Resp, err error) {
	ctx, done := c.calling(ctx, m.Service, m.Name, &caller)
	defer func() { done(err) }()
	body, err := encode(req)
	if err != nil {
		return resp, errs.Wrap(err, errs.Internal, "encode the request %s.%s", m.Service, m.Name)
	}
	if len(body) > subject.MaxPayload-64<<10 {
		return resp, errs.New(errs.PayloadTooLarge, "the request is larger than %d bytes; send less at once", subject.MaxPayload-64<<10)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	msg := nats.NewMsg(subject.RPC(m.Service, m.Version, m.Name))
	msg.Data = body
	setCaller(msg.Header, caller)
	if deadline, ok := ctx.Deadline(); ok {
		msg.Header.Set(rpc.HeaderTimeoutMs, strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	data, header, err := c.calls.do(ctx, c.nc, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return resp, errs.Wrap(err, errs.DependencyUnavailable, "the %s service is not running; try again shortly", m.Service)
	case err != nil:
		return resp, errs.Wrap(err, errs.DependencyUnavailable, "the %s service did not answer in time; try again shortly", m.Service)
	}
	if header.Get(micro.ErrorCodeHeader) != "" {
		var e errs.Error
		if err := json.Unmarshal(data, &e); err != nil || e.Code == "" {
			return resp, errs.New(errs.Internal, "%s", header.Get(micro.ErrorHeader))
		}
		return resp, &e
	}
	if err := json.Unmarshal(data, &resp); err != nil {
		return resp, errs.Wrap(err, errs.Internal, "decode the answer of %s.%s", m.Service, m.Name)
	}
	return resp, nil
}

// encode gives the JSON of a request or an answer. Nothing shows it in a page, so that < and & stay one byte: payloads are bounded
// by their bytes, and must not grow on their way.
func encode(v any) ([]byte, error) {
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
		{rpc.HeaderRequestID, c.RequestID},
		{rpc.HeaderTraceparent, c.Traceparent},
		{rpc.HeaderIP, c.IP},
		{rpc.HeaderUserAgent, singleLine(c.UserAgent)},
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
		UserID: h.Get(rpc.HeaderUser), Role: h.Get(rpc.HeaderRole), SessionID: h.Get(rpc.HeaderSession), RequestID: h.Get(rpc.HeaderRequestID),
		Traceparent: h.Get(rpc.HeaderTraceparent), IP: h.Get(rpc.HeaderIP), UserAgent: h.Get(rpc.HeaderUserAgent),
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
		if ch != nil {
			ch <- m // has room for every part of a reply; see do
		}
	})
	return err
}

func (c *calls) do(ctx context.Context, nc *nats.Conn, msg *nats.Msg) ([]byte, nats.Header, error) {
	id := nuid.Next()
	ch := make(chan *nats.Msg, maxReply/partSize+1)
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
		return nil, nil, err
	}
	var data []byte
	for {
		select {
		case m := <-ch:
			if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
				return nil, nil, nats.ErrNoResponders
			}
			if m.Header.Get(rpc.HeaderPartsLeft) == "" && data == nil {
				return m.Data, m.Header, nil
			}
			data = append(data, m.Data...)
			if m.Header.Get(rpc.HeaderPartsLeft) == "" {
				return data, m.Header, nil
			}
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}
