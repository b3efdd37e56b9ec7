package ratelimit

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/pkg/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func limiters(t *testing.T) map[string]*Limiter {
	t.Helper()
	dead := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", DialTimeout: 100 * time.Millisecond, MaxRetries: -1})
	t.Cleanup(func() { _ = dead.Close() })
	return map[string]*Limiter{
		"redis":      New(redistest.New(t), uuid.NewString()+":", zerolog.Nop()),
		"redis away": New(dead, "x:", zerolog.Nop()),
	}
}

func TestTakeAndForget(t *testing.T) {
	limit := Limit{Rate: 3, Burst: 3, Period: time.Hour}
	for name, l := range limiters(t) {
		t.Run(name, func(t *testing.T) {
			for round := range 2 {
				for left := 2; left >= 0; left-- {
					if got := l.Take(t.Context(), "a", limit); !got.Allowed || got.Remaining != left || got.RetryAfter > 0 {
						t.Fatalf("round %d: %+v, want %d left", round, got, left)
					}
				}
				got := l.Take(t.Context(), "a", limit)
				if got.Allowed || got.Remaining != 0 || got.RetryAfter < 19*time.Minute || got.RetryAfter > 20*time.Minute || got.ResetAfter < 59*time.Minute {
					t.Errorf("beyond: %+v", got)
				}
				if got := l.Take(t.Context(), uuid.NewString(), limit); !got.Allowed {
					t.Errorf("another: %+v", got)
				}
				l.Forget(t.Context(), "a")
			}
		})
	}
}

// TestProcessesCountTogether has two of them, and then without Redis each for itself.
func TestProcessesCountTogether(t *testing.T) {
	limit := Limit{Rate: 2, Burst: 2, Period: time.Hour}
	client, prefix := redistest.New(t), uuid.NewString()
	one, other := New(client, prefix, zerolog.Nop()), New(client, prefix, zerolog.Nop())
	if a, b := one.Take(t.Context(), "k", limit), other.Take(t.Context(), "k", limit); !a.Allowed || !b.Allowed {
		t.Fatalf("%+v, %+v", a, b)
	}
	if a, b := one.Take(t.Context(), "k", limit), other.Take(t.Context(), "k", limit); a.Allowed || b.Allowed {
		t.Fatalf("%+v, %+v", a, b)
	}
	for _, l := range []*Limiter{one, other} {
		l.away.Store(time.Now().Add(time.Hour).UnixNano())
		for i := range 3 {
			if got := l.Take(t.Context(), "k", limit); got.Allowed != (i < 2) {
				t.Errorf("%d: %+v", i, got)
			}
		}
	}
}

func TestLocalLimitRefills(t *testing.T) {
	l := New(nil, "", zerolog.Nop())
	limit := Limit{Rate: 60, Burst: 2, Period: time.Minute}
	now := time.Now()
	for i, step := range []struct {
		after   time.Duration
		allowed bool
	}{{0, true}, {0, true}, {0, false}, {500 * time.Millisecond, false}, {600 * time.Millisecond, true}, {0, false}} {
		now = now.Add(step.after)
		got := l.takeLocal("k", limit, now)
		if got.Allowed != step.allowed {
			t.Fatalf("step %d: %+v", i, got)
		}
		if !got.Allowed && (got.RetryAfter <= 0 || got.RetryAfter > time.Second || got.ResetAfter > 2*time.Second) {
			t.Errorf("step %d: retry after %s, reset after %s", i, got.RetryAfter, got.ResetAfter)
		}
	}
}
