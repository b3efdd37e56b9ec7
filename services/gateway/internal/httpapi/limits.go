package httpapi

import (
	"math"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/ratelimit"
)

// limits bound the requests.
type limits struct {
	*ratelimit.Limiter
	auth ratelimit.Limit // per address, on auth routes
	user ratelimit.Limit // per user, or per address without one, on the others
}

func newLimits(o Options) limits {
	return limits{
		Limiter: ratelimit.New(o.Redis, o.RedisPrefix+":gateway:", o.Log),
		auth:    perMinute(o.AuthPerMinute),
		user:    ratelimit.Limit{Rate: o.UserPerSecond, Burst: 2 * o.UserPerSecond, Period: time.Second},
	}
}

func perMinute(n int) ratelimit.Limit {
	return ratelimit.Limit{Rate: n, Burst: n, Period: time.Minute}
}

// limit counts the request and tells the client how much is left. Over the limit it is RATE_LIMITED. That of an API key
// stands within its user's: many keys do not make many times as many requests.
func (a *API) limit(c *fiber.Ctx, r *request, need access) error {
	bound, kind, who := a.limits.user, "user", r.caller.UserID
	if who == "" {
		kind, who = "ip", r.caller.IP
	}
	if need.auth {
		bound, kind, who = a.limits.auth, "auth", r.caller.IP
	}
	if err := a.count(c, kind, who, bound); err != nil || r.limit == 0 {
		return err
	}
	return a.count(c, "key", r.caller.APIKeyID, perMinute(r.limit))
}

// count counts the request against one limit.
func (a *API) count(c *fiber.Ctx, kind, who string, bound ratelimit.Limit) error {
	got := a.limits.Take(c.UserContext(), kind+":"+who, bound)
	c.Set("X-RateLimit-Limit", strconv.Itoa(bound.Burst))
	c.Set("X-RateLimit-Remaining", strconv.Itoa(got.Remaining))
	c.Set("X-RateLimit-Reset", seconds(got.ResetAfter))
	if got.Allowed {
		return nil
	}
	a.metrics.limited.WithLabelValues(kind).Inc()
	wait := seconds(max(got.RetryAfter, 1))
	c.Set("Retry-After", wait)
	return errs.New(errs.RateLimited, "too many requests; try again in %s s", wait)
}

// seconds rounds up, so that who waits that long does not come too early.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
