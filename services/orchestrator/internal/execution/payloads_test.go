package execution

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
)

// keepsAll is a store that has everything.
type keepsAll struct {
	Store
	kept int
}

func (s *keepsAll) StorePayload(_ context.Context, _ string, payload []byte) (runner.Reference, error) {
	s.kept += len(payload)
	return runner.Reference{}, nil
}

func TestStorePayloadIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		payload []byte
		want    errs.Code
	}{
		{"too large", bytes.Repeat([]byte("1"), runner.MaxOutput+1), errs.PayloadTooLarge},
		{"no JSON", []byte("{"), errs.Validation},
		{"no UTF-8", []byte("\"\xff\""), errs.Validation},
		{"deep", []byte(strings.Repeat("[", 1001) + strings.Repeat("]", 1001)), errs.Validation},
		{"deepest", []byte(strings.Repeat("[", 1000) + strings.Repeat("]", 1000)), ""},
	} {
		store := &keepsAll{}
		service := NewService(nil, store, nil, nil)
		_, err := service.StorePayload(t.Context(), rpc.System("t"), orchestrator.StorePayloadRequest{Payload: c.payload})
		if errs.CodeOf(err) != c.want || (store.kept == len(c.payload)) != (err == nil) {
			t.Errorf("%s: %v, %d bytes are kept", c.name, err, store.kept)
		}
	}
}
