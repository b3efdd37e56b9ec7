package runner

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/services/runner/internal/executor"
)

const canary = "canary \"{{inputs.x}}\"/+%"

// keeper plays identity: it knows the secret KEY, and grants by their text.
type keeper struct {
	mu    sync.Mutex
	asked []string // grants
	away  bool
	value string
}

func (k *keeper) open(_ context.Context, caller rpc.Caller, req identity.OpenSecretsRequest) (resp identity.OpenSecretsResponse, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, req.Grant)
	switch {
	case k.away:
		return resp, errs.New(errs.DependencyUnavailable, "the database is away")
	case caller.UserID != "" || !caller.IsAdmin():
		return resp, errs.New(errs.Internal, "a runner asks as %+v", caller)
	case strings.HasPrefix(req.Grant, "over"):
		return resp, errs.New(errs.Forbidden, "its time is over")
	case strings.HasPrefix(req.Grant, "missing"):
		resp.Missing = []string{"OTHER", "MORE"}
	}
	public, err := ecdh.X25519().NewPublicKey(req.PublicKey)
	if err != nil {
		return resp, err
	}
	recipient, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return resp, err
	}
	text, err := json.Marshal(map[string]string{"KEY": k.value})
	if err != nil {
		return resp, err
	}
	resp.Sealed, err = hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(identity.SealInfo), text)
	return resp, err
}

func (k *keeper) set(change func(*keeper)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

func (w *world) keeper() *keeper {
	k := &keeper{value: canary}
	server := bus.NewServer(identity.Service, zerolog.Nop())
	bus.Handle(server, identity.OpenSecrets, k.open)
	bustest.Serve(w.t, w.conn, server)
	return k
}

// needing makes the message of a step whose input has a secret in two places.
func needing(token, grant string) *nats.Msg {
	return step(token, func(m *nats.Msg) {
		m.Data = []byte(`{"config":{},"input":{"a":"","b":"Bearer !","c":"{{secrets.KEY}}"},"secrets":[{"name":"KEY","at":6},{"name":"KEY","at":20}],"grant":"` + grant + `"}`)
	})
}

// logged gives all log lines so far.
func (w *world) logged() string {
	w.t.Helper()
	stream, err := w.js.Stream(w.ctx(), subject.LogsStream)
	w.must(err)
	var all strings.Builder
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(w.ctx(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		w.must(err)
		all.Write(m.Data)
	}
	return all.String()
}

func TestSecretsAreGivenAndTakenOut(t *testing.T) {
	w := newWorld(t, long)
	k := w.keeper()
	inputs := make(chan string, 8)
	quoted := strconv.Quote(canary)
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		inputs <- string(task.Input)
		task.Log("INFO", "console", "it is "+canary)
		switch task.IdempotencyKey {
		case "key-echo":
			return task.Input, nil
		case "key-typed":
			return nil, &runner.StepError{Code: runner.CodeError, Message: "no " + task.Secrets["KEY"], Stack: quoted, Type: canary}
		case "key-untyped":
			return nil, errors.New(canary)
		}
		panic(canary)
	}))
	want := `{"a":` + quoted + `,"b":"Bearer ` + quoted[1:len(quoted)-1] + `!","c":"{{secrets.KEY}}"}`
	w.send(needing("echo", "good"))
	if got := string(w.expect(runner.TypeStepCompleted, "echo").Data()); got != `{"a":"***","b":"Bearer ***!","c":"{{secrets.KEY}}"}` {
		t.Errorf("the output is %s", got)
	}
	for token, code := range map[string]string{"typed": runner.CodeError, "untyped": runner.CodeInternal, "panic": runner.CodeInternal} {
		w.send(needing(token, "good"))
		if fault := w.expectFault(token, code); strings.Contains(fault.Message+fault.Stack+fault.Type, "canary") {
			t.Errorf("%s: %+v", token, fault)
		}
	}
	for range 4 {
		if got := await(t, "an input", inputs); got != want {
			t.Errorf("the input is %s, want %s", got, want)
		}
	}
	w.awaitEmpty()
	eventually(t, "its lines are stored", func() bool { return strings.Count(w.logged(), "it is ***") == 4 })
	if lines := w.logged(); strings.Contains(lines, "canary") {
		t.Errorf("the log tells the secret: %s", lines)
	}
	if len(k.asked) != 4 {
		t.Errorf("identity was asked %d times for 4 attempts", len(k.asked))
	}
}

// A secret is what it is when the attempt begins, and one that is not there is the step's error.
func TestSecretsThatAreMissing(t *testing.T) {
	w := newWorld(t, long)
	w.keeper()
	w.start(executorFunc(func(context.Context, executor.Task) (json.RawMessage, error) {
		t.Error("it runs")
		return nil, nil
	}))
	w.send(needing("t1", "missing"))
	fault := w.expectFault("t1", runner.CodeNoSecret)
	if fault.Retryable || !strings.Contains(fault.Message, "secrets MORE, OTHER do not exist") {
		t.Errorf("%+v", fault)
	}
	m := needing("t2", "good")
	m.Data = []byte(strings.Replace(string(m.Data), `"at":20`, `"at":5`, 1))
	w.send(m)
	if fault := w.expectFault("t2", runner.CodeInternal); strings.Contains(fault.Message, "canary") {
		t.Errorf("%+v", fault)
	}
	w.awaitEmpty()
}

// While identity is away an attempt waits, within its time; a grant that is over is replaced.
func TestSecretsAreWaitedFor(t *testing.T) {
	w := newWorld(t, long)
	k := w.keeper()
	k.set(func(k *keeper) { k.away = true })
	w.start(executorFunc(func(_ context.Context, task executor.Task) (json.RawMessage, error) {
		return json.RawMessage(strconv.Itoa(len(task.Secrets["KEY"]))), nil
	}))
	late := needing("late", "good")
	late.Header.Set(runner.HeaderTimeoutMs, "300")
	w.send(late)
	w.expectFault("late", runner.CodeStepTimeout)
	w.send(needing("t1", "good"))
	w.expect(runner.TypeStepStarted, "t1")
	k.set(func(k *keeper) { k.away, k.value = false, "changed" })
	if got := string(w.expect(runner.TypeStepCompleted, "t1").Data()); got != "7" {
		t.Errorf("the secret of %s bytes is not the changed one", got)
	}
	w.bodies.Store("t2", runner.StepBody{Config: json.RawMessage(`{}`), Input: json.RawMessage(`{}`), Grant: "good"})
	w.send(needing("t2", "over"))
	w.expect(runner.TypeStepCompleted, "t2")
	w.bodies.Store("t3", runner.StepError{Code: runner.CodeForeignSecret, Message: "not yours"})
	w.send(needing("t3", "over"))
	w.expectFault("t3", runner.CodeForeignSecret)
	w.send(needing("t4", "over")) // nobody waits for it any more
	w.awaitEmpty()
	w.noMore()
}
