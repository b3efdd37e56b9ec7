package execution

import (
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/runner"
)

// TestInputsAreBounded wants inputs of as many bytes as an output may have, and no more.
func TestInputsAreBounded(t *testing.T) {
	t.Parallel()
	const around = len(`{"x":""}`)
	for size, want := range map[int]errs.Code{runner.MaxOutput: "", runner.MaxOutput + 1: errs.PayloadTooLarge} {
		inputs, err := checkSubmit(orchestrator.SubmitRequest{Inputs: []byte(`{"x":"` + strings.Repeat("x", size-around) + `"}`)})
		if errs.CodeOf(err) != want || want == "" && len(inputs) != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
