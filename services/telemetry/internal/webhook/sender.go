package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"turbocat.io/contracts/event"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/guard"
	"turbocat.io/pkg/observe"
	"turbocat.io/pkg/seal"
)

const (
	// sendTimeout bounds a request, with its answer.
	sendTimeout = 15 * time.Second
	maxShown    = 1024 // bytes of an answer that are kept
	maxHeaders  = 30   // headers of an answer that are kept
	maxError    = 500
	userAgent   = "Turbocat-Webhook/1"
)

// HeaderDelivery and HeaderAttempt are headers of a request beside those of Standard Webhooks: the delivery's id, and which attempt it is.
const (
	HeaderDelivery = "X-Turbocat-Delivery"
	HeaderAttempt  = "X-Turbocat-Attempt"
)

// Message is an event on its way: one attempt of a delivery.
type Message struct {
	DeliveryID string
	EventID    string
	EventType  string
	Event      json.RawMessage
	Attempt    int
}

// Sender makes requests to webhooks. It is safe for concurrent use.
type Sender struct {
	client  *http.Client
	keys    *seal.Keyring
	tracing *observe.Tracing
	now     func() time.Time
}

// NewSender makes a sender that reaches only what a guarded client may.
func NewSender(cfg guard.Config, keys *seal.Keyring, tracing *observe.Tracing, now func() time.Time) *Sender {
	client := guard.NewClient(cfg)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a POST that is sent elsewhere may become a GET
	return &Sender{client: client, keys: keys, tracing: tracing, now: now}
}

// Close closes connections that are kept open.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send makes one attempt, and tells what came of it. It takes as long as sendTimeout at most.
func (s *Sender) Send(ctx context.Context, w Webhook, m Message) (Outcome, telemetry.DeliveryAttempt) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	began := s.now()
	attempt := telemetry.DeliveryAttempt{At: began.UTC().Truncate(time.Microsecond), URL: w.URL, RequestHeaders: map[string]string{}}
	var named struct {
		Traceparent string `json:"traceparent"`
	}
	_ = json.Unmarshal(m.Event, &named) // what has no trace begins one
	ctx, span := s.tracing.Start(observe.Continue(ctx, named.Traceparent), trace.SpanKindClient, "webhook")
	defer span.End()
	outcome, err := s.send(ctx, w, m, &attempt)
	attempt.DurationMs = s.now().Sub(began).Milliseconds()
	if err != nil {
		attempt.Error = clip(faultOf(err), maxError)
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", http.MethodPost), attribute.Int("http.response.status_code", attempt.Status),
			attribute.String("turbocat.webhook_id", w.ID), attribute.String("turbocat.event_type", m.EventType), attribute.Int("turbocat.attempt", m.Attempt))
		if err != nil {
			span.SetStatus(codes.Error, "not delivered")
		}
	}
	return outcome, attempt
}

func (s *Sender) send(ctx context.Context, w Webhook, m Message, attempt *telemetry.DeliveryAttempt) (Outcome, error) {
	req, err := s.request(ctx, w, m)
	if err != nil {
		return Outcome{}, err
	}
	for name, values := range req.Header {
		attempt.RequestHeaders[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	// What is behind the part that is kept is read for the connection's sake, if it is not much.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxShown))
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	attempt.Status, attempt.ResponseHeaders, attempt.ResponseBody = resp.StatusCode, shownHeaders(resp.Header), shownText(body)
	switch resp.StatusCode / 100 {
	case 2:
		return Outcome{Delivered: true}, nil
	case 3:
		return Outcome{}, fmt.Errorf("answered %d, which leads to %q; give that address to the webhook, for redirects are not followed", resp.StatusCode, resp.Header.Get("Location"))
	}
	after, _ := guard.RetryAfter(resp.Header.Get("Retry-After"), s.now())
	return Outcome{Gone: resp.StatusCode == http.StatusGone, RetryAfter: after}, fmt.Errorf("answered %d; only 2xx counts as delivered", resp.StatusCode)
}

// request makes a signed request. Its body is what is signed.
func (s *Sender) request(ctx context.Context, w Webhook, m Message) (*http.Request, error) {
	secrets, err := w.secrets(s.keys, s.now())
	if err != nil {
		return nil, fmt.Errorf("the secret can not be opened: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(m.Event))
	if err != nil {
		return nil, err
	}
	body := []byte(m.Event)
	req.Header.Set("Content-Type", event.ContentType)
	if w.Format == telemetry.FormatBinary {
		if body, err = inHeaders(ctx, req, m.Event); err != nil {
			return nil, err
		}
	}
	now := s.now()
	var signatures []string
	for _, secret := range secrets {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, errors.New("the secret is none; rotate it")
		}
		signature, err := signer.Sign(m.EventID, now, body)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set(standardwebhooks.HeaderWebhookID, m.EventID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set(HeaderDelivery, m.DeliveryID)
	req.Header.Set(HeaderAttempt, strconv.Itoa(m.Attempt))
	if at := observe.Traceparent(ctx); at != "" {
		req.Header.Set("traceparent", at)
	}
	return req, nil
}

// inHeaders makes req carry an event in the binary mode of CloudEvents, and gives the body.
func inHeaders(ctx context.Context, req *http.Request, structured json.RawMessage) ([]byte, error) {
	e, err := event.Decode(structured)
	if err != nil {
		return nil, err
	}
	req.Header.Del("Content-Type")
	if err := cehttp.WriteRequest(binding.WithForceBinary(ctx), binding.ToMessage(&e), req); err != nil {
		return nil, err
	}
	return e.Data(), nil
}

// faultOf words why there was no good answer; the address stands beside it.
func faultOf(err error) string {
	var refused *guard.RefusedError
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s; answer first and work then", sendTimeout)
	}
	return guard.Reason(err)
}

func shownHeaders(h http.Header) map[string]string {
	shown := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if len(shown) == maxHeaders {
			break
		}
		if name != "Set-Cookie" {
			shown[strings.ToLower(name)] = shownText([]byte(clip(strings.Join(h[name], ", "), 200)))
		}
	}
	return shown
}

// shownText gives what a JSON text shows of bytes that may be anything.
func shownText(b []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}

func clip(s string, most int) string {
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s[:most])
		return s[:most-size] + "…"
	}
	return s
}
