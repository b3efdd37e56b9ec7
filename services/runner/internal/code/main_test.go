package code

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 && os.Args[1] == asParent {
		fmt.Fprintln(os.Stderr, runForever())
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
