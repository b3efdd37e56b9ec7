package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type text struct {
	Text string `json:"text"`
}

var echo = rpc.Method[text, text]{Service: "test", Name: "echo", Version: 1}

func TestCall(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	s := bus.NewServer("test", zerolog.Nop())
	caller := rpc.Caller{UserID: "u", Role: rpc.RoleUser, APIKeyID: "k", Scopes: []string{"agents:read"}, RequestID: "r", UserAgent: "a\r\nb"}
	bus.Handle(s, echo, func(_ context.Context, who rpc.Caller, req text) (text, error) {
		if who.UserID != "u" || who.APIKeyID != "k" || who.Role != rpc.RoleUser || who.RequestID != "r" || len(who.Scopes) != 1 || who.UserAgent != "a  b" {
			t.Errorf("the caller is %+v", who)
		}
		switch req.Text {
		case "refuse":
			return text{}, errs.Invalid("text", []errs.Detail{{Field: "text", Message: "is refused", Code: "refused"}})
		case "fail":
			return text{}, errors.New("secret reason")
		case "panic":
			panic("secret reason")
		}
		return req, nil
	})
	bustest.Serve(t, c, s)
	const quotes = len(`{"text":""}`)
	for _, want := range []string{ // none of them grows; beyond one message's size, requests and answers are fetched in parts
		"", "hello", strings.Repeat("<", 5<<20),
		strings.Repeat("x", bus.PartSize-quotes), strings.Repeat("x", bus.PartSize-quotes+1), strings.Repeat("x", 2*bus.PartSize-quotes), strings.Repeat("x", 64<<20),
	} {
		got, err := await(t, c, caller, want)
		if err != nil || got.Text != want {
			t.Errorf("%d bytes: %v, %d bytes back", len(want), err, len(got.Text))
		}
	}
	raw := rpc.Method[json.RawMessage, json.RawMessage](echo)
	if got, err := bus.Call(t.Context(), c, raw, caller, json.RawMessage(` {"text": "as it is"} `)); err != nil || string(got) != `{"text":"as it is"}` {
		t.Errorf("raw: %s, %v", got, err)
	}
	for request, code := range map[string]errs.Code{"refuse": errs.Validation, "fail": errs.Internal, "panic": errs.Internal} {
		_, err := await(t, c, caller, request)
		var e *errs.Error
		if !errors.As(err, &e) || e.Code != code || strings.Contains(e.Error(), "secret") {
			t.Errorf("%s: %v", request, err)
		}
	}
}

// What is too large for any message is refused by who would have to send it.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	s := bus.NewServer("test", zerolog.Nop())
	bus.Handle(s, echo, func(_ context.Context, _ rpc.Caller, req text) (text, error) {
		if req.Text == "much" {
			return text{strings.Repeat("x", bus.MaxBody)}, nil
		}
		return req, nil
	})
	bustest.Serve(t, c, s)
	for _, request := range []string{"much", strings.Repeat("x", bus.MaxBody)} {
		if _, err := await(t, c, rpc.Caller{}, request); errs.CodeOf(err) != errs.PayloadTooLarge {
			t.Errorf("%d bytes: %v", len(request), err)
		}
	}
	if got, err := await(t, c, rpc.Caller{}, "small"); err != nil || got.Text != "small" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Large requests beyond what a server may hold wait until others are done with.
func TestLargeRequestsTakeTurns(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	s := bus.NewServer("test", zerolog.Nop())
	s.HoldAtMost(4 << 20)
	entered, leave := make(chan struct{}, 3), make(chan struct{})
	bus.Handle(s, echo, func(_ context.Context, _ rpc.Caller, req text) (text, error) {
		if req.Text != "small" {
			entered <- struct{}{}
			<-leave
		}
		return text{}, nil
	})
	bustest.Serve(t, c, s)
	if _, err := await(t, c, rpc.Caller{}, "small"); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 2<<20-64)
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if _, err := bus.Call(ctx, c, echo, rpc.Caller{}, text{large}); err != nil {
				t.Error(err)
			}
		})
	}
	<-entered
	<-entered
	select {
	case <-entered:
		t.Error("three requests are held at once")
	case <-time.After(300 * time.Millisecond):
	}
	close(leave)
	calls.Wait()
}

// A call with a large body has more time, and so has its server.
func TestLargeCallsHaveTheirTime(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	s := bus.NewServer("test", zerolog.Nop())
	bus.Handle(s, echo, func(ctx context.Context, _ rpc.Caller, _ text) (text, error) {
		deadline, _ := ctx.Deadline()
		return text{time.Until(deadline).String()}, nil
	})
	bustest.Serve(t, c, s)
	if _, err := await(t, c, rpc.Caller{}, "are you there?"); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]time.Duration{1: bus.DefaultTimeout, 20 << 20: bus.DefaultTimeout + 10*time.Second} {
		begin := time.Now()
		got, err := bus.Call(t.Context(), c, echo, rpc.Caller{}, text{strings.Repeat("x", size)})
		took := time.Since(begin)
		if err != nil {
			t.Fatal(err)
		}
		if left, err := time.ParseDuration(got.Text); err != nil || left > want+time.Second || left < want-took-time.Second {
			t.Errorf("%d bytes have %s after at most %s, %v", size, got.Text, took, err)
		}
	}
}

// await calls until the server is there; its subscriptions take a moment.
func await(t *testing.T, c *bus.Conn, caller rpc.Caller, request string) (text, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := bus.Call(ctx, c, echo, caller, text{request})
		if errs.CodeOf(err) != errs.DependencyUnavailable || time.Now().After(deadline) {
			return got, err
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	c := bustest.New(t)
	begin := time.Now()
	if _, err := bus.Call(t.Context(), c, echo, rpc.Caller{}, text{}); errs.CodeOf(err) != errs.DependencyUnavailable {
		t.Errorf("%v", err)
	}
	if time.Since(begin) >= bus.DefaultTimeout {
		t.Error("it waited for an answer that nobody can give")
	}
}

// A planned stop answers everything that was handed to it; what comes later meets the other
// replica, or nobody, but never silence.
func TestStopLosesNoRequest(t *testing.T) {
	t.Parallel()
	url := bustest.Server(t)
	client := bustest.Connect(t, url)
	for round := range 10 {
		server := bustest.Connect(t, url)
		ctx, stop := context.WithCancel(context.Background())
		s := bus.NewServer("test", zerolog.Nop())
		bus.Handle(s, echo, func(_ context.Context, _ rpc.Caller, req text) (text, error) { return req, nil })
		stopped := make(chan error, 1)
		go func() {
			err := s.Run(ctx, server)
			server.Close()
			stopped <- err
		}()
		if _, err := await(t, client, rpc.Caller{}, "first"); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for i := range 200 {
			calls.Go(func() {
				begin := time.Now()
				_, err := bus.Call(context.Background(), client, echo, rpc.Caller{}, text{"x"})
				if err != nil && time.Since(begin) >= bus.DefaultTimeout {
					t.Errorf("round %d: a request was met with silence: %v", round, err)
				}
			})
			if i == 100 {
				stop()
			}
		}
		calls.Wait()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}
