package inbound

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is not broken, and some senders have nothing else
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"turbocat.io/contracts/orchestrator"
)

// proof is what a request shows for itself.
type proof struct {
	name       string   // of the delivery; "" when the sender gives none
	signed     []byte   // what the signatures are of
	signatures [][]byte // one of which has to be right
	at         string   // when it was signed, in seconds of Unix; "" when that is not signed
	hash       func() hash.Hash
	token      bool // the signatures are the secret itself
}

// secretPrefix begins the secrets of Standard Webhooks.
const secretPrefix = "whsec_"

// verify tells the name of a delivery whose request is of somebody who has one of the secrets; else what is wrong with it. A request that is told
// apart from others by nothing has no name.
func verify(preset string, s orchestrator.TriggerSignature, secrets []string, r orchestrator.HookRequest, now time.Time) (name string, err error) {
	p, err := proofOf(preset, s, r)
	if err != nil {
		return "", err
	}
	if !p.holds(preset, secrets) {
		return "", fmt.Errorf("its signature is not the one of its body under the trigger's secret; compare the secrets, and see that nothing between changes the body")
	}
	if p.at == "" {
		return p.name, nil
	}
	seconds, err := strconv.ParseInt(p.at, 10, 64)
	if err != nil {
		return "", fmt.Errorf("its time %.40q is no number of seconds", p.at)
	}
	if off := now.Sub(time.Unix(seconds, 0)); off.Abs() > orchestrator.HookTolerance {
		return "", fmt.Errorf("it was signed %s ago, and only %s are allowed; compare the clocks, or have it sent anew", off.Round(time.Second), orchestrator.HookTolerance)
	}
	if p.name == "" && len(p.signatures) > 0 {
		p.name = hex.EncodeToString(p.signatures[0])
	}
	return p.name, nil
}

// proofOf reads what a request of a preset shows.
func proofOf(preset string, s orchestrator.TriggerSignature, r orchestrator.HookRequest) (proof, error) {
	p := proof{signed: r.Body, hash: sha256.New, name: r.Headers["idempotency-key"]}
	header := func(name string) (string, error) {
		if value := r.Headers[strings.ToLower(name)]; value != "" {
			return value, nil
		}
		return "", fmt.Errorf("it has no header %s", name)
	}
	var err error
	var text string
	switch preset {
	case orchestrator.PresetStandardWebhooks:
		if text, err = header("webhook-signature"); err != nil {
			return p, err
		}
		if p.name, err = header("webhook-id"); err != nil {
			return p, err
		}
		if p.at, err = header("webhook-timestamp"); err != nil {
			return p, err
		}
		p.signed = []byte(p.name + "." + p.at + "." + string(r.Body))
		for _, one := range strings.Fields(text) {
			if encoded, found := strings.CutPrefix(one, "v1,"); found {
				p.add(base64.StdEncoding.DecodeString(encoded))
			}
		}
	case orchestrator.PresetGitHub:
		if text, err = header("X-Hub-Signature-256"); err != nil {
			return p, err
		}
		p.name = r.Headers["x-github-delivery"]
		p.add(hex.DecodeString(strings.TrimPrefix(text, "sha256=")))
	case orchestrator.PresetStripe:
		if text, err = header("Stripe-Signature"); err != nil {
			return p, err
		}
		for part := range strings.SplitSeq(text, ",") {
			switch key, value, _ := strings.Cut(strings.TrimSpace(part), "="); key {
			case "t":
				p.at = value
			case "v1":
				p.add(hex.DecodeString(value))
			}
		}
		if p.at == "" {
			return p, fmt.Errorf("its header Stripe-Signature has no time t=")
		}
		p.signed = []byte(p.at + "." + string(r.Body))
		p.name = field(r.Body, "id")
	case orchestrator.PresetSlack:
		if text, err = header("X-Slack-Signature"); err != nil {
			return p, err
		}
		if p.at, err = header("X-Slack-Request-Timestamp"); err != nil {
			return p, err
		}
		p.signed = []byte("v0:" + p.at + ":" + string(r.Body))
		p.add(hex.DecodeString(strings.TrimPrefix(text, "v0=")))
		p.name = field(r.Body, "event_id")
	default:
		return p, p.custom(s, r, preset == orchestrator.PresetToken, header)
	}
	return p, nil
}

// custom reads what a request shows where a trigger says.
func (p *proof) custom(s orchestrator.TriggerSignature, r orchestrator.HookRequest, token bool, header func(string) (string, error)) error {
	text, err := header(s.Header)
	if err != nil {
		return err
	}
	text, prefixed := strings.CutPrefix(text, s.Prefix)
	if !prefixed {
		return fmt.Errorf("its header %s does not begin with %q", s.Header, s.Prefix)
	}
	if name := r.Headers[strings.ToLower(s.IDHeader)]; s.IDHeader != "" && name != "" {
		p.name = name
	}
	if p.token = token; token {
		p.signatures = [][]byte{[]byte(text)}
		return nil
	}
	if s.TimestampHeader != "" {
		if p.at, err = header(s.TimestampHeader); err != nil {
			return err
		}
		p.signed = []byte(p.at + "." + string(r.Body))
	}
	p.hash = map[string]func() hash.Hash{"SHA1": sha1.New, "SHA256": sha256.New, "SHA512": sha512.New}[s.Algorithm]
	if s.Encoding == "BASE64" {
		p.add(base64.StdEncoding.DecodeString(text))
	} else {
		p.add(hex.DecodeString(text))
	}
	return nil
}

// add takes a signature that could be decoded.
func (p *proof) add(signature []byte, err error) {
	if err == nil {
		p.signatures = append(p.signatures, signature)
	}
}

// holds tells whether a signature is that of one of the secrets.
func (p *proof) holds(preset string, secrets []string) bool {
	right := 0
	for _, secret := range secrets {
		want := []byte(secret)
		if !p.token {
			key := []byte(secret)
			if encoded, found := strings.CutPrefix(secret, secretPrefix); found && preset == orchestrator.PresetStandardWebhooks {
				key, _ = base64.StdEncoding.DecodeString(encoded) // it was checked when it was set
			}
			mac := hmac.New(p.hash, key)
			mac.Write(p.signed)
			want = mac.Sum(nil)
		}
		for _, got := range p.signatures {
			right |= subtle.ConstantTimeCompare(got, want)
		}
	}
	return right == 1
}

// field gives a text of a JSON object; "" when there is none.
func field(body []byte, name string) string {
	var object map[string]json.RawMessage
	var text string
	if json.Unmarshal(body, &object) != nil || json.Unmarshal(object[name], &text) != nil {
		return ""
	}
	return text
}
