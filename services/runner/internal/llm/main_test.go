package llm_test

import (
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/services/runner/internal/jail"
)

func TestMain(m *testing.M) {
	jail.Main() // the test binary is its own sandbox
	goleak.VerifyTestMain(m)
}
