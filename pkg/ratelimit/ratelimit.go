// Package ratelimit counts what is done, in Redis for all processes together, or per process while Redis is away.
// The limits slide: what is used comes back bit by bit, not at the end of a window.
package ratelimit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

const (
	// pause is how long the local limits stand in before Redis is tried again.
	pause = time.Second
	// maxLocal bounds the limits kept in memory; those longest unused go.
	maxLocal = 20_000
	// patience bounds one exchange with Redis and its retries.
	patience = 500 * time.Millisecond
)

// Limit allows Rate in a Period, and Burst at once.
type Limit struct {
	Rate, Burst int
	Period      time.Duration
}

// Result is what became of one try.
type Result struct {
	Allowed    bool
	Remaining  int           // that may follow at once
	ResetAfter time.Duration // until all may be done at once
	RetryAfter time.Duration // until one may be done; at most 0 when Allowed
}

// Limiter counts by key. It is safe for concurrent use.
type Limiter struct {
	shared *redis_rate.Limiter
	prefix string
	log    zerolog.Logger
	away   atomic.Int64 // unix nanoseconds until which Redis is not asked

	mu    sync.Mutex
	local *simplelru.LRU[string, *rate.Limiter]
}

// New makes a limiter whose keys in Redis begin with prefix.
func New(client *redis.Client, prefix string, log zerolog.Logger) *Limiter {
	local, _ := simplelru.NewLRU[string, *rate.Limiter](maxLocal, nil) // it refuses sizes below 1 alone
	return &Limiter{shared: redis_rate.NewLimiter(client), prefix: prefix, log: log, local: local}
}

// Take counts one, unless that is over the limit.
func (l *Limiter) Take(ctx context.Context, key string, limit Limit) Result {
	var got *redis_rate.Result
	err := l.exchange(ctx, func(ctx context.Context) (err error) {
		got, err = l.shared.Allow(ctx, l.prefix+key, redis_rate.Limit{Rate: limit.Rate, Burst: limit.Burst, Period: limit.Period})
		return err
	})
	if err != nil {
		return l.takeLocal(key, limit, time.Now())
	}
	return Result{Allowed: got.Allowed > 0, Remaining: max(got.Remaining, 0), ResetAfter: got.ResetAfter, RetryAfter: got.RetryAfter}
}

// Forget gives back all that was counted under a key.
func (l *Limiter) Forget(ctx context.Context, key string) {
	l.mu.Lock()
	l.local.Remove(key)
	l.mu.Unlock()
	_ = l.exchange(ctx, func(ctx context.Context) error { return l.shared.Reset(ctx, l.prefix+key) })
}

// exchange asks Redis, unless it is in a pause, which begins when it does not answer.
func (l *Limiter) exchange(ctx context.Context, ask func(ctx context.Context) error) error {
	now := time.Now()
	if l.away.Load() > now.UnixNano() {
		return context.DeadlineExceeded
	}
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := ask(within)
	if err != nil && ctx.Err() == nil && l.away.Swap(now.Add(pause).UnixNano()) <= now.UnixNano() {
		l.log.Warn().Err(err).Msg("Redis does not answer; what is done is limited per process meanwhile")
	}
	return err
}

func (l *Limiter) takeLocal(key string, limit Limit, now time.Time) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	perSecond := float64(limit.Rate) / limit.Period.Seconds()
	limiter, ok := l.local.Get(key)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(perSecond), limit.Burst)
		l.local.Add(key, limiter)
	}
	got := Result{Allowed: limiter.AllowN(now, 1)}
	left := limiter.TokensAt(now)
	got.Remaining = int(max(left, 0))
	got.ResetAfter = time.Duration((float64(limit.Burst) - left) / perSecond * float64(time.Second))
	if !got.Allowed {
		got.RetryAfter = time.Duration((1 - left) / perSecond * float64(time.Second))
	}
	return got
}
