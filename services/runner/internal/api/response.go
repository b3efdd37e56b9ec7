package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
)

const (
	// largeAnswer is how much of an answer is read without further ado; of those that are longer, largeAtOnce are in memory at once.
	largeAnswer = 1 << 20
	largeAtOnce = 2
)

// page is one answer.
type page struct {
	status int
	header http.Header
	body   json.RawMessage // as the bytes are, when they are JSON
}

// read takes an answer.
func (a *attempt) read(ctx context.Context, resp *http.Response) (page, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, largeAnswer))
	if err == nil && len(raw) == largeAnswer {
		if err := a.roomForLarge(ctx); err != nil {
			return page{}, err
		}
		whole := bytes.NewBuffer(raw)
		whole.Grow(int(min(max(resp.ContentLength, largeAnswer), runner.MaxOutput)))
		_, err = whole.ReadFrom(io.LimitReader(resp.Body, runner.MaxOutput+1-largeAnswer))
		raw = whole.Bytes()
	}
	if errors.Is(err, guard.ErrBodyTooLarge) || len(raw) > runner.MaxOutput {
		return page{}, tooLarge("the body of the answer")
	}
	if err != nil {
		return page{}, fmt.Errorf("read the body: %w", err)
	}
	body, err := decode(raw, a.call.responseType, resp.Header.Get("Content-Type"))
	return page{status: resp.StatusCode, header: resp.Header, body: body}, err
}

// output gives the step's output. With all, its items are the body.
func (p page) output(took *timing, all *joined) (json.RawMessage, error) {
	headers := make(map[string]string, len(p.header))
	for name, values := range p.header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	encoded, err := json.Marshal(headers)
	if err != nil {
		return nil, err
	}
	size := len(p.body)
	if all != nil {
		size = all.items.Len()
	}
	out := make([]byte, 0, size+len(encoded)+200)
	out = append(out, `{"status":`...)
	out = strconv.AppendInt(out, int64(p.status), 10)
	out = append(out, `,"headers":`...)
	out = append(out, encoded...)
	out = append(out, `,"body":`...)
	if all == nil {
		out = append(out, p.body...)
	} else {
		out = append(out, '[')
		out = append(out, all.items.Bytes()...)
		out = append(out, `],"pages":`...)
		out = strconv.AppendInt(out, int64(all.asked), 10)
		out = append(out, `,"more":`...)
		out = strconv.AppendBool(out, all.more)
	}
	out = append(out, `,"timing":`...)
	out = took.appendJSON(out)
	if out = append(out, '}'); len(out) > runner.MaxOutput {
		return nil, tooLarge("the answer as JSON")
	}
	return out, nil
}

func tooLarge(what string) *runner.StepError {
	return &runner.StepError{
		Code:    runner.CodeOutputLimit,
		Message: fmt.Sprintf("%s is larger than %d MiB; ask the server for less, such as a page", what, runner.MaxOutput>>20),
	}
}

// decode gives the body as JSON.
func decode(raw []byte, kind, contentType string) (json.RawMessage, error) {
	if len(raw) == 0 && kind != "text" && kind != "binary" {
		return json.RawMessage("null"), nil
	}
	switch kind {
	case "json":
		if v, ok := asJSON(raw); ok {
			return v, nil
		}
		return nil, &runner.StepError{
			Code:    runner.CodeInvalidOutput,
			Message: fmt.Sprintf("the body of the answer is not valid JSON (its content type is %q); set responseType to auto or text", contentType),
		}
	case "text":
		return text(raw)
	case "binary":
		return text([]byte(base64.StdEncoding.EncodeToString(raw)))
	}
	media, _, _ := mime.ParseMediaType(contentType)
	if media == "application/json" || strings.HasSuffix(media, "+json") {
		if v, ok := asJSON(raw); ok {
			return v, nil
		}
	}
	if utf8.Valid(raw) || strings.HasPrefix(media, "text/") {
		return text(raw)
	}
	return text([]byte(base64.StdEncoding.EncodeToString(raw)))
}

func asJSON(raw []byte) (json.RawMessage, bool) {
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\ufeff")))
	// Bytes that are no UTF-8 pass for JSON in Go and for nothing elsewhere.
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\ufffd"))
	}
	return raw, json.Valid(raw)
}

func text(raw []byte) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(string(raw)); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// excerptLength is how many characters of an answer an error shows.
const excerptLength = 500

func (r *request) badStatus(resp *http.Response) *runner.StepError {
	// A character has at most four bytes. What can not be read is not worth another error.
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 4*excerptLength))
	e := r.refused(resp.StatusCode, resp.Header.Get("Retry-After"), "which is not in successStatus")
	if excerpt := excerpt(raw); excerpt != "" {
		e.Message += "; the body begins: " + excerpt
	}
	return e
}

// refused tells of an answer whose status is none of success.
func (r *request) refused(status int, retryAfter, why string) *runner.StepError {
	message := r.name() + ": the status is " + strings.TrimSpace(strconv.Itoa(status)+" "+http.StatusText(status))
	if why != "" {
		message += ", " + why
	}
	asked, _ := guard.RetryAfter(retryAfter, time.Now())
	return &runner.StepError{Code: runner.CodeHTTPStatus, Message: message, Retryable: transient(status), RetryAfterMs: asked.Milliseconds()}
}

// excerpt gives the first characters of a body as text without control characters.
func excerpt(raw []byte) string {
	runes := []rune(strings.ToValidUTF8(string(raw), ""))
	if len(runes) > excerptLength {
		runes = runes[:excerptLength]
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return -1
		}
		return c
	}, string(runes)))
}
