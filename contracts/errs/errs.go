// Package errs declares the one error type whose text may reach a client, and two closed lists
// that are part of the Turbocat API: the codes of errors and the codes of their details.
package errs

import (
	"errors"
	"fmt"
)

// Code names a class of failure. It is part of the public API and never changes its meaning.
type Code string

// The codes of the API, in the order of their HTTP statuses.
const (
	Validation            Code = "VALIDATION_ERROR"       // 400
	Unauthorized          Code = "UNAUTHORIZED"           // 401
	TokenExpired          Code = "TOKEN_EXPIRED"          // 401
	Forbidden             Code = "FORBIDDEN"              // 403
	NotFound              Code = "NOT_FOUND"              // 404
	MethodNotAllowed      Code = "METHOD_NOT_ALLOWED"     // 405
	Conflict              Code = "CONFLICT"               // 409
	PreconditionFailed    Code = "PRECONDITION_FAILED"    // 412
	PayloadTooLarge       Code = "PAYLOAD_TOO_LARGE"      // 413
	UnsupportedMediaType  Code = "UNSUPPORTED_MEDIA_TYPE" // 415
	RateLimited           Code = "RATE_LIMITED"           // 429
	Internal              Code = "INTERNAL"               // 500
	DependencyUnavailable Code = "DEPENDENCY_UNAVAILABLE" // 503
)

// Codes gives the closed list of all of them.
func Codes() []Code {
	return []Code{
		Validation, Unauthorized, TokenExpired, Forbidden, NotFound, MethodNotAllowed, Conflict, PreconditionFailed,
		PayloadTooLarge, UnsupportedMediaType, RateLimited, Internal, DependencyUnavailable,
	}
}

// Error is a failure that a client may read. Message and Details carry no internals;
// Cause, when set, is for the log alone and never leaves the process.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Details []Detail `json:"details,omitempty"`
	Cause   error    `json:"-"`
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New makes an Error with a formatted message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error whose cause is logged and not shown.
func Wrap(cause error, code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Invalid makes a VALIDATION_ERROR that counts its problems: "2 problems in the workflow".
func Invalid(what string, details []Detail) *Error {
	noun := "problems"
	if len(details) == 1 {
		noun = "problem"
	}
	return &Error{Code: Validation, Message: fmt.Sprintf("%d %s in the %s", len(details), noun, what), Details: details}
}

// From gives err as an *Error: itself when it is or wraps one, else INTERNAL with err as the cause.
// From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(err, Internal, "something went wrong on our side; try again, and quote the requestId if it persists")
}

// CodeOf gives the code of err; INTERNAL when it carries none, "" when err is nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}
