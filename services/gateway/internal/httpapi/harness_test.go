package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/bus/bustest"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/redistest"
	"turbocat.io/pkg/service"
	"turbocat.io/services/gateway/internal/httpapi"
	"turbocat.io/services/gateway/internal/live"
)

func TestMain(m *testing.M) {
	// fasthttp's ticker lives as long as the process, and its pool sleeps on for up to 10 s after a shutdown.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

const (
	aliceToken = "alice.access.token"
	bobToken   = "bob.access.token"
)

var (
	alice = identity.VerifyResponse{UserID: "01930000-0000-7000-8000-00000000000a", Role: rpc.RoleUser, SessionID: "01930000-0000-7000-8000-0000000000aa"}
	bob   = identity.VerifyResponse{UserID: "01930000-0000-7000-8000-00000000000b", Role: rpc.RoleUser, SessionID: "01930000-0000-7000-8000-0000000000bb"}
)

// world is a gateway on a real listener, with services behind it that the test scripts.
type world struct {
	t       *testing.T
	url     string
	bus     *bus.Conn
	api     *httpapi.API
	hub     *live.Hub
	log     *lockedBuffer
	metrics *prometheus.Registry
	stop    context.CancelFunc
	stopped chan error

	mu         sync.Mutex
	calls      map[string]int        // of a method, by service.method
	callers    map[string]rpc.Caller // of the last call
	events     []orchestrator.StoredEvent
	state      string // of the one execution
	down       map[string]bool
	figures    telemetry.MetricsRequest // the last
	hooked     orchestrator.HookRequest // the last
	receipt    orchestrator.HookReceipt // of the next requests to triggers
	ingested   []json.RawMessage
	refuses    error        // what is answered to an execute; nil for an execution
	denied     audit.Denial // the last that the audit trail was told of
	unrecorded error        // why it can not be told; nil when it can
}

func (w *world) refusal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refuses
}

type setup struct {
	authPerMinute, userPerSecond int
	ping, drain                  time.Duration
	redis                        *redis.Client
	origin                       string
	proxies                      httpapi.Proxies
	production                   bool
	tracing                      *observe.Tracing
	conn                         *bus.Conn
	prepare                      func(*httpapi.API) // before it serves
}

func start(t *testing.T, s setup) *world {
	t.Helper()
	if s.conn == nil {
		s.conn = bustest.New(t)
	}
	conn := s.conn
	w := &world{t: t, bus: conn, log: &lockedBuffer{}, calls: map[string]int{}, callers: map[string]rpc.Caller{}, state: orchestrator.ExecutionRunning, down: map[string]bool{}}
	w.serve()
	if s.authPerMinute == 0 {
		s.authPerMinute = 100_000
	}
	if s.userPerSecond == 0 {
		s.userPerSecond = 100_000
	}
	if s.ping == 0 {
		s.ping = time.Minute
	}
	if s.drain == 0 {
		s.drain = 10 * time.Second
	}
	if s.redis == nil {
		s.redis = redistest.New(t)
	}
	log := zerolog.New(w.log)
	w.metrics = prometheus.NewRegistry()
	health := service.NewHealth("gateway")
	health.Add("nats", conn.Check)
	hub := live.NewHub(conn, log)
	var origins []string
	if s.origin != "" {
		origins = strings.Split(s.origin, ",")
	}
	api := httpapi.New(httpapi.Options{
		Bus: conn, Redis: s.redis, Health: health, Hub: hub, Log: log, Origins: origins, Proxies: s.proxies, Production: s.production, RedisPrefix: uuid.NewString(),
		AuthPerMinute: s.authPerMinute, UserPerSecond: s.userPerSecond, PingInterval: s.ping, DrainTimeout: s.drain,
		Metrics: observe.Of(w.metrics, "gateway"), Gatherer: w.metrics, Tracing: s.tracing,
	})
	w.api, w.hub = api, hub
	if s.prepare != nil {
		s.prepare(api)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.stopped = cancel, make(chan error, 1)
	hubDone := make(chan struct{})
	go func() {
		defer close(hubDone)
		hub.Run(ctx)
	}()
	go func() { w.stopped <- api.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-w.stopped; err != nil {
			t.Errorf("Serve: %v", err)
		}
		w.stopped <- nil
		<-hubDone
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

// serve plays the services behind the gateway.
func (w *world) serve() {
	id := bus.NewServer(identity.Service, zerolog.Nop())
	answer(w, id, identity.Verify, func(_ rpc.Caller, r identity.VerifyRequest) (identity.VerifyResponse, error) {
		switch r.AccessToken {
		case aliceToken:
			return expiring(alice), nil
		case bobToken:
			return expiring(bob), nil
		case "expired.access.token":
			return identity.VerifyResponse{}, errs.New(errs.TokenExpired, "the access token expired; refresh it")
		}
		return identity.VerifyResponse{}, errs.New(errs.Unauthorized, "the access token is not valid; log in again")
	})
	serveKeys(w, id)
	serveUsers(w, id)
	session := func(email string) (identity.Session, error) {
		if email == "taken@x.io" {
			return identity.Session{}, errs.New(errs.Conflict, "the address is taken; log in or use another")
		}
		return identity.Session{User: identity.User{ID: alice.UserID, Email: email, Role: rpc.RoleUser, Preferences: json.RawMessage("{}")}, AccessToken: aliceToken, TokenType: "Bearer"}, nil
	}
	answer(w, id, identity.Register, func(_ rpc.Caller, r identity.RegisterRequest) (identity.Session, error) { return session(r.Email) })
	answer(w, id, identity.Login, func(_ rpc.Caller, r identity.LoginRequest) (identity.Session, error) { return session(r.Email) })
	answer(w, id, identity.Refresh, func(rpc.Caller, identity.RefreshRequest) (identity.Session, error) { return session("a@x.io") })
	answer(w, id, identity.Logout, func(rpc.Caller, identity.RefreshRequest) (rpc.Empty, error) { return rpc.Empty{}, nil })
	answer(w, id, identity.GetMe, func(c rpc.Caller, _ rpc.Empty) (identity.User, error) {
		return identity.User{ID: c.UserID, Role: c.Role, Preferences: json.RawMessage("{}")}, nil
	})
	answer(w, id, identity.UpdateMe, func(c rpc.Caller, r identity.UpdateUserRequest) (identity.User, error) {
		return identity.User{ID: c.UserID, Preferences: r.Patch}, nil
	})

	kept := identity.Secret{Name: "KEY", CreatedAt: time.Unix(1, 0).UTC(), UpdatedAt: time.Unix(2, 0).UTC()}
	answer(w, id, identity.ListSecrets, func(_ rpc.Caller, r identity.ListSecretsRequest) (rpc.List[identity.Secret], error) {
		return rpc.List[identity.Secret]{Items: []identity.Secret{kept}, Pagination: rpc.Pagination{Page: 1, PageSize: r.PageSize, Total: 1, TotalPages: 1}}, nil
	})
	answer(w, id, identity.PutSecret, func(_ rpc.Caller, r identity.PutSecretRequest) (identity.PutSecretResponse, error) {
		if r.Name == "1" {
			return identity.PutSecretResponse{}, errs.Invalid("secret", []errs.Detail{{Field: "name", Message: "is no name of a secret; use letters", Code: errs.BadValue}})
		}
		return identity.PutSecretResponse{Secret: kept, Created: r.Name == "NEW"}, nil
	})
	answer(w, id, identity.DeleteSecret, func(_ rpc.Caller, r identity.SecretRequest) (rpc.Empty, error) {
		if r.Name != "KEY" {
			return rpc.Empty{}, errs.New(errs.NotFound, "you have no secret of this name; check it")
		}
		return rpc.Empty{}, nil
	})

	answer(w, id, audit.Denied, w.deny)
	answer(w, id, audit.List, func(caller rpc.Caller, r audit.ListRequest) (rpc.List[audit.TrailEntry], error) {
		asked, err := json.Marshal(r)
		return rpc.List[audit.TrailEntry]{Items: []audit.TrailEntry{{
			ID: thingID, Seq: 7, Action: audit.AgentUpdated, Outcome: audit.Success, ResourceType: "agent", ResourceID: thingID, OwnerID: caller.UserID, Hash: "ab",
			Actor:   audit.TrailActor{UserID: caller.UserID, Role: caller.Role, Via: audit.ViaSession, SessionID: caller.SessionID},
			Changes: []audit.TrailChange{{Path: "name", Before: json.RawMessage(`"n"`), After: asked}},
		}}}, err
	})
	cat := bus.NewServer(catalog.Service, zerolog.Nop())
	answer(w, cat, catalog.CreateAgent, func(c rpc.Caller, r catalog.CreateRequest) (catalog.Agent, error) {
		return agentFor(c.UserID, r.Body)
	})
	answer(w, cat, catalog.GetAgent, func(c rpc.Caller, r catalog.IDRequest) (catalog.Agent, error) {
		if r.ID != thingID {
			return catalog.Agent{}, errs.New(errs.NotFound, "no agent has this id; check it")
		}
		return agent(c.UserID, 3), nil
	})
	answer(w, cat, catalog.PatchAgent, func(c rpc.Caller, r catalog.PatchRequest) (catalog.Agent, error) {
		if r.IfMatch != 0 && r.IfMatch != 3 {
			return catalog.Agent{}, errs.New(errs.PreconditionFailed, "the agent is at version 3; read it again")
		}
		return agent(c.UserID, 4), nil
	})
	answer(w, cat, catalog.DeleteAgent, func(rpc.Caller, catalog.IDRequest) (rpc.Empty, error) { return rpc.Empty{}, nil })
	answer(w, cat, catalog.ListAgents, func(c rpc.Caller, r catalog.ListRequest) (rpc.List[catalog.Agent], error) {
		a := agent(c.UserID, 1)
		a.Name, _ = asked(r)
		return rpc.List[catalog.Agent]{Items: []catalog.Agent{a}, Pagination: rpc.Pagination{Page: 1, PageSize: r.PageSize, Total: 1, TotalPages: 1}}, nil
	})
	answer(w, cat, catalog.GetWorkflow, func(c rpc.Caller, r catalog.IDRequest) (catalog.Workflow, error) {
		if r.ID != thingID {
			return catalog.Workflow{}, errs.New(errs.NotFound, "no workflow has this id; check it")
		}
		return catalog.Workflow{ID: thingID, UserID: c.UserID, Version: 7}, nil
	})
	answer(w, cat, catalog.CreateWorkflow, func(rpc.Caller, catalog.CreateRequest) (catalog.Workflow, error) {
		return catalog.Workflow{}, errs.Invalid("workflow", []errs.Detail{{Field: "steps[1].dependsOn[0]", Message: "unknown step \"q\"; add it or remove it", Code: "unknown_step"}})
	})
	answer(w, cat, catalog.ListWorkflows, func(rpc.Caller, catalog.ListRequest) (rpc.List[catalog.Workflow], error) {
		return rpc.List[catalog.Workflow]{}, nil
	})
	answer(w, cat, catalog.PatchWorkflow, func(rpc.Caller, catalog.PatchRequest) (catalog.Workflow, error) {
		return catalog.Workflow{}, errs.New(errs.Internal, "pq: password of user turbocat is hunter2")
	})
	answer(w, cat, catalog.DeleteWorkflow, func(rpc.Caller, catalog.IDRequest) (rpc.Empty, error) {
		return rpc.Empty{}, errs.New(errs.Forbidden, "only the owner may delete the workflow")
	})

	w.serveDefinitions(cat)

	orch := bus.NewServer(orchestrator.Service, zerolog.Nop())
	answer(w, orch, orchestrator.Submit, func(c rpc.Caller, r orchestrator.SubmitRequest) (orchestrator.SubmitResponse, error) {
		if err := w.refusal(); err != nil {
			return orchestrator.SubmitResponse{}, err
		}
		e := w.execution(c.UserID)
		e.Inputs = r.Inputs
		if r.Priority != nil {
			e.Priority = *r.Priority
		}
		return orchestrator.SubmitResponse{Execution: e}, nil
	})
	answer(w, orch, orchestrator.GetExecution, func(c rpc.Caller, r orchestrator.IDRequest) (orchestrator.Execution, error) {
		if c.UserID != alice.UserID || r.ID != thingID {
			return orchestrator.Execution{}, errs.New(errs.NotFound, "no execution has this id; check it")
		}
		return w.execution(c.UserID), nil
	})
	answer(w, orch, orchestrator.ListExecution, func(c rpc.Caller, r orchestrator.ListRequest) (rpc.List[orchestrator.Execution], error) {
		e := w.execution(c.UserID)
		e.WorkflowID = r.WorkflowID
		return rpc.List[orchestrator.Execution]{Items: []orchestrator.Execution{e}}, nil
	})
	answer(w, orch, orchestrator.Cancel, func(rpc.Caller, orchestrator.IDRequest) (orchestrator.CommandResponse, error) {
		return orchestrator.CommandResponse{CommandID: "c1"}, nil
	})
	for _, m := range []rpc.Method[orchestrator.IDRequest, orchestrator.CommandResponse]{orchestrator.Pause, orchestrator.Resume} {
		answer(w, orch, m, func(rpc.Caller, orchestrator.IDRequest) (orchestrator.CommandResponse, error) {
			return orchestrator.CommandResponse{CommandID: m.Name}, nil
		})
	}
	answer(w, orch, orchestrator.SendSignal, func(_ rpc.Caller, r orchestrator.SignalRequest) (orchestrator.CommandResponse, error) {
		id, err := asked(r)
		return orchestrator.CommandResponse{CommandID: id}, err
	})
	answer(w, orch, orchestrator.Retry, func(c rpc.Caller, r orchestrator.RetryRequest) (orchestrator.SubmitResponse, error) {
		e := w.execution(c.UserID)
		e.RetryOf, e.ParentExecutionID = &r.ID, &r.IdempotencyKey
		return orchestrator.SubmitResponse{Execution: e}, nil
	})
	answer(w, orch, orchestrator.Replay, func(c rpc.Caller, r orchestrator.ReplayRequest) (orchestrator.SubmitResponse, error) {
		e := w.execution(c.UserID)
		e.ReplayOf, e.ParentExecutionID = &r.ID, &r.IdempotencyKey
		return orchestrator.SubmitResponse{Execution: e}, nil
	})
	answer(w, orch, orchestrator.Rerun, func(c rpc.Caller, r orchestrator.RerunRequest) (orchestrator.SubmitResponse, error) {
		e := w.execution(c.UserID)
		raw, err := json.Marshal(r)
		e.RetryOf, e.Inputs = &r.ID, raw
		return orchestrator.SubmitResponse{Execution: e}, err
	})
	dead := func(r any, replays int) (orchestrator.DeadLetter, error) {
		said, err := asked(r)
		return orchestrator.DeadLetter{ID: thingID, Reason: orchestrator.DeadNoInput, Message: said, Headers: map[string][]string{"h": {"v"}}, Replays: replays}, err
	}
	answer(w, orch, orchestrator.ListDeadLetters, func(_ rpc.Caller, r orchestrator.DeadLettersRequest) (rpc.List[orchestrator.DeadLetter], error) {
		d, err := dead(r, 0)
		return rpc.List[orchestrator.DeadLetter]{Items: []orchestrator.DeadLetter{d}, Pagination: rpc.Pagination{PageSize: 20}}, err
	})
	answer(w, orch, orchestrator.CountDeadLetters, func(rpc.Caller, rpc.Empty) (orchestrator.DeadLetterCounts, error) {
		return orchestrator.DeadLetterCounts{Counts: []orchestrator.DeadLetterCount{{Reason: orchestrator.DeadNoExecution, Count: 3}}}, nil
	})
	answer(w, orch, orchestrator.GetDeadLetter, func(_ rpc.Caller, r orchestrator.IDRequest) (orchestrator.DeadLetter, error) { return dead(r, 0) })
	answer(w, orch, orchestrator.ReplayDeadLetter, func(_ rpc.Caller, r orchestrator.IDRequest) (orchestrator.DeadLetter, error) { return dead(r, 1) })
	answer(w, orch, orchestrator.ListCalls, func(_ rpc.Caller, r orchestrator.ListCallsRequest) (rpc.List[orchestrator.Call], error) {
		id, err := asked(r)
		return rpc.List[orchestrator.Call]{Items: []orchestrator.Call{{
			ID: thingID, Attempt: 1, N: 1, Kind: orchestrator.CallOfModel, Name: id, Status: orchestrator.CallRunning, Input: json.RawMessage(`{}`), Output: json.RawMessage(`null`), ReservedTokens: 7,
		}}, Pagination: rpc.Pagination{Page: 1, PageSize: 20, Total: 1, TotalPages: 1}}, err
	})
	answer(w, orch, orchestrator.DecideBudget, func(_ rpc.Caller, r orchestrator.DecideBudgetRequest) (orchestrator.DecideBudgetResponse, error) {
		if !*r.Approved || r.StepKey != "think" || r.ID != thingID || r.MaxTokens != nil || r.MaxCostUSD == nil || *r.MaxCostUSD != 2.5 || r.Comment != "so" {
			return orchestrator.DecideBudgetResponse{}, errs.New(errs.Conflict, "%+v", r)
		}
		return orchestrator.DecideBudgetResponse{Decided: 3}, nil
	})
	answer(w, orch, orchestrator.Explain, func(_ rpc.Caller, r orchestrator.IDRequest) (orchestrator.Explanation, error) {
		return orchestrator.Explanation{ExecutionID: r.ID, Status: "RUNNING", Summary: "It is running.", Steps: []orchestrator.StepExplanation{{StepKey: "a", Reason: "TIMER"}}}, nil
	})
	answer(w, orch, orchestrator.Bulk, func(_ rpc.Caller, r orchestrator.BulkRequest) (orchestrator.BulkResponse, error) {
		id, err := asked(r)
		return orchestrator.BulkResponse{Matched: 2, Done: 1, Failed: []orchestrator.BulkFailure{{ID: thingID, Code: "CONFLICT", Message: id}}}, err
	})
	answer(w, orch, orchestrator.ListEvents, func(c rpc.Caller, r orchestrator.EventsRequest) (orchestrator.EventsResponse, error) {
		if c.UserID != alice.UserID || r.ID != thingID {
			return orchestrator.EventsResponse{}, errs.New(errs.NotFound, "no execution has this id; check it")
		}
		return w.history(r), nil
	})
	trigger := func(c rpc.Caller, workflow, id, name string) orchestrator.Trigger {
		return orchestrator.Trigger{ID: id, WorkflowID: workflow, UserID: c.UserID, Type: "SCHEDULE", Name: name, Inputs: json.RawMessage("{}"), Overlap: "SKIP", NextFireTimes: []time.Time{}}
	}
	answer(w, orch, orchestrator.CreateTrigger, func(c rpc.Caller, r orchestrator.NewTriggerRequest) (orchestrator.IssuedTrigger, error) {
		return orchestrator.IssuedTrigger{Trigger: trigger(c, r.WorkflowID, thingID, string(r.Body))}, nil
	})
	answer(w, orch, orchestrator.ListLeases, func(rpc.Caller, rpc.Empty) (orchestrator.LeaseTable, error) {
		return orchestrator.LeaseTable{Leases: []orchestrator.Lease{{Partition: 3, Owner: thingID, LeaseUntil: time.Unix(0, 0).UTC(), Held: true}}}, nil
	})
	answer(w, orch, orchestrator.RotateTrigger, func(c rpc.Caller, r orchestrator.RotateTriggerRequest) (orchestrator.IssuedTrigger, error) {
		t := trigger(c, r.WorkflowID, r.ID, strconv.FormatInt(r.OverlapMs, 10))
		t.Type, t.Overlap, t.NextFireTimes = "WEBHOOK", "", nil
		return orchestrator.IssuedTrigger{Trigger: t, Secret: r.Secret + "!"}, nil
	})
	answer(w, orch, orchestrator.ListTriggerDeliveries, func(_ rpc.Caller, r orchestrator.ListTriggerDeliveriesRequest) (rpc.List[orchestrator.TriggerDelivery], error) {
		reason, err := asked(r)
		return rpc.List[orchestrator.TriggerDelivery]{Items: []orchestrator.TriggerDelivery{{ID: thingID, DeliveryID: "d", Status: "REFUSED", Reason: reason}}}, err
	})
	answer(w, orch, orchestrator.ReceiveHook, w.receiveHook)
	answer(w, orch, orchestrator.GetTrigger, func(c rpc.Caller, r orchestrator.TriggerRequest) (orchestrator.Trigger, error) {
		if r.ID != thingID {
			return orchestrator.Trigger{}, errs.New(errs.NotFound, "trigger not found")
		}
		return trigger(c, r.WorkflowID, r.ID, ""), nil
	})
	answer(w, orch, orchestrator.PatchTrigger, func(c rpc.Caller, r orchestrator.PatchTriggerRequest) (orchestrator.Trigger, error) {
		return trigger(c, r.WorkflowID, r.ID, string(r.Body)), nil
	})
	answer(w, orch, orchestrator.DeleteTrigger, func(rpc.Caller, orchestrator.TriggerRequest) (rpc.Empty, error) { return rpc.Empty{}, nil })
	answer(w, orch, orchestrator.PreviewSchedule, func(rpc.Caller, orchestrator.NewTriggerRequest) (orchestrator.SchedulePreview, error) {
		return orchestrator.SchedulePreview{NextFireTimes: []time.Time{time.Unix(0, 0).UTC()}}, nil
	})
	answer(w, orch, orchestrator.ListTriggers, func(c rpc.Caller, r orchestrator.ListTriggersRequest) (rpc.List[orchestrator.Trigger], error) {
		name, err := asked(r)
		return rpc.List[orchestrator.Trigger]{Items: []orchestrator.Trigger{trigger(c, r.WorkflowID, thingID, name)}}, err
	})
	answer(w, orch, orchestrator.ListSkips, func(_ rpc.Caller, r orchestrator.ListSkipsRequest) (rpc.List[orchestrator.Skip], error) {
		message, err := asked(r)
		return rpc.List[orchestrator.Skip]{Items: []orchestrator.Skip{{Reason: "OVERLAP", Message: message}}}, err
	})

	tel := bus.NewServer(telemetry.Service, zerolog.Nop())
	answer(w, tel, telemetry.ListLogs, func(_ rpc.Caller, r telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error) {
		return rpc.List[telemetry.LogLine]{Items: []telemetry.LogLine{{ID: thingID, ExecutionID: r.ExecutionID, Level: r.Level, Source: "console", Message: "hello", Fields: json.RawMessage("{}")}}}, nil
	})
	answer(w, tel, telemetry.ReadFeed, w.readFeed)
	answer(w, tel, telemetry.IngestEvents, func(_ rpc.Caller, r telemetry.IngestRequest) (telemetry.Ingested, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ingested = append(w.ingested, r.Events...)
		return telemetry.Ingested{Accepted: len(r.Events)}, nil
	})
	answer(w, tel, telemetry.ReadMetrics, func(_ rpc.Caller, r telemetry.MetricsRequest) (telemetry.Metrics, error) {
		w.mu.Lock()
		w.figures = r
		w.mu.Unlock()
		return telemetry.Metrics{Interval: "day", Series: []telemetry.Bucket{}}, nil
	})
	answer(w, tel, telemetry.CreateWebhook, func(rpc.Caller, telemetry.WebhookBodyRequest) (telemetry.IssuedWebhook, error) {
		return telemetry.IssuedWebhook{Webhook: telemetry.Webhook{ID: thingID}, Secret: "whsec_"}, nil
	})
	answer(w, tel, telemetry.RotateWebhook, func(rpc.Caller, telemetry.RotateWebhookRequest) (telemetry.IssuedWebhook, error) {
		return telemetry.IssuedWebhook{Webhook: telemetry.Webhook{ID: thingID}, Secret: "whsec_"}, nil
	})
	run := bus.NewServer(runner.Service, zerolog.Nop())
	for _, server := range []struct {
		name string
		*bus.Server
	}{{identity.Service, id}, {catalog.Service, cat}, {orchestrator.Service, orch}, {telemetry.Service, tel}, {runner.Service, run}} {
		answer(w, server.Server, rpc.HealthOf(server.name), func(rpc.Caller, rpc.Empty) (rpc.Health, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			h := rpc.Health{Service: server.name, Ready: !w.down[server.name], Dependencies: []rpc.Dependency{{Name: "postgres", Status: rpc.Healthy}}}
			if w.down[server.name] {
				h.Dependencies[0] = rpc.Dependency{Name: "postgres", Status: rpc.Unhealthy, Message: "dial tcp 10.0.0.3:5432: refused"}
			}
			return h, nil
		})
		bustest.Serve(w.t, w.bus, server.Server)
	}
	for _, name := range []string{identity.Service, catalog.Service, orchestrator.Service, telemetry.Service, runner.Service} {
		w.await(func() bool {
			_, err := bus.Call(context.Background(), w.bus, rpc.HealthOf(name), rpc.Caller{}, rpc.Empty{})
			return err == nil
		})
	}
}

func answer[Req, Resp any](w *world, s *bus.Server, m rpc.Method[Req, Resp], fn func(rpc.Caller, Req) (Resp, error)) {
	bus.Handle(s, m, func(_ context.Context, c rpc.Caller, req Req) (Resp, error) {
		w.mu.Lock()
		w.calls[m.Service+"."+m.Name]++
		w.callers[m.Service+"."+m.Name] = c
		w.mu.Unlock()
		return fn(c, req)
	})
}

func (w *world) called(method string) (int, rpc.Caller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[method], w.callers[method]
}

const thingID = "01930000-0000-7000-8000-000000000001"

func expiring(v identity.VerifyResponse) identity.VerifyResponse {
	v.ExpiresAt = time.Now().Add(time.Minute)
	return v
}

func agent(owner string, version int) catalog.Agent {
	return catalog.Agent{ID: thingID, UserID: owner, Type: "CODE", Status: "DRAFT", Version: version, Config: json.RawMessage("{}"), Tags: []string{}}
}

func agentFor(owner string, body json.RawMessage) (catalog.Agent, error) {
	a := agent(owner, 1)
	a.Config = body
	return a, nil
}

// asked shows a request as text, to be found in an answer.
func asked(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func (w *world) execution(owner string) orchestrator.Execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	return orchestrator.Execution{ID: thingID, WorkflowID: thingID, UserID: owner, Status: w.state, TriggerType: "API", Inputs: json.RawMessage("{}")}
}

func (w *world) history(r orchestrator.EventsRequest) orchestrator.EventsResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	var resp orchestrator.EventsResponse
	for _, e := range w.events {
		if e.Seq > r.After && len(resp.Events) < r.Limit {
			resp.Events = append(resp.Events, e)
		}
	}
	if n := len(w.events); n > 0 && (live.Event{Type: w.events[n-1].Type}).Terminal() && len(resp.Events) < r.Limit {
		resp.Terminal = true
	}
	return resp
}

// request is one call of a scenario.
type request struct {
	method, path, token, body string
	header                    map[string]string
}

type response struct {
	status int
	header http.Header
	text   string
	body   struct {
		Success   bool            `json:"success"`
		Data      json.RawMessage `json:"data"`
		RequestID string          `json:"requestId"`
		Meta      struct {
			Pagination *rpc.Pagination `json:"pagination"`
		} `json:"meta"`
		Error struct {
			Code    errs.Code     `json:"code"`
			Message string        `json:"message"`
			Details []errs.Detail `json:"details"`
		} `json:"error"`
	}
}

func (w *world) do(r request) response {
	w.t.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequest(r.method, w.url+r.path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.body != "" && r.header["Content-Type"] == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
		if v == "none" {
			req.Header.Del(k)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: read: %v", r.method, r.path, err)
	}
	got := response{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &got.body); err != nil {
			w.t.Fatalf("%s %s: %v in %s", r.method, r.path, err, text)
		}
	}
	return got
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
