package trail_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/audit"
	"turbocat.io/pkg/postgres/trail"
)

// shown gives a diff as one line for each change.
func shown(t *testing.T, before, after string) string {
	t.Helper()
	thing := func(s string) any {
		if s == "" {
			return nil
		}
		return json.RawMessage(s)
	}
	changes, err := trail.Diff(thing(before), thing(after))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s: %s > %s\n", c.Path, c.Before, c.After)
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	for _, tt := range []struct{ name, before, after, want string }{
		{"nothing", `{"a":1,"updatedAt":"x"}`, `{"a":1,"updatedAt":"y"}`, ""},
		{"made", "", `{"name":"x","steps":[{"key":"a"}],"tags":[],"input":null}`, "input:  > null\nname:  > \"x\"\nsteps[0].key:  > \"a\"\ntags:  > []\n"},
		{"deleted", `{"name":"<x>"}`, "", "name: \"<x>\" > \n"},
		{"changed", `{"a":{"b":[1,2]},"c":1e3}`, `{"a":{"b":[1,3,4]},"c":"1e3"}`, "a.b[1]: 2 > 3\na.b[2]:  > 4\nc: 1e3 > \"1e3\"\n"},
		{
			"secrets", `{"config":{"auth":{"type":"bearer","token":"old"},"headers":{"X-Shop":"k1","Accept":"text/plain"},"maxTokens":5}}`,
			`{"config":{"auth":{"type":"basic","token":"new","password":12},"headers":{"X-Shop":"{{secrets.SHOP}}","Accept":"*/*"},"maxTokens":6}}`,
			`config.auth.password:  > "[masked]"` + "\n" + `config.auth.token: "[masked]" > "[masked]"` + "\n" + `config.auth.type: "bearer" > "basic"` + "\n" +
				`config.headers.Accept: "text/plain" > "*/*"` + "\n" + `config.headers.X-Shop: "[masked]" > "{{secrets.SHOP}}"` + "\n" + "config.maxTokens: 5 > 6\n",
		},
		{"in addresses", `{"url":"https://u:p@h/x?a=1&api_key=zz&b=2"}`, `{"url":"https://h"}`, `url: "https://[masked]@h/x?a=1&api_key=[masked]&b=2" > "https://h"` + "\n"},
		{"in texts", `{"note":"use sk-abcdefghijklmnop1234 now"}`, `{"note":""}`, `note: "use [masked] now" > ""` + "\n"},
		{"code", `{"source":"a()"}`, `{"source":""}`, "source: \"[5 bytes, sha256 " + `01ec7cc1e8c2f30e` + "]\" > \"\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shown(t, tt.before, tt.after)
			if tt.name == "code" { // the hash is not the point
				got, tt.want = got[:26], tt.want[:26]
			}
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// TestDiffIsBounded wants an entry to stay small whatever is changed.
func TestDiffIsBounded(t *testing.T) {
	many := map[string]any{}
	for i := range 5000 {
		many[fmt.Sprintf("k%04d", i)] = strings.Repeat("x", 5000)
	}
	changes, err := trail.Diff(nil, many)
	if err != nil || len(changes) != 201 || string(changes[200].After) != `"4800 more changes"` || !strings.HasPrefix(string(changes[0].After), `"[5002 bytes, sha256 `) {
		t.Errorf("%d changes, %v", len(changes), err)
	}
	deep := strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)
	changes, err = trail.Diff(json.RawMessage(deep), nil)
	if err != nil || len(changes) != 1 || len(changes[0].Path) > 100 || len(changes[0].Before) > 200 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
}

// TestNoSecretIsTold draws things with a secret in some place that is named as one, and wants no diff to hold it.
func TestNoSecretIsTold(t *testing.T) {
	const canary = "canary-7f3a9"
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"password", "apiKey", "api_key", "clientSecret", "Authorization", "accessToken", "cookie", "credentials", "auth", "headers", "env", "privateKey", "X-Api-Key"}).Draw(t, "name")
		var value any = canary + rapid.StringN(0, 2000, -1).Draw(t, "rest")
		for range rapid.IntRange(0, 4).Draw(t, "below") {
			if rapid.Bool().Draw(t, "list") {
				value = []any{value}
			} else {
				value = map[string]any{rapid.SampledFrom([]string{"a", "value", "x"}).Draw(t, "key"): value}
			}
		}
		thing := map[string]any{name: value}
		for range rapid.IntRange(0, 15).Draw(t, "above") {
			thing = map[string]any{"config": thing}
		}
		for _, pair := range [][2]any{{nil, thing}, {thing, nil}, {thing, map[string]any{}}} {
			changes, err := trail.Diff(pair[0], pair[1])
			raw, _ := json.Marshal(changes)
			if err != nil || len(changes) == 0 || strings.Contains(string(raw), canary) {
				t.Fatalf("%s, %v", raw, err)
			}
		}
	})
}

func TestMaskedIsAConstantOfTheContract(t *testing.T) {
	if got := shown(t, "", `{"password":"x"}`); got != `password:  > "`+audit.Masked+"\"\n" {
		t.Error(got)
	}
}
