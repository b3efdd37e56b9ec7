package bus_test

import (
	"context"
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
	caller := rpc.Caller{UserID: "u", Role: rpc.RoleUser, Scopes: []string{"agents:read"}, RequestID: "r", UserAgent: "a\r\nb"}
	bus.Handle(s, echo, func(_ context.Context, who rpc.Caller, req text) (text, error) {
		if who.UserID != "u" || who.Role != rpc.RoleUser || who.RequestID != "r" || len(who.Scopes) != 1 || who.UserAgent != "a  b" {
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
	// Beyond one message's size the answer travels in parts.
	for _, want := range []string{"", "hello", strings.Repeat("x", 5<<20), strings.Repeat("<", 5<<20)} { // none of them grows
		got, err := await(t, c, caller, want)
		if err != nil || got.Text != want {
			t.Errorf("%d bytes: %v, %d bytes back", len(want), err, len(got.Text))
		}
	}
	for request, code := range map[string]errs.Code{"refuse": errs.Validation, "fail": errs.Internal, "panic": errs.Internal} {
		_, err := await(t, c, caller, request)
		var e *errs.Error
		if !errors.As(err, &e) || e.Code != code || strings.Contains(e.Error(), "secret") {
			t.Errorf("%s: %v", request, err)
		}
	}
}

// await calls until the server is there; its subscriptions take a moment.
func await(t *testing.T, c *bus.Conn, caller rpc.Caller, request string) (text, error) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := bus.Call(t.Context(), c, echo, caller, text{request})
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
