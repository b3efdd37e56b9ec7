package runner

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	SandboxMain() // the test binary is its own sandbox
	goleak.VerifyTestMain(m)
}
