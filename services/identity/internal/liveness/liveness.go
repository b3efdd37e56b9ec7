// Package liveness remembers in Redis for a few seconds which sessions are live. It is never
// the truth: whatever Redis does not know, or can not say, is asked of the store, so losing
// Redis costs a query and brings no revoked session back.
package liveness

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"turbocat.io/services/identity/internal/account"
)

const (
	// remembered is how late a change that was not announced is noticed. With the time for which a gateway believes an answer it is less than five seconds.
	remembered = 2 * time.Second
	// pause is how long Redis is left alone after it failed, so that a dead one does not slow every request.
	pause = time.Second
	// patience bounds one exchange with Redis and its retries.
	patience = 250 * time.Millisecond
)

const (
	live = "1"
	dead = "0"
)

// Store is the truth about sessions.
type Store interface {
	// Live tells whether the access tokens of a session are good.
	Live(ctx context.Context, id account.SessionID) (bool, error)
}

// Cache is an account.Liveness. It is safe for concurrent use.
type Cache struct {
	redis       *redis.Client
	store       Store
	tokenLife   time.Duration
	log         zerolog.Logger
	pausedUntil atomic.Int64 // Unix nanoseconds
}

// New makes a cache. tokenLife is how long an access token may outlive the end of its session.
func New(client *redis.Client, store Store, tokenLife time.Duration, log zerolog.Logger) *Cache {
	return &Cache{redis: client, store: store, tokenLife: tokenLife, log: log}
}

// Live tells whether the access tokens of a session are good; with Redis away it asks the store.
func (c *Cache) Live(ctx context.Context, id account.SessionID) (bool, error) {
	if time.Now().UnixNano() < c.pausedUntil.Load() {
		return c.store.Live(ctx, id)
	}
	var answer string
	err := c.exchange(ctx, func(ctx context.Context) (err error) {
		answer, err = c.redis.Get(ctx, key(id)).Result()
		return err
	})
	if err == nil {
		return answer == live, nil
	}
	isLive, storeErr := c.store.Live(ctx, id)
	if storeErr != nil || !errors.Is(err, redis.Nil) {
		return isLive, storeErr
	}
	answer = dead
	if isLive {
		answer = live
	}
	// Only where nothing stands: a revocation between the query and now must not be overwritten.
	_ = c.exchange(ctx, func(ctx context.Context) error {
		return c.redis.SetArgs(ctx, key(id), answer, redis.SetArgs{Mode: "NX", TTL: remembered}).Err()
	})
	return isLive, nil
}

// Revoked makes ends that the store has recorded hold at once. When Redis is away they hold
// after two seconds at the latest.
func (c *Cache) Revoked(ctx context.Context, ids ...account.SessionID) {
	if len(ids) == 0 {
		return
	}
	_ = c.exchange(ctx, func(ctx context.Context) error {
		_, err := c.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, id := range ids {
				p.Set(ctx, key(id), dead, c.tokenLife)
			}
			return nil
		})
		return err
	})
}

// exchange gives the error of fn, redis.Nil included, having logged it and begun a pause when Redis failed.
func (c *Cache) exchange(ctx context.Context, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := fn(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		now := time.Now()
		if c.pausedUntil.Swap(now.Add(pause).UnixNano()) < now.UnixNano() {
			c.log.Warn().Err(err).Msg("Redis does not answer; sessions are checked in PostgreSQL")
		}
	}
	return err
}

func key(id account.SessionID) string { return "turbocat:identity:session:" + id.String() }
