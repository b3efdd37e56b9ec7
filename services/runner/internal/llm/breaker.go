package llm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/sony/gobreaker/v2"
)

const (
	// tripAfter failures in a row a provider is left alone for restFor; then one call may try.
	tripAfter = 5
	restFor   = 30 * time.Second
	// maxBreakers bounds what is known of providers.
	maxBreakers = 4096
)

// breakers leave providers alone that fail. Each user has breakers of his own: what one does with a provider tells nothing of another's key and limits.
type breakers struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, *gobreaker.TwoStepCircuitBreaker[struct{}]]
}

func newBreakers() *breakers {
	known, _ := simplelru.NewLRU[string, *gobreaker.TwoStepCircuitBreaker[struct{}]](maxBreakers, nil) // it refuses sizes below 1 alone
	return &breakers{known: known}
}

// allow gives what is to be told how a call ended, or a *failure when there is to be none.
func (b *breakers) allow(key string) (func(error), error) {
	b.mu.Lock()
	breaker, ok := b.known.Get(key)
	if !ok {
		breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:      restFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return err == nil },
			IsExcluded:   func(err error) bool { return err != nil && !isTransient(err) },
		})
		b.known.Add(key, breaker)
	}
	b.mu.Unlock()
	done, err := breaker.Allow()
	if err != nil {
		return nil, &failure{message: fmt.Sprintf("left alone for up to %v after %d failures in a row", restFor, tripAfter), transient: true, retryAfter: restFor}
	}
	return done, nil
}

func isTransient(err error) bool {
	var failed *failure
	return errors.As(err, &failed) && failed.transient
}
