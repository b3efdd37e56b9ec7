package identity

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

// TestAnIdempotencyKeyIssuesOneAPIKey repeats what issues the text of a key: it is done once, told once, and kept nowhere.
func TestAnIdempotencyKeyIssuesOneAPIKey(t *testing.T) {
	c, db := startWithDatabase(t)
	ctx := context.Background()
	registered, err := bus.Call(ctx, c, contract.Register, rpc.Caller{}, contract.RegisterRequest{Email: "ada@example.com", Password: secret, FullName: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	me := rpc.Caller{UserID: registered.User.ID, Role: rpc.RoleUser}
	keyed := me
	keyed.IdempotencyKey = "k"
	create := func(body string) (contract.IssuedAPIKey, error) {
		return bus.Call(ctx, c, contract.CreateAPIKey, keyed, contract.CreateAPIKeyRequest{Body: json.RawMessage(body)})
	}
	rotate := func(caller rpc.Caller, id string, overlap int64) (contract.IssuedAPIKey, error) {
		return bus.Call(ctx, c, contract.RotateAPIKey, caller, contract.RotateAPIKeyRequest{ID: id, OverlapMs: overlap})
	}
	told := func(what string, err error, part string) {
		t.Helper()
		if errs.CodeOf(err) != errs.Conflict || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want a conflict about %s", what, err, part)
		}
	}
	const body = `{"name":"ci","scopes":["agents:read"]}`
	var mu sync.Mutex
	var issued []contract.IssuedAPIKey
	var refusals []error
	var making sync.WaitGroup
	for range 8 {
		making.Go(func() {
			key, err := create(body)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				issued = append(issued, key)
			} else {
				refusals = append(refusals, err)
			}
		})
	}
	making.Wait()
	if len(issued) != 1 {
		t.Fatalf("%d were issued: %v", len(issued), refusals)
	}
	first := issued[0]
	for _, err := range refusals {
		told("at once", err, first.ID)
	}
	_, err = create(body)
	told("again", err, first.ID)
	_, err = create(`{"name":"cd","scopes":["agents:read"]}`)
	told("another", err, "another request")
	list, err := bus.Call(ctx, c, contract.ListAPIKeys, me, contract.ListAPIKeysRequest{})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%+v, %v", list, err)
	}

	next, err := rotate(keyed, first.ID, 3_600_000)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rotate(keyed, first.ID, 3_600_000)
	told("rotate again", err, first.ID)
	for _, text := range []string{first.Key, next.Key} { // a second rotation would have ended the first of them
		if _, err := bus.Call(ctx, c, contract.VerifyAPIKey, rpc.Caller{}, contract.VerifyAPIKeyRequest{Key: text}); err != nil {
			t.Errorf("after the repetition a key does not open: %v", err)
		}
	}
	var kept string
	if err := db.Get(&kept, `SELECT string_agg(idempotent_answers::text, ' ') FROM idempotent_answers`); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{first.Key, next.Key} {
		if strings.Contains(kept, text) || strings.Contains(kept, text[len(text)-52:]) {
			t.Errorf("the text of a key stands in the table: %s", kept)
		}
	}
	if !strings.Contains(kept, first.ID) {
		t.Errorf("the table has no answer: %s", kept)
	}
}
