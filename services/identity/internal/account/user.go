package account

import (
	"encoding/json"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
)

// UserID names an account.
type UserID struct{ uuid.UUID }

// User is an account.
type User struct {
	ID           UserID
	Email        string // as normalEmail gives it; unique
	FullName     string
	PasswordHash string
	Role         string
	Active       bool
	AvatarURL    *string
	Preferences  json.RawMessage // a JSON object
	CreatedAt    time.Time
	LastLoginAt  *time.Time
}

const (
	maxEmail     = 254
	maxLocalPart = 64
	maxFullName  = 200
)

func normalEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// checkEmail gives the fault of a normalised address.
func checkEmail(email string) []errs.Detail {
	if email == "" {
		return []errs.Detail{{Field: "email", Message: "the e-mail address is missing; give it", Code: errs.Required}}
	}
	if len(email) > maxEmail || !isEmail(email) {
		return []errs.Detail{{Field: "email", Message: "the e-mail address is not valid; give one like name@example.com, of at most 254 characters", Code: errs.BadValue}}
	}
	return nil
}

func isEmail(email string) bool {
	for _, r := range email {
		if r <= ' ' || r > '~' || r == '"' {
			return false
		}
	}
	// An address that stands for itself: no display name, no comment, no angle brackets.
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || parsed.Name != "" {
		return false
	}
	at := strings.LastIndexByte(email, '@')
	if at > maxLocalPart || !strings.Contains(email[at:], ".") {
		return false
	}
	for label := range strings.SplitSeq(email[at+1:], ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// checkFullName gives the fault of a name without the space around it.
func checkFullName(name string) []errs.Detail {
	fault := func(code errs.DetailCode, message string) []errs.Detail {
		return []errs.Detail{{Field: "fullName", Message: message, Code: code}}
	}
	switch {
	case name == "":
		return fault(errs.Required, "the full name is missing; give 1 to 200 characters")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fault(errs.BadValue, "the full name is not valid UTF-8 or has control characters; leave those out")
	case utf8.RuneCountInString(name) > maxFullName:
		return fault(errs.OutOfRange, "the full name has more than 200 characters; shorten it")
	}
	return nil
}
