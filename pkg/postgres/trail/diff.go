package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"turbocat.io/contracts/audit"
)

const (
	// maxChanges is how many places a diff tells.
	maxChanges = 200
	// maxValue is how many bytes of JSON a value may have to be told; of a larger one length and hash are.
	maxValue = 1024
	// maxDepth is how far down places are told apart.
	maxDepth = 12
)

// Diff tells where two things differ as JSON. Values that may be secret are masked, on both sides alike, so that a change of them
// shows and nothing else. nil is a thing that is not there.
func Diff(before, after any) ([]audit.TrailChange, error) {
	a, err := decode(before)
	if err != nil {
		return nil, err
	}
	b, err := decode(after)
	if err != nil {
		return nil, err
	}
	d := differ{}
	d.value("", a, b, trust{}, 0)
	if d.more > 0 {
		d.changes = append(d.changes, audit.TrailChange{Path: "…", After: quote(strconv.Itoa(d.more) + " more changes")})
	}
	return d.changes, nil
}

// absent stands for a value that is not there, which null is.
type absent struct{}

func decode(v any) (any, error) {
	if v == nil {
		return absent{}, nil
	}
	raw, err := encode(v)
	if err != nil {
		return nil, err
	}
	var out any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return out, d.Decode(&out)
}

type differ struct {
	changes []audit.TrailChange
	more    int
}

// trust says what of a value may be told.
type trust struct {
	secret bool // no text of it
	code   bool // no more than that it has changed
}

func (d *differ) value(path string, before, after any, t trust, depth int) {
	if reflect.DeepEqual(before, after) {
		return
	}
	if depth < maxDepth {
		if a, b, both := containers[map[string]any](before, after); both {
			d.object(path, a, b, t, depth)
			return
		}
		if a, b, both := containers[[]any](before, after); both {
			for i := range max(len(a), len(b)) {
				d.value(path+"["+strconv.Itoa(i)+"]", at(a, i), at(b, i), t, depth+1)
			}
			return
		}
	}
	if len(d.changes) >= maxChanges {
		d.more++
		return
	}
	d.changes = append(d.changes, audit.TrailChange{Path: path, Before: tell(before, t), After: tell(after, t)})
}

// containers gives two values as the same kind of container, of which one may be absent and the other is not empty.
func containers[C map[string]any | []any](before, after any) (a, b C, both bool) {
	a, isA := before.(C)
	b, isB := after.(C)
	_, noA := before.(absent)
	_, noB := after.(absent)
	return a, b, isA && isB || isA && noB && len(a) > 0 || noA && isB && len(b) > 0
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

func (d *differ) object(path string, before, after map[string]any, t trust, depth int) {
	keys := slices.Sorted(maps.Keys(before))
	for key := range after {
		if _, there := before[key]; !there {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		below := key
		if path != "" {
			below = path + "." + key
		}
		if below == "updatedAt" { // the entry has its time
			continue
		}
		d.value(text(below), member(before, key), member(after, key), t.below(key), depth+1)
	}
}

func member(object map[string]any, key string) any {
	if v, there := object[key]; there {
		return v
	}
	return absent{}
}

var (
	// secretKey finds the names of fields whose values are secret, or the objects that hold some.
	secretKey = regexp.MustCompile(`(?i)passw|passphrase|secret|token|authori[sz]ation|cookie|credential|api[-_]?key|private[-_]?key|access[-_]?key|signature|bearer|^(auth|headers|env|environment)$`)
	// plainKey finds fields below those that are none.
	plainKey = regexp.MustCompile(`(?i)^(type|accept|content-type|user-agent|(max|prompt|completion|total)[a-z]*tokens)$`)
	codeKey  = regexp.MustCompile(`^(source|files)$`)
	// reference is the use of a secret by its name, which says nothing about it.
	reference = regexp.MustCompile(`^\s*(Bearer\s+)?\{\{\s*secrets\.[A-Za-z0-9_.-]+\s*\}\}\s*$`)
	// token finds what looks like a secret wherever it stands.
	token = regexp.MustCompile(`://[^/\s@]+@|\b(sk-[A-Za-z0-9_-]{12,}|tc_live_[A-Za-z0-9_]+|gh[pousr]_[A-Za-z0-9]{20,}|xox[a-z]-[A-Za-z0-9-]+|AKIA[0-9A-Z]{16}|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*`)
	// parameter finds such values in the query of an address.
	parameter = regexp.MustCompile(`(?i)([?&][^=&\s]*(?:passw|secret|token|key|sig|auth)[^=&\s]*=)[^&\s"]+`)
)

func (t trust) below(key string) trust {
	if t.secret && plainKey.MatchString(key) {
		return trust{code: t.code}
	}
	return trust{
		secret: t.secret || secretKey.MatchString(key) && !plainKey.MatchString(key),
		code:   t.code || codeKey.MatchString(key),
	}
}

// tell gives a value as it may be told; nil for one that is absent.
func tell(v any, t trust) json.RawMessage {
	if _, gone := v.(absent); gone {
		return nil
	}
	raw, err := encode(mask(v, t))
	switch {
	case err != nil: // what was decoded encodes
		return quote(audit.Masked)
	case t.code && len(raw) > 2, len(raw) > maxValue:
		sum := sha256.Sum256(raw)
		return quote(fmt.Sprintf("[%d bytes, sha256 %s]", len(raw), hex.EncodeToString(sum[:8])))
	}
	return raw
}

// mask gives a value without what is secret in it.
func mask(v any, t trust) any {
	switch v := v.(type) {
	case string:
		if t.secret && v != "" && !reference.MatchString(v) {
			return audit.Masked
		}
		return strings.ReplaceAll(parameter.ReplaceAllString(token.ReplaceAllStringFunc(v, maskToken), "${1}"+audit.Masked), "\x00", "")
	case json.Number:
		if t.secret {
			return audit.Masked
		}
	case []any:
		masked := make([]any, len(v))
		for i, e := range v {
			masked[i] = mask(e, t)
		}
		return masked
	case map[string]any:
		masked := make(map[string]any, len(v))
		for key, e := range v {
			masked[key] = mask(e, t.below(key))
		}
		return masked
	}
	return v
}

// maskToken keeps of an address where it leads.
func maskToken(s string) string {
	if strings.HasPrefix(s, "://") {
		return "://" + audit.Masked + "@"
	}
	return audit.Masked
}

func quote(s string) json.RawMessage {
	raw, err := encode(s)
	if err != nil {
		return json.RawMessage(`""`) // a text encodes
	}
	return raw
}
