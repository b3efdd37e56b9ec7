package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"turbocat.io/pkg/guard"
)

// maxProviderText bounds what is told of a provider's message, in bytes.
const maxProviderText = 1000

// transientTypes are the types of errors, of both providers, that may pass. They stand in streams, whose status was 200 long before.
var transientTypes = []string{"overloaded_error", "api_error", "rate_limit_error", "timeout_error", "server_error", "rate_limit_exceeded"}

// refused makes a failure of an answer with an HTTP status, or of an error in a stream, whose status is 0.
func refused(status int, header http.Header, kind, text string) *failure {
	f := &failure{transient: slices.Contains(transientTypes, kind), spent: status == 0}
	if status != 0 {
		f.transient = f.transient || status == http.StatusRequestTimeout || status == http.StatusConflict || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
		f.retryAfter = retryAfter(header, time.Now())
	}
	if len(text) > maxProviderText {
		text = strings.ToValidUTF8(text[:maxProviderText], "") + "..."
	}
	var parts []string
	if status != 0 {
		parts = append(parts, strconv.Itoa(status)+" "+http.StatusText(status))
	}
	for _, part := range []string{kind, text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	f.message = strings.Join(parts, ": ")
	return f
}

// retryAfter reads what a provider asks for, in one of the two headers of it; 0 for nothing.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseUint(h.Get("Retry-After-Ms"), 10, 31); err == nil {
		return time.Duration(ms) * time.Millisecond
	}
	asked, _ := guard.RetryAfter(h.Get("Retry-After"), now)
	return asked
}

// broken makes a failure of an error that is no answer of a provider. began tells that something of the answer had come.
func broken(ctx context.Context, err error, began bool) error {
	var refusedAddress *guard.RefusedError
	var dialled *net.OpError
	var named *url.Error
	switch {
	case errors.As(err, &refusedAddress):
		return &failure{message: refusedAddress.Error(), address: true}
	case errors.Is(err, guard.ErrScheme), errors.Is(err, guard.ErrRedirects):
		return &failure{message: guard.Reason(err)}
	case errors.Is(context.Cause(ctx), errSlow):
		return &failure{message: errSlow.Error(), transient: true, spent: true}
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &named) && errors.As(err, &dialled) && dialled.Op == "dial":
		return &failure{message: guard.Reason(err), transient: true}
	}
	what := "the connection failed"
	if began {
		what = "the answer broke off"
	}
	return &failure{message: what + ": " + guard.Reason(err), transient: true, spent: true}
}

// errSlow is the cause why the context of a question ends whose provider takes too long.
var errSlow = errors.New("no complete answer within the provider's timeoutMs")

// errTruncated is what a stream ends with that has no end: the decoders of both providers take it for a whole one.
var errTruncated = errors.New("the stream ended before the answer did")

// errorOf reads the error object that both providers answer with: {"error":{"type","code","message"}}. Servers that are compatible put
// a text there, or the object itself.
func errorOf(raw string) (kind, text string) {
	type object struct {
		Type    string `json:"type"`
		Code    any    `json:"code"`
		Message string `json:"message"`
	}
	var outer struct {
		object
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal([]byte(raw), &outer) != nil {
		return "", ""
	}
	inner := outer.object
	if len(outer.Error) > 0 && json.Unmarshal(outer.Error, &inner) != nil {
		_ = json.Unmarshal(outer.Error, &text) // neither: it is told by its status
		return "", text
	}
	if inner.Type == "" && inner.Code != nil {
		inner.Type = fmt.Sprint(inner.Code)
	}
	return inner.Type, inner.Message
}
