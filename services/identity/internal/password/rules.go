// Package password decides which passwords are good enough and keeps them as hashes.
package password

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"turbocat.io/contracts/errs"
)

// Length of a password in characters.
const (
	MinLength = 8
	MaxLength = 256
)

//go:embed common.txt
var common string

// Check gives every rule that a new password breaks. Details name the rule, never the password.
func Check(field, password string) []errs.Detail {
	if details := CheckText(field, password); details != nil {
		return details
	}
	var faults []errs.Detail
	broken := func(code errs.DetailCode, message string) {
		faults = append(faults, errs.Detail{Field: field, Message: message, Code: code})
	}
	if utf8.RuneCountInString(password) < MinLength {
		broken(errs.OutOfRange, fmt.Sprintf("the password has fewer than %d characters; use %d to %d", MinLength, MinLength, MaxLength))
	}
	var upper, lower, digit, special bool
	for _, r := range password {
		switch {
		case unicode.IsUpper(r):
			upper = true
		case unicode.IsLower(r):
			lower = true
		case unicode.IsDigit(r):
			digit = true
		case !unicode.IsLetter(r):
			special = true
		}
	}
	if !upper {
		broken(errs.MissingUpper, "the password has no upper-case letter; add one")
	}
	if !lower {
		broken(errs.MissingLower, "the password has no lower-case letter; add one")
	}
	if !digit {
		broken(errs.MissingDigit, "the password has no digit; add one")
	}
	if !special {
		broken(errs.MissingSpecial, "the password has no special character; add one, like ! or -")
	}
	if isCommon(password) {
		broken(errs.CommonPassword, "the password is one of those most often used; choose another")
	}
	return faults
}

// CheckText gives what makes a text unfit to be any password, old or new.
func CheckText(field, password string) []errs.Detail {
	fault := func(code errs.DetailCode, message string) []errs.Detail {
		return []errs.Detail{{Field: field, Message: message, Code: code}}
	}
	switch {
	case password == "":
		return fault(errs.Required, "the password is missing; give it")
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return fault(errs.BadValue, "the password is not valid UTF-8 or has a NUL character; leave those out")
	case utf8.RuneCountInString(password) > MaxLength:
		return fault(errs.OutOfRange, fmt.Sprintf("the password has more than %d characters; use %d to %d", MaxLength, MinLength, MaxLength))
	}
	return nil
}

func isCommon(password string) bool {
	for line := range strings.SplitSeq(common, "\n") {
		if line == password {
			return true
		}
	}
	return false
}
