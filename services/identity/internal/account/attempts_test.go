package account_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/services/identity/internal/account"
	"turbocat.io/services/identity/internal/password"
)

func from(ip string) account.Client { return account.Client{IP: ip, RequestID: "r-1"} }

// guess logs in with a wrong password until it is throttled, at most most times, and gives how often it was not, and what it was told then.
func (b *bundle) guess(a *account.Accounts, c account.Client, email string, most int) (int, *errs.Error) {
	b.t.Helper()
	for n := range most {
		_, err := a.Login(context.Background(), c, email, secret+"x")
		var e *errs.Error
		switch {
		case errors.As(err, &e) && e.Code == errs.RateLimited:
			return n, e
		case errs.CodeOf(err) != errs.Unauthorized:
			b.t.Fatal(err)
		}
	}
	return most, nil
}

// TestGuessingIsThrottled guesses at an account that is there and at one that is not, with Redis and without.
func TestGuessingIsThrottled(t *testing.T) {
	for _, redis := range []string{"there", "away"} {
		t.Run("redis "+redis, func(t *testing.T) {
			b := setup(t)
			b.register("ada@example.com")
			if redis == "away" {
				b.redis.Close()
			}
			attacker := from("192.0.2.66")
			var told []*errs.Error
			for _, email := range []string{"ada@example.com", "nobody@example.com"} {
				n, e := b.guess(b.Accounts, attacker, email, 20)
				if n != 10 || e == nil || e.RetryAfterMs < 80_000 || e.RetryAfterMs > 90_000 {
					t.Fatalf("%s: %d tries, then %+v", email, n, e)
				}
				told = append(told, e)
			}
			if len(told[0].Message) != len(told[1].Message) {
				t.Errorf("they are told apart: %q, %q", told[0].Message, told[1].Message)
			}
			_, err := b.Login(t.Context(), attacker, " ADA@example.com ", secret)
			wantCode(t, "the right password, by who guesses", err, errs.RateLimited)
			if _, err := b.Login(t.Context(), from("192.0.2.7"), "ada@example.com", secret); err != nil {
				t.Errorf("the victim is locked out: %v", err)
			}
			if n, _ := b.guess(b.Accounts, attacker, "bob@example.com", 3); n != 3 {
				t.Error("another account is throttled")
			}
		})
	}
}

func TestASuccessForgetsFailures(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	for range 3 {
		if n, _ := b.guess(b.Accounts, client, "ada@example.com", 9); n != 9 {
			t.Fatalf("throttled after %d", n)
		}
		b.login("ada@example.com")
	}
}

// TestGuessesAtATime are no more than those one after the other. Of IPv6 the network counts.
func TestGuessesAtATime(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	var mu sync.Mutex
	compared := 0
	var guessing sync.WaitGroup
	for i := range 40 {
		guessing.Go(func() {
			_, err := b.Login(context.Background(), from("2001:db8::"+string(rune('a'+i%6))), "ada@example.com", secret+"x")
			mu.Lock()
			defer mu.Unlock()
			if errs.CodeOf(err) == errs.Unauthorized {
				compared++
			}
		})
	}
	guessing.Wait()
	if compared != 10 {
		t.Errorf("%d passwords were compared, want 10", compared)
	}
	if n, _ := b.guess(b.Accounts, from("2001:db8:0:1::a"), "ada@example.com", 1); n != 1 {
		t.Error("another network is throttled")
	}
}

// TestKnownAndUnknownTakeAsLong compares logins to an account that is there with others, one of each at a time.
func TestKnownAndUnknownTakeAsLong(t *testing.T) {
	b := setup(t)
	b.Hasher = password.NewHasher(6) // long enough to be seen
	b.register("ada@example.com")
	took, said := map[string][]time.Duration{}, ""
	for i := range 25 {
		for _, email := range []string{"ada@example.com", "nobody@example.com"} {
			began := time.Now()
			_, err := b.Login(t.Context(), from("10.0.0."+string(rune('0'+i%10))), email, secret+"x")
			if errs.CodeOf(err) == errs.RateLimited {
				b.redis.FlushAll()
				continue
			}
			wantCode(t, email, err, errs.Unauthorized)
			if said == "" {
				said = err.Error()
			}
			if err.Error() != said {
				t.Fatalf("%s is answered %q, another %q", email, err, said)
			}
			took[email] = append(took[email], time.Since(began))
		}
	}
	// What the fastest one takes is what is done; the rest is a machine that has more to do.
	fast := func(email string) time.Duration { return slices.Min(took[email]) }
	// Without the comparison that an unknown address does not need, it would take next to nothing.
	if known, unknown := fast("ada@example.com"), fast("nobody@example.com"); (known - unknown).Abs() > max(known, unknown)/4 {
		t.Errorf("a known address takes %s, an unknown one %s", known, unknown)
	}
}

// TestAnOutageIsNoGuess has the right password sent more often than may be guessed while the database does not do its part.
func TestAnOutageIsNoGuess(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	for _, table := range []string{"users", "sessions"} { // read first, written last
		b.exec(`ALTER TABLE ` + table + ` RENAME TO away`)
		for range 12 {
			if _, err := b.Login(t.Context(), from("192.0.2.7"), "ada@example.com", secret); err == nil || errs.CodeOf(err) == errs.RateLimited {
				t.Fatalf("without %s: %v", table, err)
			}
		}
		b.exec(`ALTER TABLE away RENAME TO ` + table)
		if _, err := b.Login(t.Context(), from("192.0.2.7"), "ada@example.com", secret); err != nil {
			t.Errorf("after %s was away: %v", table, err)
		}
	}
}
