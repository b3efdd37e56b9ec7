// Package errs declares the one error type whose text may reach a client, and two closed lists
// that are part of the Turbocat API: the codes of errors and the codes of their details.
package errs

import (
	"errors"
	"fmt"
	"time"
)

// Code names a class of failure. It is part of the public API and never changes its meaning.
type Code string

// The codes of the API, in the order of their HTTP statuses. docs/errors.md has these comments.
const (
	Validation            Code = "VALIDATION_ERROR"       // 400: the request breaks a rule; correct every place that the details name
	Unauthorized          Code = "UNAUTHORIZED"           // 401: nobody is known by the token or key that was sent, or none was; log in, or send another
	TokenExpired          Code = "TOKEN_EXPIRED"          // 401: the access token was good once; get a new one with the refresh token
	Forbidden             Code = "FORBIDDEN"              // 403: who asks may see the thing and not do this to it; ask its owner, or use a key with the scope that is named
	NotFound              Code = "NOT_FOUND"              // 404: there is no such thing for who asks; that of somebody else answers the same
	MethodNotAllowed      Code = "METHOD_NOT_ALLOWED"     // 405: the path exists, but not with this method
	Conflict              Code = "CONFLICT"               // 409: what is there is in the way: a state, a name that is taken, an Idempotency-Key with another body
	PreconditionFailed    Code = "PRECONDITION_FAILED"    // 412: it has been changed since the version that If-Match names; read it again
	PayloadTooLarge       Code = "PAYLOAD_TOO_LARGE"      // 413: the body is larger than its route takes; see docs/limits.md
	UnsupportedMediaType  Code = "UNSUPPORTED_MEDIA_TYPE" // 415: the body is of a type, or in an encoding, that the route does not take
	RateLimited           Code = "RATE_LIMITED"           // 429: a limit is used up; wait for as long as Retry-After says
	Internal              Code = "INTERNAL"               // 500: a fault of ours; the log has it under the requestId
	DependencyUnavailable Code = "DEPENDENCY_UNAVAILABLE" // 503: something that is needed does not answer, or has too much to do; try again as Retry-After says
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
	// RetryAfterMs is when it may be worth to try again; 0 says nothing about it.
	RetryAfterMs int64 `json:"retryAfterMs,omitempty"`
	Cause        error `json:"-"`
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

// Again says after how long it may be worth to try again.
func (e *Error) Again(after time.Duration) *Error {
	e.RetryAfterMs = after.Milliseconds()
	return e
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
