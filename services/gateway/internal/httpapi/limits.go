package httpapi

import (
	"context"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"turbocat.io/contracts/errs"
)

const (
	// redisPause is how long the local limiters stand in before Redis is tried again.
	redisPause = time.Second
	// maxLocal bounds the limiters kept in memory; those longest unused go.
	maxLocal = 20_000
)

// limits counts requests, in Redis for all gateways together, or per process while Redis is away.
type limits struct {
	redis  *redis_rate.Limiter
	prefix string
	auth   redis_rate.Limit // per address, on auth routes
	user   redis_rate.Limit // per user, or per address without one, on the others
	local  *localLimits
	away   *atomic.Int64 // unix nanoseconds until which Redis is not asked
	log    zerolog.Logger
}

func newLimits(o Options) limits {
	return limits{
		redis: redis_rate.NewLimiter(o.Redis), prefix: o.RedisPrefix + ":gateway:",
		auth:  redis_rate.PerMinute(o.AuthPerMinute),
		user:  redis_rate.Limit{Rate: o.UserPerSecond, Burst: 2 * o.UserPerSecond, Period: time.Second},
		local: newLocalLimits(),
		away:  new(atomic.Int64), log: o.Log,
	}
}

// limit counts the request and tells the client how much is left. Over the limit it is RATE_LIMITED.
func (a *API) limit(c *fiber.Ctx, r *request, need access) error {
	bound, kind, who := a.limits.user, "user", r.caller.UserID
	if who == "" {
		kind, who = "ip", r.caller.IP
	}
	if need.auth {
		bound, kind, who = a.limits.auth, "auth", r.caller.IP
	}
	got := a.limits.take(c.UserContext(), kind+":"+who, bound)
	c.Set("X-RateLimit-Limit", strconv.Itoa(bound.Burst))
	c.Set("X-RateLimit-Remaining", strconv.Itoa(max(got.Remaining, 0)))
	c.Set("X-RateLimit-Reset", seconds(got.ResetAfter))
	if got.Allowed > 0 {
		return nil
	}
	a.metrics.limited.WithLabelValues(kind).Inc()
	wait := seconds(max(got.RetryAfter, 1))
	c.Set("Retry-After", wait)
	return errs.New(errs.RateLimited, "too many requests; try again in %s s", wait)
}

func (l limits) take(ctx context.Context, key string, bound redis_rate.Limit) redis_rate.Result {
	key = l.prefix + key
	if now := time.Now(); l.away.Load() <= now.UnixNano() {
		got, err := l.redis.Allow(ctx, key, bound)
		if err == nil {
			return *got
		}
		l.away.Store(now.Add(redisPause).UnixNano())
		l.log.Warn().Err(err).Msg("Redis does not answer; requests are limited per process meanwhile")
	}
	return l.local.take(key, bound, time.Now())
}

// localLimits is what limits falls back to. It is safe for concurrent use.
type localLimits struct {
	mu       sync.Mutex
	limiters *simplelru.LRU[string, *rate.Limiter]
}

func newLocalLimits() *localLimits {
	limiters, _ := simplelru.NewLRU[string, *rate.Limiter](maxLocal, nil) // it refuses sizes below 1 alone
	return &localLimits{limiters: limiters}
}

func (l *localLimits) take(key string, bound redis_rate.Limit, now time.Time) redis_rate.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	perSecond := float64(bound.Rate) / bound.Period.Seconds()
	limiter, ok := l.limiters.Get(key)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(perSecond), bound.Burst)
		l.limiters.Add(key, limiter)
	}
	got := redis_rate.Result{Limit: bound}
	if limiter.AllowN(now, 1) {
		got.Allowed = 1
	}
	left := limiter.TokensAt(now)
	got.Remaining = int(max(left, 0))
	got.ResetAfter = time.Duration((float64(bound.Burst) - left) / perSecond * float64(time.Second))
	got.RetryAfter = time.Duration((1 - left) / perSecond * float64(time.Second))
	return got
}

// seconds rounds up, so that who waits that long does not come too early.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
