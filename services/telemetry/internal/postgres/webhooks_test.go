package postgres_test

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/selection"
	"turbocat.io/services/telemetry/internal/feed"
	"turbocat.io/services/telemetry/internal/postgres"
	"turbocat.io/services/telemetry/internal/webhook"
)

// happened makes n events of a user, of some executions by turns, behind as many before them, and puts them into the feed.
func happened(t testing.TB, db *sqlx.DB, user string, executions []string, before, n int) {
	t.Helper()
	feeds := postgres.NewFeed(db)
	owner := uuid.NewString()
	numbers, held, err := feeds.Hold(t.Context(), owner)
	if err != nil || !held {
		t.Fatal(held, err)
	}
	events := make([]feed.Event, n)
	for i := range events {
		e := feed.Event{N: numbers[0] + uint64(i) + 1, ID: uuid.Must(uuid.NewV7()).String(), Fact: feed.Fact{UserID: user}}
		x := executions[(before+i)%len(executions)]
		if e.Body, err = orchestrator.EventStepStarted.Encode(event.Meta{ID: e.ID, Source: "orchestrator", Subject: x, Time: time.Now(), Number: e.N},
			orchestrator.ExecutionEvent{ExecutionID: x, UserID: user, Seq: uint64((before+i)/len(executions)) + 1}); err != nil {
			t.Fatal(err)
		}
		events[i] = e
	}
	if _, err := feeds.Append(t.Context(), owner, numbers, events); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE feed_lease SET until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
}

func added(t testing.TB, hooks *postgres.Webhooks, user string) webhook.Webhook {
	t.Helper()
	w := webhook.Webhook{
		ID: uuid.Must(uuid.NewV7()).String(), UserID: user, URL: "https://example.com", Events: selection.Events{EventTypes: []string{}}, Format: "structured", Enabled: true,
		Rotating: seal.Rotating{SecretVersion: 1, Secret: seal.Sealed{KeyID: "k", Bytes: []byte("s")}}, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	}
	if err := hooks.Insert(rpc.WithCaller(t.Context(), rpc.Caller{UserID: user, Role: rpc.RoleUser}), w, telemetry.MaxWebhooks); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestTheQueueKeepsItsOrder has many processes claim and finish deliveries at random: some fail, some die, some are late and find that another has
// theirs. Each event is delivered in the order of its execution, no two of an execution are under way at once, and nothing stays.
func TestTheQueueKeepsItsOrder(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	hooks := postgres.NewWebhooks(db, postgres.NewFeed(db))
	user := uuid.NewString()
	w := added(t, hooks, user)
	executions := []string{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()}
	const events, together = 60, 10
	happened(t, db, user, executions, 0, together)

	var mu sync.Mutex
	delivered := map[string][]uint64{}
	under := map[string]int64{} // by execution: the claim that is the newest
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := hooks.Expand(ctx, w.ID); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				jobs, _, err := hooks.Claim(ctx, 3, time.Second)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				for _, j := range jobs {
					var e struct {
						Subject string                      `json:"subject"`
						Data    orchestrator.ExecutionEvent `json:"data"`
					}
					if err := json.Unmarshal(j.Event, &e); err != nil {
						t.Error(err)
					}
					dies, fails := rand.IntN(20) == 0, rand.IntN(4) == 0
					mu.Lock()
					if n := under[e.Subject]; n > j.N {
						t.Errorf("%d of %s is under way after %d", j.N, e.Subject, n)
					}
					under[e.Subject] = j.N
					mu.Unlock()
					if dies { // its lease is over at once, and it tells nothing, or too late
						if _, err := db.Exec(`UPDATE webhook_queue SET due_at = now() WHERE n = $1 AND attempts = $2`, j.N, j.Attempt); err != nil {
							t.Error(err)
						}
						if _, err := db.Exec(`UPDATE webhooks SET look_at = now()`); err != nil {
							t.Error(err)
						}
						if rand.IntN(2) == 0 {
							continue
						}
						j.Attempt-- // as if it had been claimed by another since
					}
					attempt := telemetry.DeliveryAttempt{}
					if fails {
						attempt.Error = "no"
					}
					judged := false
					_, err := hooks.Finish(ctx, w.ID, []webhook.Result{{Job: j, Made: attempt, Judge: func(s webhook.Standing, now time.Time) webhook.Verdict {
						judged = true
						if fails {
							return webhook.Verdict{Standing: webhook.Standing{Streak: -1, FailingSince: now}, Next: now}
						}
						mu.Lock()
						defer mu.Unlock()
						delivered[e.Subject] = append(delivered[e.Subject], e.Data.Seq)
						return webhook.Verdict{Standing: webhook.Standing{Streak: s.Streak + 1}, Done: true}
					}}}, 0)
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					if judged == dies {
						t.Errorf("an attempt of which another has the lease %t is judged %t", dies, judged)
					}
				}
				mu.Lock()
				total := 0
				for _, seqs := range delivered {
					total += len(seqs)
				}
				mu.Unlock()
				if total == events {
					return
				}
			}
		})
	}
	for before := together; before < events; before += together { // while those before are delivered
		happened(t, db, user, executions, before, together)
	}
	group.Wait()
	for _, x := range slices.Sorted(maps.Keys(delivered)) {
		for i, seq := range delivered[x] {
			if seq != uint64(i+1) {
				t.Fatalf("%s was delivered %v", x, delivered[x])
			}
		}
	}
	var left struct {
		Queue, Pending int
		Open           int
	}
	if err := db.Get(&left, `SELECT (SELECT count(*) FROM webhook_queue) AS queue, (SELECT pending FROM webhooks) AS pending, (SELECT count(*) FROM webhook_deliveries WHERE status <> 'DELIVERED') AS open`); err != nil ||
		left.Queue != 0 || left.Pending != 0 || left.Open != 0 {
		t.Errorf("%+v are left, %v", left, err)
	}
}

// TestTooManyDeliveriesWaitInTheFeed holds the bound, at its edge, and that all comes once there is room.
func TestTooManyDeliveriesWaitInTheFeed(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	hooks := postgres.NewWebhooks(db, postgres.NewFeed(db))
	user := uuid.NewString()
	w := added(t, hooks, user)
	happened(t, db, user, []string{uuid.NewString()}, 0, webhook.MaxPending+7)
	expand := func() (made int) {
		for {
			n, more, err := hooks.Expand(t.Context(), w.ID)
			if err != nil {
				t.Fatal(err)
			}
			if made += n; !more {
				return made
			}
		}
	}
	if made := expand(); made != webhook.MaxPending {
		t.Fatalf("%d deliveries wait", made)
	}
	if behind, err := hooks.Behind(t.Context(), nil); err != nil || len(behind) != 0 {
		t.Errorf("%v, %v is behind though there is no room", behind, err)
	}
	for range 5 {
		jobs, _, err := hooks.Claim(t.Context(), 10, time.Second)
		if err != nil || len(jobs) != 1 {
			t.Fatalf("%d jobs, %v", len(jobs), err)
		}
		if _, err := hooks.Finish(t.Context(), w.ID, []webhook.Result{{Job: jobs[0], Judge: func(webhook.Standing, time.Time) webhook.Verdict { return webhook.Verdict{Done: true} }}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if behind, err := hooks.Behind(t.Context(), []string{user}); err != nil || len(behind) != 1 {
		t.Errorf("%v, %v is behind", behind, err)
	}
	if made := expand(); made != 5 {
		t.Errorf("there is room for 5, and %d are made", made)
	}
}

// TestAReplayTakesWhatThereIsRoomFor has two places for five events: it tells where to go on.
func TestAReplayTakesWhatThereIsRoomFor(t *testing.T) {
	db := pgtest.New(t, telemetry.Service, migrations.Of(telemetry.Service))
	hooks := postgres.NewWebhooks(db, postgres.NewFeed(db))
	user := uuid.NewString()
	w := added(t, hooks, user)
	happened(t, db, user, []string{uuid.NewString()}, 0, 5)
	if made, _, err := hooks.Expand(t.Context(), w.ID); made != 5 || err != nil {
		t.Fatal(made, err)
	}
	after := uint64(0)
	replay := func(pending int) telemetry.ReplayedEvents {
		t.Helper()
		if _, err := db.Exec(`UPDATE webhooks SET pending = $1`, pending); err != nil {
			t.Fatal(err)
		}
		w, err := hooks.Webhook(t.Context(), w.ID)
		if err != nil {
			t.Fatal(err)
		}
		done, err := hooks.Replay(rpc.WithCaller(t.Context(), rpc.Caller{UserID: user, Role: rpc.RoleUser}), w, telemetry.ReplayWebhookRequest{ID: w.ID, After: &after})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	for _, c := range []struct {
		pending int
		want    telemetry.ReplayedEvents
	}{
		{webhook.MaxPending - 2, telemetry.ReplayedEvents{Deliveries: 2, Cursor: 2, More: true}},
		{webhook.MaxPending - 3, telemetry.ReplayedEvents{Deliveries: 3, Cursor: 5}},
	} {
		if got := replay(c.pending); got != c.want {
			t.Errorf("with %d that wait behind %d: %+v, want %+v", c.pending, after, got, c.want)
		}
		after = c.want.Cursor
	}
	if got := replay(webhook.MaxPending); got.Deliveries != 0 {
		t.Errorf("without room: %+v", got)
	}
}

// BenchmarkWebhooks makes 2,000 deliveries of 200 executions: expanded, claimed, and finished at once, by one process. It tells those of a second.
func BenchmarkWebhooks(b *testing.B) {
	db := pgtest.New(b, telemetry.Service, migrations.Of(telemetry.Service))
	hooks := postgres.NewWebhooks(db, postgres.NewFeed(db))
	const events = 2000
	for range b.N {
		b.StopTimer()
		user := uuid.NewString()
		w := added(b, hooks, user)
		executions := make([]string, 200)
		for i := range executions {
			executions[i] = uuid.NewString()
		}
		happened(b, db, user, executions, 0, events)
		b.StartTimer()
		for more := true; more; {
			var err error
			if _, more, err = hooks.Expand(b.Context(), w.ID); err != nil {
				b.Fatal(err)
			}
		}
		jobs, _, err := hooks.Claim(b.Context(), 8, time.Second)
		for done := 0; done < events && err == nil; {
			results := make([]webhook.Result, len(jobs))
			for i, j := range jobs {
				results[i] = webhook.Result{Job: j, Judge: func(s webhook.Standing, _ time.Time) webhook.Verdict {
					return webhook.Verdict{Standing: webhook.Standing{Streak: s.Streak + 1}, Done: true}
				}}
			}
			done += len(jobs)
			jobs, err = hooks.Finish(b.Context(), w.ID, results, 8)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
