package account

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"turbocat.io/contracts/errs"
)

const (
	maxAvatarURL   = 2048
	maxPreferences = 16 << 10
)

// readOnly are the fields of a User that a client may send back but not change.
var readOnly = [...]string{"id", "email", "role", "active", "createdAt", "lastLoginAt"}

// profilePatch is a valid change of a user's own account; a nil func leaves its field.
type profilePatch []func(*User)

// parseProfile reads a JSON object of fullName, avatarUrl and preferences. The error names every fault.
func parseProfile(body json.RawMessage) (profilePatch, error) {
	var fields map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &fields) != nil || fields == nil {
		code := errs.BadType
		if !utf8.Valid(body) || !json.Valid(body) {
			code = errs.BadJSON
		}
		return nil, errs.Invalid("profile", []errs.Detail{{Field: "body", Message: "the body is not a JSON object in UTF-8; send one with fullName, avatarUrl or preferences", Code: code}})
	}
	var patch profilePatch
	var faults []errs.Detail
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var change func(*User)
		var details []errs.Detail
		switch value := fields[name]; {
		case name == "fullName":
			change, details = parseFullName(value)
		case name == "avatarUrl":
			change, details = parseAvatarURL(value)
		case name == "preferences":
			change, details = parsePreferences(value)
		case slices.Contains(readOnly[:], name):
			continue
		default:
			details = []errs.Detail{{Field: shown(name), Message: "the field is unknown; use fullName, avatarUrl or preferences", Code: errs.UnknownField}}
		}
		faults = append(faults, details...)
		patch = append(patch, change)
	}
	if len(faults) > 0 {
		return nil, errs.Invalid("profile", faults)
	}
	return patch, nil
}

func (p profilePatch) apply(u *User) {
	for _, change := range p {
		change(u)
	}
}

func parseFullName(value json.RawMessage) (func(*User), []errs.Detail) {
	var name *string
	if json.Unmarshal(value, &name) != nil || name == nil {
		return nil, []errs.Detail{{Field: "fullName", Message: "the full name is not a string; give 1 to 200 characters", Code: errs.BadType}}
	}
	trimmed := strings.TrimSpace(*name)
	return func(u *User) { u.FullName = trimmed }, checkFullName(trimmed)
}

func parseAvatarURL(value json.RawMessage) (func(*User), []errs.Detail) {
	var address *string
	if json.Unmarshal(value, &address) != nil {
		return nil, []errs.Detail{{Field: "avatarUrl", Message: "the avatar URL is neither a string nor null; give an http or https address, or null for none", Code: errs.BadType}}
	}
	if address != nil && !isWebAddress(*address) {
		return nil, []errs.Detail{{Field: "avatarUrl", Message: fmt.Sprintf("the avatar URL is not a web address; give one that begins with http:// or https:// and has at most %d bytes", maxAvatarURL), Code: errs.BadValue}}
	}
	return func(u *User) { u.AvatarURL = address }, nil
}

func isWebAddress(s string) bool {
	if len(s) > maxAvatarURL || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

func parsePreferences(value json.RawMessage) (func(*User), []errs.Detail) {
	fault := func(code errs.DetailCode, message string) (func(*User), []errs.Detail) {
		return nil, []errs.Detail{{Field: "preferences", Message: message, Code: code}}
	}
	if string(value) == "null" {
		return func(u *User) { u.Preferences = json.RawMessage("{}") }, nil
	}
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber() // a number beyond float64 is still a number
	if decoder.Decode(&object) != nil {
		return fault(errs.BadType, "the preferences are not a JSON object; give an object, or null to clear them")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil || compact.Len() > maxPreferences {
		return fault(errs.OutOfRange, fmt.Sprintf("the preferences are larger than %d bytes; store less", maxPreferences))
	}
	if hasNUL(object) {
		return fault(errs.BadValue, "the preferences have a NUL character (\\u0000) in a string; leave it out")
	}
	return func(u *User) { u.Preferences = compact.Bytes() }, nil
}

func hasNUL(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for key, item := range v {
			if strings.ContainsRune(key, 0) || hasNUL(item) {
				return true
			}
		}
	}
	return false
}

// shown gives a name of the client's for an answer, cut when it is long.
func shown(name string) string {
	if len(name) > 64 {
		return strings.ToValidUTF8(name[:64], "") + "..."
	}
	return name
}
