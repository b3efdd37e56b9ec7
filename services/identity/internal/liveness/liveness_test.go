package liveness

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"turbocat.io/services/identity/internal/account"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tokenLife = 15 * time.Minute

// ledger is a truth that counts how often it is asked.
type ledger struct {
	live   atomic.Bool
	asked  atomic.Int32
	err    error
	during func() // runs between the answer's making and its giving
}

func (l *ledger) Live(context.Context, account.SessionID) (bool, error) {
	l.asked.Add(1)
	live := l.live.Load()
	if l.during != nil {
		l.during()
	}
	return live, l.err
}

func setup(t *testing.T) (*Cache, *ledger, *miniredis.Miniredis, account.SessionID) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	truth := &ledger{}
	truth.live.Store(true)
	return New(client, truth, tokenLife, zerolog.Nop()), truth, server, account.SessionID{UUID: uuid.New()}
}

func expect(t *testing.T, c *Cache, id account.SessionID, want bool) {
	t.Helper()
	if got, err := c.Live(context.Background(), id); err != nil || got != want {
		t.Fatalf("live: %v, %v; want %v", got, err, want)
	}
}

func TestLiveIsRememberedForAMoment(t *testing.T) {
	c, truth, server, id := setup(t)
	expect(t, c, id, true)
	truth.live.Store(false)
	expect(t, c, id, true)
	if n := truth.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times", n)
	}
	server.FastForward(remembered)
	expect(t, c, id, false)
	truth.live.Store(true)
	expect(t, c, id, false)
	server.FastForward(remembered)
	expect(t, c, id, true)
}

func TestRevokedHoldsAtOnceAndForAsLongAsAToken(t *testing.T) {
	c, truth, server, id := setup(t)
	expect(t, c, id, true)
	c.Revoked(context.Background(), id)
	expect(t, c, id, false)
	server.FastForward(tokenLife - time.Second)
	expect(t, c, id, false)
	if n := truth.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times", n)
	}
}

func TestRevokedDuringAQueryIsNotOverwritten(t *testing.T) {
	c, truth, _, id := setup(t)
	truth.during = func() {
		truth.live.Store(false)
		c.Revoked(context.Background(), id)
	}
	expect(t, c, id, true) // began before the end
	expect(t, c, id, false)
}

func TestLostRedis(t *testing.T) {
	c, truth, server, id := setup(t)
	server.Close()
	expect(t, c, id, true)
	truth.live.Store(false)
	c.Revoked(context.Background(), id)
	expect(t, c, id, false)
	if n := truth.asked.Load(); n != 2 {
		t.Errorf("the store was asked %d times", n)
	}
	truth.err = errors.New("away")
	if _, err := c.Live(context.Background(), id); !errors.Is(err, truth.err) {
		t.Errorf("got %v", err)
	}
}

func TestEmptiedRedisRevivesNothing(t *testing.T) {
	c, truth, server, id := setup(t)
	truth.live.Store(false)
	c.Revoked(context.Background(), id)
	server.FlushAll()
	expect(t, c, id, false)
}

func TestRedisIsUsedAgainAfterAPause(t *testing.T) {
	c, truth, server, id := setup(t)
	server.SetError("LOADING")
	expect(t, c, id, true)
	server.SetError("")
	expect(t, c, id, true) // in the pause
	c.pausedUntil.Store(0)
	expect(t, c, id, true) // fills the cache
	expect(t, c, id, true)
	if n := truth.asked.Load(); n != 3 {
		t.Errorf("the store was asked %d times", n)
	}
}
