package inbound

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/pkg/expr"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/seal"
	"turbocat.io/services/orchestrator/internal/trigger"
)

// Hook is a trigger of type WEBHOOK.
type Hook struct {
	trigger.Base
	Filter       string
	MaxPerMinute int64
	Preset       string
	Signature    orchestrator.TriggerSignature // of HMAC and TOKEN

	seal.Rotating // the secret

	LastFired  time.Time
	RejectedAt time.Time
	Rejection  string
}

const (
	hookInputs    = `"{{body}}"`
	hookPerMinute = 6000
	minSecret     = 8
	maxSecret     = 500
)

// Hooks makes and changes triggers of type WEBHOOK; it implements trigger.Kind.
type Hooks struct{ keys *seal.Keyring }

// NewHooks makes Hooks whose secrets are sealed by keys.
func NewHooks(keys *seal.Keyring) Hooks { return Hooks{keys} }

// New implements trigger.Kind.
func (k Hooks) New(_ context.Context, b trigger.Base, body json.RawMessage) (trigger.Trigger, string, error) {
	var faults form.Faults
	h := Hook{Base: b, MaxPerMinute: hookPerMinute, Preset: orchestrator.Presets()[0]}
	h.Inputs = []byte(hookInputs)
	secret := ""
	if o, ok := form.Read(body, &faults); ok {
		o.Require(true, "name", "type")
		h.read(o, &faults)
		o.String("secret", &secret, "", minSecret, maxSecret)
		checkSecret(h.Preset, secret, &faults)
	}
	if err := faults.Err("trigger"); err != nil {
		return nil, "", err
	}
	if secret == "" {
		secret = newSecret(h.Preset)
	}
	h.Change(k.keys, h.UserID, h.ID, secret, 0, h.Now)
	return &h, secret, nil
}

// Patched implements trigger.Kind.
func (k Hooks) Patched(_ context.Context, was trigger.Trigger, body json.RawMessage) (trigger.Trigger, error) {
	var faults form.Faults
	h := *was.(*Hook)
	if o, ok := form.Read(body, &faults); ok {
		o.Require(false, "name", "type")
		if o.Has("secret") {
			faults.Add("secret", errs.NotApplicable, "is changed by POST .../rotate, which can let the one before be good for a while")
		}
		h.read(o, &faults)
	}
	return &h, faults.Err("trigger")
}

// Rotated gives a hook with a new secret, that of its sender or, when there is none, one of ours.
func (k Hooks) Rotated(was trigger.Trigger, secret string, overlap time.Duration) (t trigger.Trigger, shown string, err error) {
	before, is := was.(*Hook)
	if !is {
		return was, "", errs.New(errs.Conflict, "only triggers of type WEBHOOK have a secret; this one is of type %s", was.Common().Type)
	}
	h := *before
	if secret == "" {
		secret = newSecret(h.Preset)
	} else {
		var faults form.Faults
		if n := len(secret); n < minSecret || n > maxSecret {
			faults.Add("secret", errs.OutOfRange, "has %d bytes; give %d to %d", n, minSecret, maxSecret)
		}
		checkSecret(h.Preset, secret, &faults)
		if err := faults.Err("request"); err != nil {
			return was, "", err
		}
	}
	h.Change(k.keys, h.UserID, h.ID, secret, overlap, h.Now)
	return &h, secret, nil
}

func checkSecret(preset, secret string, faults *form.Faults) {
	if preset != orchestrator.PresetStandardWebhooks || secret == "" {
		return
	}
	encoded, found := strings.CutPrefix(secret, secretPrefix)
	if key, err := base64.StdEncoding.DecodeString(encoded); !found || err != nil || len(key) < minSecret {
		faults.Add("secret", errs.BadValue, "is no secret of Standard Webhooks; give %s and the base64 of 24 to 64 random bytes, or leave it out to have one made", secretPrefix)
	}
}

func newSecret(preset string) string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it does not fail
	if preset == orchestrator.PresetStandardWebhooks {
		return secretPrefix + base64.StdEncoding.EncodeToString(key)
	}
	return hex.EncodeToString(key)
}

func (h *Hook) read(o form.Object, faults *form.Faults) {
	o.Only(append([]string{
		"inputs", "filter", "maxPerMinute", "preset", "signature", "secret", "path", "previousSecretUntil", "lastRejectedAt", "lastRejection",
	}, trigger.CommonFields...)...)
	h.Base.Read(o)
	readInputs(o, &h.Inputs, hookInputs, faultOfRequest, faults)
	readPerMinute(o, &h.MaxPerMinute, hookPerMinute)
	if o.String("filter", &h.Filter, "", 0, expr.MaxLength); h.Filter != "" {
		if e, err := expr.Compile(h.Filter); err != nil {
			faults.Add("filter", errs.BadExpression, "%s", err)
		} else {
			for _, r := range e.References() {
				if text := faultOfRequest(r.Path.Root()); text != "" {
					faults.Add("filter", errs.BadExpression, "%s", text)
				}
			}
		}
	}
	o.Enum("preset", &h.Preset, orchestrator.Presets()[0], orchestrator.Presets()...)
	h.readSignature(o, faults)
}

// headerName is what a name of a header may be.
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

func (h *Hook) readSignature(o form.Object, faults *form.Faults) {
	hmac, token := h.Preset == orchestrator.PresetHMAC, h.Preset == orchestrator.PresetToken
	if !hmac && !token {
		if o.Has("signature") && !o.IsNull("signature") {
			faults.Add("signature", errs.NotApplicable, "is for the presets HMAC and TOKEN; %s has its own", h.Preset)
		}
		h.Signature = orchestrator.TriggerSignature{}
		return
	}
	s := h.Signature
	raw := json.RawMessage("{}")
	if o.Object("signature", &raw, raw); o.Has("signature") {
		s = orchestrator.TriggerSignature{}
	}
	so, ok := form.Open("signature", raw, faults)
	if !ok {
		return
	}
	so.Only("header", "prefix", "algorithm", "encoding", "timestampHeader", "idHeader")
	if s.Header == "" && hmac {
		s.Header = "X-Signature"
	} else if s.Header == "" {
		s.Header, s.Prefix = "Authorization", "Bearer "
		if so.Has("header") {
			s.Prefix = ""
		}
	}
	for name, into := range map[string]*string{"header": &s.Header, "timestampHeader": &s.TimestampHeader, "idHeader": &s.IDHeader} {
		if so.String(name, into, *into, 0, 100); *into != "" && !headerName.MatchString(*into) {
			faults.Add(so.Field(name), errs.BadValue, "is %s, which is no name of a header", form.Quote(*into))
		}
	}
	so.String("prefix", &s.Prefix, "", 0, 100)
	if token {
		for _, name := range []string{"algorithm", "encoding", "timestampHeader"} {
			if so.Has(name) && !so.IsNull(name) {
				faults.Add(so.Field(name), errs.NotApplicable, "is for the preset HMAC; a token is sent as it is")
			}
		}
	} else {
		if s.Algorithm == "" {
			s.Algorithm, s.Encoding = "SHA256", "HEX"
		}
		so.Enum("algorithm", &s.Algorithm, "SHA256", "SHA256", "SHA1", "SHA512")
		so.Enum("encoding", &s.Encoding, "HEX", "HEX", "BASE64")
	}
	h.Signature = s
}

// faultOfRequest tells what is wrong with reading a root of a request; "" for nothing.
func faultOfRequest(root string) string {
	switch root {
	case "body", "headers", "query":
		return ""
	case "secrets":
		return "secrets are not for what a trigger reads; name them in the agent's config or the step's inputs"
	}
	return "there is no " + root + `; read body, headers["x-name"] or query`
}

// View implements trigger.Trigger.
func (h *Hook) View() orchestrator.Trigger {
	out := h.Base.View()
	out.Filter, out.MaxPerMinute, out.Preset, out.Path = &h.Filter, h.MaxPerMinute, h.Preset, "/hooks/"+h.ID
	if h.Signature != (orchestrator.TriggerSignature{}) {
		out.Signature = &h.Signature
	}
	if h.PreviousSecret != nil && h.PreviousUntil.After(h.Now) {
		out.PreviousSecretUntil = &h.PreviousUntil
	}
	if !h.RejectedAt.IsZero() {
		out.LastRejectedAt, out.LastRejection = &h.RejectedAt, h.Rejection
	}
	if !h.LastFired.IsZero() {
		out.LastFiredAt = &h.LastFired
	}
	return out
}
