package redact

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"turbocat.io/contracts/runner"
)

const canary = "cänary-7f3a\"\\ +/=&%<x>\n9c1e"

// written are ways in which code writes a text.
func written(s string) map[string]string {
	quoted, _ := json.Marshal(s)
	inner := string(quoted[1 : len(quoted)-1])
	twice, _ := json.Marshal(inner)
	var bare bytes.Buffer
	e := json.NewEncoder(&bare)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return map[string]string{
		"raw": s, "JSON": inner, "JSON in JSON": string(twice[1 : len(twice)-1]), "bare JSON": strings.Trim(strings.TrimSpace(bare.String()), `"`),
		"query": url.QueryEscape(s), "path": url.PathEscape(s), "lower": strings.ToLower(url.QueryEscape("ÿ/")) + url.PathEscape(s),
		"base64": base64.StdEncoding.EncodeToString([]byte(s)), "basic": base64.StdEncoding.EncodeToString([]byte("user:" + s + ":x")),
		"base64url": base64.RawURLEncoding.EncodeToString([]byte("ab" + s)), "hex": hex.EncodeToString([]byte(s)), "Go": fmt.Sprintf("%+q", s),
	}
}

// tells gives the ways in which a text tells a secret.
func tells(text, secret string) (ways []string) {
	for name, form := range map[string]string{
		"raw": secret, "base64": base64.StdEncoding.EncodeToString([]byte(secret)), "query": url.QueryEscape(secret), "path": url.PathEscape(secret),
	} {
		if strings.Contains(text, form) {
			ways = append(ways, name)
		}
	}
	return ways
}

func TestEveryWayToWriteASecretIsMasked(t *testing.T) {
	r := New(map[string]string{"A": canary, "B": "another-secret"})
	for name, text := range written(canary) {
		got := r.Text("before " + text + " after")
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, Mask) || strings.Contains(got, "9c1e") || len(tells(got, canary)) > 0 {
			t.Errorf("%s: %q becomes %q", name, text, got)
		}
		raw, err := json.Marshal(map[string]any{"a": []string{text, "kept"}, text: 1})
		if err != nil {
			t.Fatal(err)
		}
		masked := r.JSON(raw)
		var back map[string]any
		if err := json.Unmarshal(masked, &back); err != nil || len(tells(string(masked), canary)) > 0 || !strings.Contains(string(masked), `"kept"`) || strings.Count(string(masked), Mask) < 2 {
			t.Errorf("%s: %s becomes %s, %v", name, raw, masked, err)
		}
	}
	if got := r.Text("both " + canary + "another-secret"); got != "both "+Mask {
		t.Errorf("side by side: %q", got)
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	r := New(map[string]string{"A": canary, "S": "abc", "E": ""})
	for _, text := range []string{"", "abc", "cänary", "a 100 % + / = & text", "{\"a\":\t[ 1e400, \"\\u0063\", null ] }"} {
		if got := r.Text(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	raw := []byte("{ \"a\" : 1e400,\t\"b\":[\"\\u0063\",null,true,-0.5] }")
	if got := r.JSON(raw); !bytes.Equal(got, raw) {
		t.Errorf("%s becomes %s", raw, got)
	}
	if New(map[string]string{"S": "abc"}) != nil || New(nil) != nil {
		t.Error("there is a redactor of nothing")
	}
	var none *Redactor
	if none.Text("x") != "x" || string(none.JSON([]byte("1"))) != "1" || none.Error(nil) != nil || !errors.Is(none.Error(context.Canceled), context.Canceled) {
		t.Error("no redactor changes what it is given")
	}
}

func TestEscapesAndNumbersInJSON(t *testing.T) {
	r := New(map[string]string{"A": "12345678", "B": "top-secret"})
	for raw, want := range map[string]string{
		`[12345678,1.5]`:                    `["***",1.5]`,
		`{"n":-12345678e3}`:                 `{"n":"***"}`,
		`["\u0074op-secr\u0065t"]`:          `["***"]`,
		`{"top-secret":{"top-secret":"x"}}`: `{"***":{"***":"x"}}`,
		`["a","top-secret\n","12345678"]`:   `["a","***\n","***"]`,
		`"{\"a\":\"top-secret\"}"`:          `"{\"a\":\"***\"}"`,
		`["top","-secret"]`:                 `["top","-secret"]`,
	} {
		if got := string(r.JSON([]byte(raw))); got != want {
			t.Errorf("%s becomes %s, want %s", raw, got, want)
		}
	}
}

func TestWhatWasCutIsMasked(t *testing.T) {
	const secret = "0123456789abcdefghij"
	r := New(map[string]string{"A": secret})
	for text, want := range map[string]string{
		"the body begins: 0123456789abcde":       "the body begins: ***",
		"0123456789ab... (line cut at 64 KiB)":   "***... (line cut at 64 KiB)",
		"6789abcdefghij is where a line went on": "*** is where a line went on",
		"012345678 is less than half":            "012345678 is less than half",
	} {
		if got := r.Text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	r := New(map[string]string{"A": canary})
	fault := &runner.StepError{Code: runner.CodeError, Message: canary, Type: canary, Stack: "at " + canary, Retryable: true, RetryAfterMs: 5}
	var got *runner.StepError
	if !errors.As(r.Error(fmt.Errorf("x: %w", fault)), &got) || got.Message != Mask || got.Type != Mask || got.Stack != "at "+Mask || !got.Retryable || got.RetryAfterMs != 5 || got.Code != fault.Code {
		t.Errorf("%+v", got)
	}
	if fault.Message != canary {
		t.Error("it changes what it is given")
	}
	plain := r.Error(fmt.Errorf("%s: %w", canary, context.DeadlineExceeded))
	if !errors.Is(plain, context.DeadlineExceeded) || strings.Contains(fmt.Sprintf("%v %+v", plain, plain), "9c1e") {
		t.Errorf("%v", plain)
	}
}

// Whatever JSON there is, what comes out is JSON that tells no secret, and the same where there was none.
func TestJSONStaysJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(least, 40, 80).Draw(t, "secret")
		if len(secret) < least {
			return
		}
		r := New(map[string]string{"A": secret})
		text := rapid.String()
		value := map[string]any{}
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			s := text.Draw(t, "text")
			if rapid.Bool().Draw(t, "tells") {
				s += secret + text.Draw(t, "more")
			}
			value[text.Draw(t, "name")] = s
		}
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		masked := r.JSON(raw)
		var back map[string]string
		if err := json.Unmarshal(masked, &back); err != nil {
			t.Fatalf("%s becomes %s: %v", raw, masked, err)
		}
		for name, s := range back {
			if (strings.Contains(s, secret) || strings.Contains(name, secret)) && !strings.Contains(Mask, secret) {
				t.Fatalf("%s becomes %s", raw, masked)
			}
		}
	})
}
