//go:build unix

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"
)

const (
	// addresses there are with an account, and as many without one; each is asked for as often as the limits on guesses and on mails let it.
	addresses, triesOfAddress = 40, 5
	// mediansWithin is how far apart the medians of those are at most, beyond what the machine lets be told of them.
	mediansWithin = 5 * time.Millisecond
)

// outcome is what somebody sees who asks whether an address has an account.
type outcome struct {
	status int
	body   string // without the id of the request
	took   time.Duration
}

// guess sends a request of nobody.
func (c *check) guess(path string, body map[string]string) outcome {
	c.t.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.door+"/api/v1/auth/"+path, bytes.NewReader(sent))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := http.DefaultClient.Do(req) // on a busy machine a comparison takes longer than others' requests may
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	var envelope map[string]any
	if err != nil || json.Unmarshal(raw, &envelope) != nil {
		c.t.Fatalf("%s: %d %.200s, %v", path, resp.StatusCode, raw, err)
	}
	delete(envelope, "requestId")
	text, err := json.Marshal(envelope)
	if err != nil {
		c.t.Fatal(err)
	}
	return outcome{resp.StatusCode, string(text), took}
}

// TestS03KnownAndUnknown asks for addresses that have an account and for others, one of each by turns, whichever first by chance, with passwords
// hashed at the cost of production. Neither the answers nor their times tell which is which.
func TestS03KnownAndUnknown(t *testing.T) {
	onDemand(t)
	c := drawCheck(t, "S03")
	c.laboratory = newLaboratory(t, 1, 1, false)
	keeper := c.of(identity)[0]
	keeper.kill()
	keeper.environ = append(keeper.environ, "TURBOCAT_IDENTITY_BCRYPT_COST=12", "TURBOCAT_IDENTITY_DEV_MAILBOX=true") // who is known gets a mail
	keeper.start()
	c.awaitReady(readyWithin)
	for i := range addresses {
		c.enter("register", map[string]any{"email": known(i), "fullName": "Known"})
	}
	c.say("%d accounts are made", addresses)
	for _, path := range []string{"login", "forgot-password"} {
		body := func(email string) map[string]string {
			if path == "login" {
				return map[string]string{"email": email, "password": "Wrong-horse-9"}
			}
			return map[string]string{"email": email}
		}
		wanted := c.guess(path, body("nobody-at-all@example.com"))
		took := map[bool][]time.Duration{}
		for i := range addresses * triesOfAddress {
			pair := []bool{true, false}
			if c.random.IntN(2) == 0 {
				slices.Reverse(pair)
			}
			for _, is := range pair {
				email := known(i % addresses)
				if !is {
					email = "un" + email
				}
				got := c.guess(path, body(email))
				if got.status != wanted.status || got.body != wanted.body {
					t.Fatalf("%s of an address, known: %v, is answered %d %s, and not %d %s", path, is, got.status, got.body, wanted.status, wanted.body)
				}
				took[is] = append(took[is], got.took)
			}
		}
		for _, of := range took {
			slices.Sort(of)
		}
		ofKnown, ofUnknown := median(took[true]), median(took[false])
		blur := math.Hypot(milliseconds(medianError(took[true])), milliseconds(medianError(took[false])))
		c.number("%s, %d each: median of the known %.1f ms, of the unknown %.1f ms, the difference known to %.1f ms", path, len(took[true]), milliseconds(ofKnown), milliseconds(ofUnknown), blur)
		if apart := milliseconds((ofKnown - ofUnknown).Abs()); apart-3*blur >= milliseconds(mediansWithin) {
			t.Errorf("the medians of %s are %.1f ms apart", path, apart)
		}
	}
	c.recorded = true
}

func known(i int) string { return fmt.Sprintf("known-%d@example.com", i) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// medianError gives the standard error of a median: half the distance between the samples half a root of their number to either side of it.
func medianError(sorted []time.Duration) time.Duration {
	n := len(sorted)
	reach := int(math.Ceil(math.Sqrt(float64(n)) / 2))
	return (sorted[n/2+reach] - sorted[n/2-reach]) / 2
}
