package inbound

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // some senders have nothing else
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/seal"
	"turbocat.io/pkg/template"
	"turbocat.io/services/orchestrator/internal/trigger"
)

func sum256(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// TestSignatures verifies requests that the documents of the senders show, and such that are signed as those say.
func TestSignatures(t *testing.T) {
	const slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner" +
		"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	const slackSignature = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
	const standard = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	sha1Of := func(text string) string {
		mac := hmac.New(sha1.New, []byte("a secret"))
		mac.Write([]byte(text))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	for name, c := range map[string]struct {
		preset    string
		signature orchestrator.TriggerSignature
		secret    string
		headers   map[string]string
		body      string
		at        int64
		want      string // the name of the delivery
	}{
		"GitHub's example": {
			preset: orchestrator.PresetGitHub, secret: "It's a Secret to Everybody", body: "Hello, World!", want: "72d3162e",
			headers: map[string]string{"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "x-github-delivery": "72d3162e"},
		},
		"Slack's example": {
			preset: orchestrator.PresetSlack, secret: "8f742231b10e8888abcd99yyyzzz85a5", body: slackBody, at: 1531420618, want: slackSignature,
			headers: map[string]string{"x-slack-signature": "v0=" + slackSignature, "x-slack-request-timestamp": "1531420618"},
		},
		"the example of Standard Webhooks": {
			preset: orchestrator.PresetStandardWebhooks, secret: standard, body: `{"test": 2432232314}`, at: 1614265330, want: "msg_p5jXN8AQM9LWM0D4loKWxJek",
			headers: map[string]string{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		},
		"Stripe": {
			preset: orchestrator.PresetStripe, secret: "whsec_test", body: `{"id":"evt_1"}`, at: 1492774577, want: "evt_1",
			headers: map[string]string{"stripe-signature": "t=1492774577,v1=00,v1=" + sum256("whsec_test", `1492774577.{"id":"evt_1"}`) + ",v0=11"},
		},
		"HMAC with a time": {
			preset: orchestrator.PresetHMAC, signature: orchestrator.TriggerSignature{Header: "X-Sig", Prefix: "sha1=", Algorithm: "SHA1", Encoding: "BASE64", TimestampHeader: "X-Time", IDHeader: "X-Id"},
			secret: "a secret", body: "b", at: 100, want: "7", headers: map[string]string{"x-sig": "sha1=" + sha1Of("100.b"), "x-time": "100", "x-id": "7"},
		},
		"HMAC without an id": {
			preset: orchestrator.PresetHMAC, signature: orchestrator.TriggerSignature{Header: "X-Sig", Algorithm: "SHA256", Encoding: "HEX"}, secret: "a secret", body: "b",
			headers: map[string]string{"x-sig": sum256("a secret", "b")},
		},
		"a token": {
			preset: orchestrator.PresetToken, signature: orchestrator.TriggerSignature{Header: "Authorization", Prefix: "Bearer "}, secret: "a secret", body: "b", want: "k",
			headers: map[string]string{"authorization": "Bearer a secret", "idempotency-key": "k"},
		},
	} {
		now := time.Unix(c.at, 0)
		r := orchestrator.HookRequest{Headers: c.headers, Body: []byte(c.body)}
		if got, err := verify(c.preset, c.signature, []string{"another secret", c.secret}, r, now); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, err := verify(c.preset, c.signature, []string{c.secret + "x"}, r, now); err == nil && c.preset != orchestrator.PresetStandardWebhooks {
			t.Errorf("%s: it holds under another secret", name)
		}
		if _, err := verify(c.preset, c.signature, nil, r, now); err == nil {
			t.Errorf("%s: it holds without a secret", name)
		}
		if c.preset != orchestrator.PresetToken {
			forged := r
			forged.Body = []byte(c.body + " ")
			if _, err := verify(c.preset, c.signature, []string{c.secret}, forged, now); err == nil {
				t.Errorf("%s: another body holds", name)
			}
		}
		if c.at > 0 {
			for _, off := range []time.Duration{-orchestrator.HookTolerance, orchestrator.HookTolerance} {
				if _, err := verify(c.preset, c.signature, []string{c.secret}, r, now.Add(off)); err != nil {
					t.Errorf("%s: %s off: %v", name, off, err)
				}
				if _, err := verify(c.preset, c.signature, []string{c.secret}, r, now.Add(off+off/300)); err == nil {
					t.Errorf("%s: a replay %s off holds", name, off)
				}
			}
		}
		for header := range c.headers {
			without := map[string]string{}
			for k, v := range c.headers {
				if k != header {
					without[k] = v
				}
			}
			if _, err := verify(c.preset, c.signature, []string{c.secret}, orchestrator.HookRequest{Headers: without, Body: r.Body}, now); err == nil && !strings.Contains(header, "id") && !strings.Contains(header, "key") && !strings.Contains(header, "delivery") {
				t.Errorf("%s: it holds without %s", name, header)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("STRIPE", "t=1,v1=00", `{"id":"x"}`)
	f.Add("SLACK", "v0=00", `{"event_id":7}`)
	f.Fuzz(func(t *testing.T, preset, header, body string) {
		headers := map[string]string{}
		for _, name := range []string{"stripe-signature", "x-slack-signature", "x-slack-request-timestamp", "x-hub-signature-256", "webhook-signature", "webhook-id", "webhook-timestamp", "x-signature"} {
			headers[name] = header
		}
		s := orchestrator.TriggerSignature{Header: "X-Signature", Algorithm: "SHA256", Encoding: "HEX"}
		if preset != orchestrator.PresetToken {
			if name, err := verify(preset, s, []string{"a secret that nobody guesses"}, orchestrator.HookRequest{Headers: headers, Body: []byte(body)}, time.Unix(1, 0)); err == nil {
				t.Errorf("%s %q %q passes as %q", preset, header, body, name)
			}
		}
	})
}

func detail(err error) string {
	var e *errs.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	text := ""
	for _, d := range e.Details {
		text += d.Field + " " + string(d.Code) + "\n"
	}
	return strings.TrimSpace(text)
}

func TestBodies(t *testing.T) {
	keys, err := seal.NewKeyring("triggers", seal.Keys{Current: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}
	hooks := NewHooks(keys)
	base := trigger.Base{ID: "t", UserID: "u", Type: orchestrator.TriggerTypeWebhook, Enabled: true}
	for body, want := range map[string]string{
		`{"name":"n","type":"WEBHOOK"}`: "",
		`{}`:                            "name required\ntype required",
		`{"name":"n","type":"WEBHOOK","preset":"PAYPAL","inputs":7,"filter":"body.","maxPerMinute":0,"cron":"@daily"}`: "cron unknown_field\ninputs bad_type\nmaxPerMinute out_of_range\nfilter bad_expression\npreset bad_enum",
		`{"name":"n","type":"WEBHOOK","inputs":{"a":"{{secrets.K}}","b":["{{inputs.x}}"]}}`:                            "inputs.a not_applicable\ninputs.b[0] not_applicable",
		`{"name":"n","type":"WEBHOOK","filter":"secrets.K == 1"}`:                                                      "filter bad_expression",
		`{"name":"n","type":"WEBHOOK","secret":"whsec_short"}`:                                                         "secret bad_value",
		`{"name":"n","type":"WEBHOOK","preset":"GITHUB","secret":"short"}`:                                             "secret out_of_range",
		`{"name":"n","type":"WEBHOOK","preset":"GITHUB","signature":{"header":"x"}}`:                                   "signature not_applicable",
		`{"name":"n","type":"WEBHOOK","preset":"HMAC","signature":{"header":"a b","algorithm":"MD5","what":1}}`:        "signature.what unknown_field\nsignature.header bad_value\nsignature.algorithm bad_enum",
		`{"name":"n","type":"WEBHOOK","preset":"TOKEN","signature":{"header":"X-Gitlab-Token","algorithm":"SHA1"}}`:    "signature.algorithm not_applicable",
		`{"name":"n","type":"WEBHOOK","preset":"HMAC","signature":null}`:                                               "",
	} {
		made, secret, err := hooks.New(t.Context(), base, json.RawMessage(body))
		if got := detail(err); err != nil && got != want || err == nil && (want != "" || secret == "" || made == nil) {
			t.Errorf("%s: %q, want %q (%v)", body, got, want, err)
		}
	}
	made, _, err := hooks.New(t.Context(), base, json.RawMessage(`{"name":"n","type":"WEBHOOK","preset":"TOKEN"}`))
	if err != nil || made.View().Signature.Header != "Authorization" || made.View().Path != "/hooks/t" {
		t.Errorf("%+v, %v", made, err)
	}
	if _, err := hooks.Patched(t.Context(), made, json.RawMessage(`{"secret":"12345678"}`)); detail(err) != "secret not_applicable" {
		t.Error(err)
	}
	if _, _, err := hooks.Rotated(&Listener{}, "", 0); errs.CodeOf(err) != errs.Conflict {
		t.Error(err)
	}
	listeners := NewListeners(nil)
	base.Type = orchestrator.TriggerTypeEvent
	for body, want := range map[string]string{
		`{"name":"n","type":"EVENT"}`: "eventTypes required",
		`{"name":"n","type":"EVENT","eventTypes":["io.turbocat.nothing"],"filter":"inputs.n","inputs":{"a":"{{Body.x}}"}}`: "eventTypes[0] bad_enum\nfilter bad_expression\ninputs.a not_applicable",
	} {
		if _, _, err := listeners.New(t.Context(), base, json.RawMessage(body)); detail(err) != want {
			t.Errorf("%s: %q, want %q", body, detail(err), want)
		}
	}
}

func TestDocumentsAndInputs(t *testing.T) {
	h := &Hook{Signature: orchestrator.TriggerSignature{Header: "X-Token"}}
	for name, c := range map[string]struct {
		kind, body, inputs, want, fault string
	}{
		"JSON":           {"application/json", `{"a":{"b":[1,2]}}`, `{"x":"{{body.a.b[1]}}","y":"{{headers.x-who}}: {{query.q}}","z":"{{body.none}}"}`, `{"x":2,"y":"me: 1","z":null}`, ""},
		"the body":       {"application/json", `{"a": 1}`, `"{{body}}"`, `{"a":1}`, ""},
		"no object":      {"application/json", `[1]`, `"{{body}}"`, "", "no object"},
		"a form":         {"application/x-www-form-urlencoded", "a=1&b=x&b=y&payload=%7B%22k%22%3A2%7D", `{"a":"{{body.a}}","b":"{{body.b}}","k":"{{body.payload.k}}"}`, `{"a":"1","b":["x","y"],"k":2}`, ""},
		"no form":        {"application/x-www-form-urlencoded", "%zz", `{}`, "", "no form"},
		"text":           {"text/plain", "hello", `{"t":"{{body}}"}`, `{"t":"hello"}`, ""},
		"bytes":          {"image/png", "\xff\xfe", `{"t":"{{body}}"}`, `{"t":"//4="}`, ""},
		"nothing":        {"", "", `{"t":"{{body}}"}`, `{"t":null}`, ""},
		"broken":         {"application/json", "{", `{}`, "", "not valid JSON"},
		"hidden headers": {"", "", `{"a":"{{headers.authorization}}","b":"{{headers.x-token}}","c":"{{headers.cookie}}"}`, `{"a":null,"b":null,"c":null}`, ""},
		"deep":           {"application/json", strings.Repeat("[", 300) + strings.Repeat("]", 300), `{}`, "", "deeper"},
	} {
		r := orchestrator.HookRequest{Body: []byte(c.body), Query: map[string]string{"q": "1"}, Headers: map[string]string{
			"content-type": c.kind, "x-who": "me", "x-token": "secret", "authorization": "secret", "cookie": "secret",
		}}
		document, err := documentOf(h, r)
		var got []byte
		if err == nil {
			got, err = render([]byte(c.inputs), func(p template.Path) (json.RawMessage, bool) { return template.Walk(document, p) })
		}
		if c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) || c.fault == "" && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestDepths(t *testing.T) {
	for event, want := range map[string]int{
		`{"type":"io.turbocat.execution.completed.v1","data":{"depth":3}}`: 4,
		`{"type":"io.turbocat.execution.completed.v1","data":{}}`:          1,
		`{"type":"order.placed","data":{"depth":3}}`:                       0,
		`{"type":"order.placed","causationdepth":3}`:                       4,
		`{"type":"order.placed","causationdepth":"9"}`:                     10,
		`{"type":"order.placed","causationdepth":-7}`:                      1,
		`{"type":"order.placed","causationdepth":4000000000000000}`:        11,
		`{"type":"order.placed","data":"text","causationdepth":3}`:         4,
		`{"type":"order.placed","data":"text"}`:                            0,
		``:                                                                 0,
	} {
		if got := depthAfter([]byte(event)); got != want {
			t.Errorf("%s: %d, want %d", event, got, want)
		}
	}
	if tooDeep(10) != nil || tooDeep(11) == nil {
		t.Error("the bound is not 10")
	}
	r := orchestrator.HookRequest{Body: []byte(`{"depth":2}`), Headers: map[string]string{"ce-type": "io.turbocat.execution.completed.v1"}}
	if got := depthAfter(eventOf(r)); got != 3 {
		t.Errorf("of an event in headers: %d", got)
	}
}
