package identity

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

const canary = "canary-7f3a\"+/=&%"

// enrol makes a user.
func enrol(t *testing.T, c *bus.Conn, email string) rpc.Caller {
	t.Helper()
	session, err := bus.Call(context.Background(), c, contract.Register, rpc.Caller{}, contract.RegisterRequest{Email: email, Password: secret, FullName: "N"})
	if err != nil {
		t.Fatal(err)
	}
	return rpc.Caller{UserID: session.User.ID, Role: rpc.RoleUser}
}

func putSecret(t *testing.T, c *bus.Conn, who rpc.Caller, name, value string) contract.PutSecretResponse {
	t.Helper()
	stored, err := bus.Call(context.Background(), c, contract.PutSecret, who, contract.PutSecretRequest{Name: name, Body: valueBody(t, value)})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func valueBody(t *testing.T, value string) json.RawMessage {
	t.Helper()
	quoted, err := json.Marshal(map[string]string{"value": value})
	if err != nil {
		t.Fatal(err)
	}
	return quoted
}

func TestSecretsAreWrittenAndNeverTold(t *testing.T) {
	c, ctx := start(t), context.Background()
	ada, bob := enrol(t, c, "ada@example.com"), enrol(t, c, "bob@example.com")
	made := putSecret(t, c, ada, "KEY", canary)
	if !made.Created || made.Secret.Name != "KEY" || !made.Secret.CreatedAt.Equal(made.Secret.UpdatedAt) {
		t.Errorf("made: %+v", made)
	}
	changed := putSecret(t, c, ada, "KEY", canary+"2")
	if changed.Created || !changed.Secret.CreatedAt.Equal(made.Secret.CreatedAt) || changed.Secret.UpdatedAt.Before(made.Secret.UpdatedAt) {
		t.Errorf("changed: %+v after %+v", changed, made)
	}
	for _, name := range []string{"a", "b-c", "_d"} {
		putSecret(t, c, ada, name, canary)
	}
	putSecret(t, c, bob, "OTHER", canary)
	names := func(who rpc.Caller, page rpc.Page) []string {
		list, err := bus.Call(ctx, c, contract.ListSecrets, who, contract.ListSecretsRequest{Page: page})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := json.Marshal(list); err != nil || strings.Contains(string(text), "canary") {
			t.Errorf("the list tells a value: %s %v", text, err)
		}
		names := []string{}
		for _, s := range list.Items {
			names = append(names, s.Name)
		}
		return names
	}
	if got := names(ada, rpc.Page{SortBy: "name", SortOrder: "asc"}); !slices.Equal(got, []string{"KEY", "_d", "a", "b-c"}) && !slices.Equal(got, []string{"_d", "a", "b-c", "KEY"}) {
		t.Errorf("the list is %v", got)
	}
	if got := names(ada, rpc.Page{Search: "b-"}); !slices.Equal(got, []string{"b-c"}) {
		t.Errorf("the search finds %v", got)
	}
	if got := names(bob, rpc.Page{}); !slices.Equal(got, []string{"OTHER"}) {
		t.Errorf("bob has %v", got)
	}
	remove := func(who rpc.Caller, name string) errs.Code {
		_, err := bus.Call(ctx, c, contract.DeleteSecret, who, contract.SecretRequest{Name: name})
		return errs.CodeOf(err)
	}
	if got := remove(bob, "KEY"); got != errs.NotFound {
		t.Errorf("bob deletes ada's: %q", got)
	}
	if got := remove(ada, "KEY"); got != "" {
		t.Errorf("delete: %q", got)
	}
	if got := remove(ada, "KEY"); got != errs.NotFound {
		t.Errorf("delete again: %q", got)
	}
	if again := putSecret(t, c, ada, "KEY", canary); !again.Created {
		t.Errorf("made again: %+v", again)
	}
}

func TestRefusedSecretsAreNotRepeated(t *testing.T) {
	c, ctx := start(t), context.Background()
	ada := enrol(t, c, "ada@example.com")
	for body, want := range map[string]errs.DetailCode{
		`{"value":["` + "canary" + `"]}`:      errs.BadType,
		`{"value":"canary","extra":"canary"}`: errs.UnknownField,
		`{"value":12345678}`:                  errs.BadType,
		`{"value":"canary\u0000"}`:            errs.BadValue,
		`{"value":""}`:                        errs.OutOfRange,
		`{"value":null}`:                      errs.Required,
		`{}`:                                  errs.Required,
		`"canary"`:                            errs.BadType,
		`{"value":"canary` + strings.Repeat("x", contract.MaxSecretValue) + `"}`:   errs.OutOfRange,
		`{"value":"canary` + strings.Repeat("ä", contract.MaxSecretValue/2) + `"}`: errs.OutOfRange,
	} {
		_, err := bus.Call(ctx, c, contract.PutSecret, ada, contract.PutSecretRequest{Name: "KEY", Body: json.RawMessage(body)})
		fault := errs.From(err)
		if fault.Code != errs.Validation || len(fault.Details) != 1 || fault.Details[0].Code != want {
			t.Errorf("%.40s: %+v", body, fault)
		}
		if text, err := json.Marshal(fault); err != nil || strings.Contains(string(text), "canary") || strings.Contains(string(text), "12345678") {
			t.Errorf("%.40s is repeated in %s", body, text)
		}
	}
	for _, name := range []string{"", "1a", "a b", "a.b", "ä", strings.Repeat("x", 129), "a\n"} {
		_, err := bus.Call(ctx, c, contract.PutSecret, ada, contract.PutSecretRequest{Name: name, Body: valueBody(t, "v")})
		if fault := errs.From(err); fault.Code != errs.Validation || len(fault.Details) != 1 || fault.Details[0].Field != "name" {
			t.Errorf("the name %q: %+v", name, fault)
		}
	}
	putSecret(t, c, ada, strings.Repeat("x", 128), strings.Repeat("v", contract.MaxSecretValue))
	_, err := bus.Call(ctx, c, contract.PutSecret, rpc.System(""), contract.PutSecretRequest{Name: "KEY", Body: valueBody(t, "v")})
	wantCode(t, "a secret of nobody", err, errs.Unauthorized)
	_, err = bus.Call(ctx, c, contract.PutSecret, rpc.Caller{UserID: "01930000-0000-7000-8000-000000000001"}, contract.PutSecretRequest{Name: "KEY", Body: valueBody(t, "v")})
	wantCode(t, "a secret of a user who is gone", err, errs.Unauthorized)
}
