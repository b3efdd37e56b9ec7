//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
)

// object is a JSON object.
type object = map[string]any

// raw is a body that is sent as it is.
type raw string

// client talks to an installation as one user.
type client struct {
	url     string
	session identity.Session
	key     string // an API key; sent when not empty
}

// answer is what came back.
type answer struct {
	what   string // the request
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("%s: %d %s", a.what, a.status, shorten(string(a.body), 2000))
}

func shorten(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

const password = "Correct-horse-9"

var users atomic.Int64

// guest gives a client of the shared installation without an account.
func guest(t *testing.T) *client { return &client{url: home(t).url} }

// user gives a client with an account of its own.
func user(t *testing.T) *client {
	t.Helper()
	return register(t, guest(t).url)
}

func register(t *testing.T, url string) *client {
	t.Helper()
	c := &client{url: url}
	email := fmt.Sprintf("user-%d-%d@example.com", time.Now().UnixNano(), users.Add(1))
	c.session = data[identity.Session](t, c.do(t, "POST", "/auth/register", object{"email": email, "password": password, "fullName": "A User"}), 201)
	return c
}

// as gives the client with another access token.
func (c *client) as(token string) *client {
	other := *c
	other.session.AccessToken = token
	return &other
}

// do sends a request to the API, with headers given as names and values, and checks what holds for every answer.
func (c *client) do(t testing.TB, method, path string, body any, headers ...string) answer {
	t.Helper()
	a, err := c.send(t.Context(), method, "/api/v1"+path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if problem := a.malformed(); problem != "" {
		t.Errorf("%s\n%s", problem, a)
	}
	// The validator's own numbers end at those of a float64.
	if err := undocumented(c.url, method, "/api/v1"+path, a); err != nil && !bytes.Contains(a.body, []byte("1e400")) {
		t.Errorf("not as openapi.json says: %v\n%s", err, a)
	}
	return a
}

// send sends a request; what comes back is not checked.
func (c *client) send(ctx context.Context, method, path string, body any, headers ...string) (answer, error) {
	what := method + " " + shorten(path, 300)
	var content []byte
	switch b := body.(type) {
	case nil:
	case raw:
		content = []byte(b)
	default:
		var err error
		if content, err = json.Marshal(b); err != nil {
			return answer{}, err
		}
	}
	if content != nil {
		what += " " + shorten(string(content), 500)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.session.AccessToken != "" {
		req.Header.Set("Authorization", "Bearer "+c.session.AccessToken)
	}
	if c.key != "" {
		req.Header.Set("X-API-Key", c.key)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return answer{what: what, status: resp.StatusCode, header: resp.Header, body: got}, err
}

// statusOf are the statuses of the codes.
var statusOf = map[errs.Code]int{
	errs.Validation: 400, errs.Unauthorized: 401, errs.TokenExpired: 401, errs.Forbidden: 403, errs.NotFound: 404,
	errs.MethodNotAllowed: 405, errs.Conflict: 409, errs.PreconditionFailed: 412, errs.PayloadTooLarge: 413,
	errs.UnsupportedMediaType: 415, errs.RateLimited: 429, errs.Internal: 500, errs.DependencyUnavailable: 503,
}

// malformed tells what is wrong with the envelope; "" when nothing is.
func (a answer) malformed() string {
	id := a.header.Get("X-Request-ID")
	if id == "" {
		return "there is no X-Request-ID"
	}
	kind := a.header.Get("Content-Type")
	if a.status == http.StatusNoContent {
		if len(a.body) > 0 {
			return "there is a body"
		}
		return ""
	}
	if a.status == http.StatusOK && !strings.HasPrefix(kind, "application/json") {
		return "" // a page or a stream
	}
	if !strings.HasPrefix(kind, "application/json") {
		return "the Content-Type is " + kind
	}
	var e map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &e); err != nil {
		return "the body is no JSON object: " + err.Error()
	}
	if a.status == http.StatusOK && e["openapi"] != nil {
		return ""
	}
	if string(e["requestId"]) != quoted(id) {
		return "the requestId is not the X-Request-ID"
	}
	if a.status < 400 {
		delete(e, "meta")
		if got := keys(e); got != "data requestId success" || string(e["success"]) != "true" {
			return "the envelope has " + got
		}
		return ""
	}
	if got := keys(e); got != "error requestId success" || string(e["success"]) != "false" {
		return "the envelope has " + got
	}
	var fault map[string]json.RawMessage
	var parsed struct {
		Error errs.Error
	}
	if json.Unmarshal(e["error"], &fault) != nil || json.Unmarshal(a.body, &parsed) != nil || keys(fault) != "code details message" || string(fault["details"]) == "null" {
		return "the error is not of the form {code, message, details}"
	}
	if statusOf[parsed.Error.Code] != a.status && a.status != 408 && a.status != 431 {
		return "the code does not belong to the status"
	}
	if parsed.Error.Message == "" {
		return "the error has no message"
	}
	for _, d := range parsed.Error.Details {
		if d.Message == "" || d.Code == "" {
			return "a detail has no message or code"
		}
	}
	return ""
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always encodes
	return string(b)
}

// keys gives the sorted keys of an object in one line.
func keys[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }

// data gives the data of an answer with the status.
func data[T any](t testing.TB, a answer, status int) T {
	t.Helper()
	var e struct{ Data T }
	if a.status != status {
		t.Fatalf("want status %d; %s", status, a)
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%v; %s", err, a)
	}
	return e.Data
}

// page gives the items and the pagination of a list.
func page[T any](t testing.TB, a answer) ([]T, rpc.Pagination) {
	t.Helper()
	var e struct {
		Data []T
		Meta struct{ Pagination rpc.Pagination }
	}
	if a.status != http.StatusOK {
		t.Fatalf("want a list; %s", a)
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%v; %s", err, a)
	}
	if e.Data == nil || e.Meta.Pagination.PageSize == 0 {
		t.Fatalf("not a list; %s", a)
	}
	return e.Data, e.Meta.Pagination
}

// fault gives the error of an answer with the code.
func fault(t testing.TB, a answer, code errs.Code) errs.Error {
	t.Helper()
	var e struct{ Error errs.Error }
	if err := json.Unmarshal(a.body, &e); err != nil || e.Error.Code != code || a.status != statusOf[code] {
		t.Fatalf("want %d %s; %s", statusOf[code], code, a)
	}
	return e.Error
}

// shape checks that an object has exactly these fields.
func shape(t testing.TB, what string, got any, fields string) {
	t.Helper()
	m, ok := got.(object)
	if !ok {
		t.Errorf("%s is %v and no object", what, got)
		return
	}
	want := strings.Fields(fields)
	slices.Sort(want)
	if have := keys(m); have != strings.Join(want, " ") {
		t.Errorf("%s has the fields\n%s\nand should have\n%s", what, have, strings.Join(want, " "))
	}
}

// documents are the OpenAPI documents of the installations by URL.
var documents sync.Map

type document struct {
	*openapi3.T
	router routers.Router
}

func documentOf(url string) (document, error) {
	load, _ := documents.LoadOrStore(url, sync.OnceValues(func() (document, error) {
		a, err := (&client{url: url}).send(context.Background(), "GET", "/api/v1/openapi.json", nil)
		if err != nil {
			return document{}, err
		}
		doc, err := openapi3.NewLoader().LoadFromData(a.body)
		if err != nil {
			return document{}, err
		}
		router, err := gorillamux.NewRouter(doc)
		return document{doc, router}, err
	}))
	return load.(func() (document, error))()
}

// undocumented tells where an answer of a documented route differs from the document. Pages and streams
// pass, as does what is refused before there is a route.
func undocumented(url, method, path string, a answer) error {
	if kind := a.header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "application/json") || a.status == http.StatusRequestHeaderFieldsTooLarge {
		return nil
	}
	doc, err := documentOf(url)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, path, nil)
	if err != nil {
		return err
	}
	route, params, err := doc.router.FindRoute(req)
	if err != nil {
		return nil // the tests of unknown routes and methods
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}
