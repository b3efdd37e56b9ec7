package verify

import (
	"testing"

	"go.uber.org/goleak"

	"turbocat.io/tools/internal/promises"
)

type violation = promises.Violation

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
