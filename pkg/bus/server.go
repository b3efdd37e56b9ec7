package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/observe"
)

// maxConcurrent bounds the requests that one server works on at once.
const maxConcurrent = 512

// drainTimeout bounds how long a stop waits for requests that the server has already handed over.
const drainTimeout = 2 * time.Second

// Server answers the methods of one service. Methods are added with Handle before Run.
type Server struct {
	service   string
	log       zerolog.Logger
	endpoints []endpoint
	slots     chan struct{}
	pulled    *semaphore.Weighted // the bytes of requests whose parts are fetched
	inFlight  sync.WaitGroup
	serving   chan struct{} // closed once it can be asked
	begun     sync.Once
}

type endpoint struct {
	name, subject string
	answer        func(ctx context.Context, caller rpc.Caller, body []byte) ([]byte, error)
}

// NewServer makes a server without methods.
func NewServer(service string, log zerolog.Logger) *Server {
	return &Server{serving: make(chan struct{}), service: service, log: log, slots: make(chan struct{}, maxConcurrent), pulled: semaphore.NewWeighted(maxPulled)}
}

// Handle lets fn answer a method. fn runs in a goroutine of its own, with the deadline of the
// call; an *errs.Error reaches the caller as it is, any other error is logged and reaches it as INTERNAL.
func Handle[Req, Resp any](s *Server, m rpc.Method[Req, Resp], fn func(ctx context.Context, caller rpc.Caller, req Req) (Resp, error)) {
	s.endpoints = append(s.endpoints, endpoint{
		name: m.Name, subject: subject.RPC(m.Service, m.Version, m.Name),
		answer: func(ctx context.Context, caller rpc.Caller, body []byte) ([]byte, error) {
			var req Req
			if err := json.Unmarshal(body, &req); err != nil {
				return nil, errs.Wrap(err, errs.Internal, "the request does not decode")
			}
			resp, err := fn(ctx, caller, req)
			if err != nil {
				return nil, err
			}
			return encode(resp)
		},
	})
}

// Serving is closed once Run has brought the server so far that it can be asked.
func (s *Server) Serving() <-chan struct{} { return s.serving }

// Run answers requests until ctx ends. Then it takes no more, and finishes those that the
// server has handed to it: a planned stop loses none. The service is announced over micro; the
// subscriptions are our own, because those of micro do not tell when they are drained.
func (s *Server) Run(ctx context.Context, c *Conn) error {
	service, err := micro.AddService(c.nc, micro.Config{Name: s.service, Version: "1.0.0", QueueGroup: s.service})
	if err != nil {
		return fmt.Errorf("serve %s: %w", s.service, err)
	}
	defer func() { _ = service.Stop() }()
	var subscriptions []*nats.Subscription
	var drained sync.WaitGroup
	for _, e := range s.endpoints {
		sub, err := c.nc.QueueSubscribe(e.subject, s.service, func(m *nats.Msg) { s.accept(c, e, m) })
		if err != nil {
			for _, sub := range subscriptions {
				_ = sub.Unsubscribe()
			}
			return fmt.Errorf("serve %s: %w", e.subject, err)
		}
		drained.Add(1)
		sub.SetClosedHandler(func(string) { drained.Done() })
		subscriptions = append(subscriptions, sub)
	}
	if err := c.nc.FlushTimeout(5 * time.Second); err != nil {
		s.log.Warn().Err(err).Msg("NATS is slow to take the subscriptions")
	}
	s.begun.Do(func() { close(s.serving) })
	<-ctx.Done()
	for _, sub := range subscriptions {
		if sub.Drain() != nil {
			_ = sub.Unsubscribe() // not connected: nothing can be handed to us
		}
	}
	done := make(chan struct{})
	go func() {
		drained.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTimeout):
		s.log.Warn().Msg("NATS is slow to drain the subscriptions")
	}
	s.inFlight.Wait()
	return nil
}

func (s *Server) accept(c *Conn, e endpoint, r *nats.Msg) {
	caller := callerOf(r.Header)
	select {
	case s.slots <- struct{}{}:
	default:
		ctx, done := c.answering(e.name, &caller)
		err := errs.New(errs.DependencyUnavailable, "the %s service is overloaded; try again shortly", s.service)
		done(err)
		s.fail(ctx, c.nc, r, e, err)
		return
	}
	s.inFlight.Add(1)
	go func() {
		defer s.inFlight.Done()
		defer func() { <-s.slots }()
		ctx, done := c.answering(e.name, &caller)
		ctx, cancel := context.WithTimeout(ctx, timeoutOf(r.Header))
		defer cancel()
		body, err := s.work(ctx, c.nc, e, caller, r)
		done(err)
		if err != nil {
			s.fail(ctx, c.nc, r, e, err)
			return
		}
		if err := respond(ctx, c.nc, r, body); err != nil {
			s.log.Warn().EmbedObject(observe.IDsOf(ctx)).Err(err).Str("method", e.subject).Msg("answer not sent")
		}
	}()
}

// work reads a request and gives the answer to it.
func (s *Server) work(ctx context.Context, nc *nats.Conn, e endpoint, caller rpc.Caller, r *nats.Msg) ([]byte, error) {
	size, err := sizeOf(r.Header)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "the request does not say how large it is")
	}
	if s.pulled.Acquire(ctx, int64(size)) != nil {
		return nil, errs.New(errs.DependencyUnavailable, "the %s service has too many large requests; try again shortly", s.service)
	}
	defer s.pulled.Release(int64(size))
	body, err := bodyOf(ctx, nc, r)
	if err != nil {
		return nil, errs.Wrap(err, errs.DependencyUnavailable, "the request did not arrive; try again")
	}
	resp, err := s.answer(ctx, e, caller, body)
	if err == nil && len(resp) > maxBody {
		return nil, errs.New(errs.PayloadTooLarge, "the answer is larger than %d bytes; ask for less at once", maxBody)
	}
	return resp, err
}

func (s *Server) answer(ctx context.Context, e endpoint, caller rpc.Caller, body []byte) (resp []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return e.answer(rpc.WithCaller(ctx, caller), caller, body)
}

// fail answers with an error, in the headers that micro's clients know.
func (s *Server) fail(ctx context.Context, nc *nats.Conn, r *nats.Msg, e endpoint, err error) {
	public := errs.From(err)
	if public.Code == errs.Internal || public.Code == errs.DependencyUnavailable {
		s.log.Error().EmbedObject(observe.IDsOf(ctx)).Err(err).Str("method", e.subject).Msg("request failed")
	}
	body, merr := json.Marshal(public)
	if merr != nil {
		body = nil // an errs.Error always encodes
	}
	msg := nats.NewMsg(r.Reply)
	msg.Header.Set(micro.ErrorCodeHeader, string(public.Code))
	msg.Header.Set(micro.ErrorHeader, singleLine(public.Message))
	msg.Data = body
	if err := nc.PublishMsg(msg); err != nil {
		s.log.Warn().EmbedObject(observe.IDsOf(ctx)).Err(err).Str("method", e.subject).Msg("error not sent")
	}
}

// respond sends a reply. One that does not fit into a message is there to be fetched until it was, or has had the time for that.
func respond(ctx context.Context, nc *nats.Conn, r *nats.Msg, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeoutFor(len(body)))
	defer cancel()
	msg := nats.NewMsg(r.Reply)
	offered, err := attach(nc, msg, body)
	if err != nil {
		return err
	}
	defer offered.close()
	if err := nc.PublishMsg(msg); err != nil {
		return err
	}
	return offered.wait(ctx)
}

func timeoutOf(h nats.Header) time.Duration {
	ms, err := strconv.ParseInt(h.Get(rpc.HeaderTimeoutMs), 10, 64)
	if err != nil || ms <= 0 {
		return DefaultTimeout
	}
	return time.Duration(ms) * time.Millisecond
}
