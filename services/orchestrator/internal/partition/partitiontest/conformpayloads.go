package partitiontest

import (
	"bytes"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/runner"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/execution"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Payloads that are too large for the rows stand beside them, by what they hold.
func testPayloads(t *testing.T, s store) {
	payload := func(n int, c byte) []byte { return append(append([]byte{'"'}, bytes.Repeat([]byte{c}, n-2)...), '"') }
	accept := func(t *testing.T, change func(*execution.Accepted)) string {
		x := acceptable(t, nil)
		change(&x)
		s.accept(x)
		return x.ID
	}

	t.Run("a payload is kept once", func(t *testing.T) {
		id, other := accept(t, func(*execution.Accepted) {}), accept(t, func(*execution.Accepted) {})
		for _, n := range []int{2, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20} {
			want := payload(n, 'x')
			for range 2 {
				ref, err := s.StorePayload(t.Context(), id, want)
				if err != nil || ref != runner.ReferTo(want) {
					t.Fatalf("%d bytes: %+v, %v", n, ref, err)
				}
			}
			got, err := s.Payload(t.Context(), id, runner.ReferTo(want))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes come back as %d, %v", n, len(got), err)
			}
			if _, err := s.Payload(t.Context(), other, runner.ReferTo(want)); errs.CodeOf(err) != errs.NotFound {
				t.Errorf("another execution has it: %v", err)
			}
		}
	})
	t.Run("missing payloads are told apart", func(t *testing.T) {
		id := accept(t, func(*execution.Accepted) {})
		here, gone := payload(10, 'h'), payload(10, 'g')
		if _, err := s.StorePayload(t.Context(), id, here); err != nil {
			t.Fatal(err)
		}
		there, missing := partition.PayloadID{ExecutionID: id, Reference: runner.ReferTo(here)}, partition.PayloadID{ExecutionID: id, Reference: runner.ReferTo(gone)}
		got, err := s.MissingPayloads(t.Context(), []partition.PayloadID{there, missing, there})
		if err != nil || len(got) != 1 || !got[missing] {
			t.Errorf("missing: %v, %v", got, err)
		}
	})
	t.Run("nobody has payloads without an execution", func(t *testing.T) {
		for _, id := range []string{"0198c1f2-0000-7000-8000-000000000000", "no id"} {
			if _, err := s.StorePayload(t.Context(), id, payload(10, 'x')); errs.CodeOf(err) != errs.NotFound {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
	t.Run("large inputs stand beside the row", func(t *testing.T) {
		for _, n := range []int{runner.MaxInline, runner.MaxInline + 1} {
			inputs := append(append([]byte(`{"x":`), payload(n-6, 'i')...), '}')
			id := accept(t, func(x *execution.Accepted) { x.Inputs = inputs })
			loaded, err := s.Load(t.Context(), []string{id})
			if err != nil || len(loaded) != 1 {
				t.Fatalf("%d executions, %v", len(loaded), err)
			}
			x := loaded[0].Execution
			if _, stored := runner.ReferenceOf(x.Inputs); stored != (n > runner.MaxInline) || engine.SizeOf(x.Inputs) != n {
				t.Errorf("%d bytes are kept as %.80s", n, x.Inputs)
			}
			failed := partition.NewPayloads(s).Lend(t.Context(), x)
			if got := x.Whole(x.Inputs); !bytes.Equal(got, inputs) || failed() != nil {
				t.Errorf("%d bytes come back as %d, %v", n, len(got), failed())
			}
		}
	})
}
