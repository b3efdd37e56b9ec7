package execution

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"turbocat.io/contracts/errs"
)

const (
	// countedFor is how long a user's count is believed; what this process accepts meanwhile is added.
	countedFor = time.Second
	// countedUsers bounds the counts in memory; those longest unused are forgotten.
	countedUsers = 20_000
	// unfinishedAgain is when a user who has too many is told to try again.
	unfinishedAgain = 5 * time.Second
)

// admission decides whether a user may have another execution. It bounds what a user asks for: children and compensations
// belong to what was accepted, and are neither counted nor refused. It is safe for concurrent use.
type admission struct {
	most    int // unfinished executions of a user
	count   func(ctx context.Context, userID string, most int) (int, error)
	asking  singleflight.Group
	mu      sync.Mutex
	counted *lru.Cache[string, *unfinished] // by user
}

type unfinished struct {
	n  int
	at time.Time
}

func newAdmission(most int, count func(ctx context.Context, userID string, most int) (int, error)) *admission {
	counted, _ := lru.New[string, *unfinished](countedUsers) // it refuses sizes below 1 alone
	return &admission{most: most, count: count, counted: counted}
}

// take counts another execution of a user; RATE_LIMITED when there are too many. Several orchestrators may together
// accept what each of them does within countedFor beyond the bound.
func (a *admission) take(ctx context.Context, userID string) error {
	for {
		known, err := a.takeKnown(userID)
		if known || err != nil {
			return err
		}
		_, err, _ = a.asking.Do(userID, func() (any, error) {
			if a.fresh(userID) { // it was counted in between, and what was taken since stands in that count
				return nil, nil
			}
			n, err := a.count(ctx, userID, a.most)
			if err == nil {
				a.mu.Lock()
				a.counted.Add(userID, &unfinished{n: n, at: time.Now()})
				a.mu.Unlock()
			}
			return nil, err
		})
		if err != nil {
			return err
		}
	}
}

// fresh tells whether there is a count that is believed.
func (a *admission) fresh(userID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.counted.Peek(userID)
	return ok && time.Since(u.at) <= countedFor
}

// takeKnown does it by a count that is fresh; false when there is none.
func (a *admission) takeKnown(userID string) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.counted.Get(userID)
	switch {
	case !ok || time.Since(u.at) > countedFor:
		return false, nil
	case u.n >= a.most:
		return true, errs.New(errs.RateLimited, "%d of your executions have not ended, as many as a user may have; try again when some have, or cancel some", u.n).Again(unfinishedAgain)
	}
	u.n++
	return true, nil
}
