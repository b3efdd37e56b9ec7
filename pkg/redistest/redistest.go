// Package redistest gives tests the Redis that the test environment started.
package redistest

import (
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// EnvURL names the variable that holds the server's address.
const EnvURL = "TURBOCAT_TEST_REDIS_URL"

// URL gives the address of the shared server, or of an embedded one when the test runs by
// itself. Tests share it, so each uses keys of its own.
func URL(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(EnvURL); url != "" {
		return url
	}
	return "redis://" + miniredis.RunT(t).Addr()
}

// New connects to URL.
func New(t testing.TB) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(URL(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}
