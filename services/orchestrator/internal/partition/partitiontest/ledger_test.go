package partitiontest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLedgerInMemory(t *testing.T) {
	Conform(t, func(*testing.T) Store { return NewLedger([]byte("a secret of the tests")) })
}
