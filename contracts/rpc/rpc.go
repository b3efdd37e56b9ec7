// Package rpc declares what a request between services looks like: a typed method
// descriptor and the caller on whose behalf it is made. The transport is pkg/bus.
package rpc

import (
	"context"
	"reflect"
)

// Method describes one remote procedure: which service answers it and with which types.
// Its NATS subject is rpc.<service>.v<version>.<name>.
type Method[Req, Resp any] struct {
	Service string
	Name    string
	Version int
}

// Description is a method without its type parameters, for documents and tests.
type Description struct {
	Service  string
	Name     string
	Version  int
	Request  reflect.Type
	Response reflect.Type
}

// Describe gives the method's description.
func (m Method[Req, Resp]) Describe() Description {
	return Description{m.Service, m.Name, m.Version, reflect.TypeFor[Req](), reflect.TypeFor[Resp]()}
}

// Roles of a caller.
const (
	RoleAdmin = "ADMIN"
	RoleUser  = "USER"
	RoleAgent = "AGENT"
)

// Headers of a request that carry its Caller, and how long an answer is awaited.
const (
	HeaderUser        = "Tc-User"
	HeaderRole        = "Tc-Role"
	HeaderSession     = "Tc-Session"
	HeaderAPIKey      = "Tc-Api-Key"
	HeaderScopes      = "Tc-Scopes"
	HeaderRequestID   = "Tc-Request-Id"
	HeaderTraceparent = "traceparent"
	HeaderIP          = "Tc-Ip"
	HeaderUserAgent   = "Tc-User-Agent"
	HeaderTimeoutMs   = "Tc-Timeout-Ms"

	HeaderIdempotencyKey = "Tc-Idempotency-Key"
)

// Headers of a request or an answer that is too large for one message: where its parts are to be had, by their
// decimal number from 0, or "done" once all are there; and how many bytes it has.
const (
	HeaderPartsAt = "Tc-Parts-At"
	HeaderSize    = "Tc-Size"
)

// Caller says who asks. Only the gateway makes one from a verified token; a service
// that acts by itself uses System. It travels in the request's headers.
type Caller struct {
	UserID      string   // UUID; empty for an anonymous request
	Role        string   // RoleAdmin, RoleUser or RoleAgent
	SessionID   string   // UUID of the login session; empty when none
	APIKeyID    string   // UUID of the API key; empty when none
	Scopes      []string // of the API key; nil means no restriction
	RequestID   string
	Traceparent string
	IP          string // of the client, as the gateway saw it
	UserAgent   string

	// IdempotencyKey of the client, by which a method that creates something gives its first answer again; "" for none.
	IdempotencyKey string
}

// System is the caller of work that no user asked for, such as seeding. It may do everything.
func System(requestID string) Caller { return Caller{Role: RoleAdmin, RequestID: requestID} }

// IsAdmin tells whether ownership is not checked for the caller.
func (c Caller) IsAdmin() bool { return c.Role == RoleAdmin }

// Empty is the request or the answer of a method that needs none.
type Empty struct{}

// Page asks for a part of a list. Either Page or Cursor is used; the other is zero.
type Page struct {
	Page      int    `json:"page,omitempty"`     // from 1; 0 means 1
	PageSize  int    `json:"pageSize,omitempty"` // 1..100; 0 means 20
	Cursor    string `json:"cursor,omitempty"`   // nextCursor of an earlier answer
	Search    string `json:"search,omitempty"`
	SortBy    string `json:"sortBy,omitempty"`    // "" means createdAt
	SortOrder string `json:"sortOrder,omitempty"` // asc or desc; "" means desc
}

// Pagination describes the part of a list that an answer holds.
type Pagination struct {
	Page       int     `json:"page"`
	PageSize   int     `json:"pageSize"`
	Total      int     `json:"total"` // items of the list; beyond 10,000, or what a common search lets through of 2,000, they are not counted
	TotalPages int     `json:"totalPages"`
	NextCursor *string `json:"nextCursor"` // null at the end of the list alone: a page of what is searched for may have fewer items than it could, even none
	// TotalIsAtLeast says that there may be more than total, and pages behind the last of totalPages
	TotalIsAtLeast bool `json:"totalIsAtLeast,omitempty"`
}

// List is one page of items with its pagination.
type List[T any] struct {
	Items      []T        `json:"items"`
	Pagination Pagination `json:"pagination"`
}

// Health is the answer of every service's health method.
type Health struct {
	Service      string       `json:"service"`
	Version      string       `json:"version"`
	UptimeMs     int64        `json:"uptimeMs"`
	Ready        bool         `json:"ready"`
	Dependencies []Dependency `json:"dependencies"`
	Pools        []Pool       `json:"pools,omitempty"`
}

// Pool is a pool of connections to the database, of the process that answers.
type Pool struct {
	Name      string `json:"name"`
	Open      int    `json:"open"`
	InUse     int    `json:"inUse"`
	Max       int    `json:"max"`
	WaitCount int64  `json:"waitCount"` // how often somebody had to wait for a connection
	WaitMs    int64  `json:"waitMs"`    // how long, together
}

// Dependency is one thing a service needs, and how it was a moment ago.
type Dependency struct {
	Name      string `json:"name"`
	Status    string `json:"status"` // HEALTHY or UNHEALTHY
	LatencyMs int64  `json:"latencyMs"`
	Message   string `json:"message,omitempty"` // why it is not HEALTHY, and what to do
}

// Health states of a dependency.
const (
	Healthy   = "HEALTHY"
	Unhealthy = "UNHEALTHY"
)

// HealthOf is the health method that pkg/service answers for every service.
func HealthOf(service string) Method[Empty, Health] {
	return Method[Empty, Health]{Service: service, Name: "health", Version: 1}
}

type callerKey struct{}

// WithCaller puts the caller on whose behalf something is done into ctx. Whoever answers requests does so once, for those who
// record it; what a caller may do is decided by the one that a method is given.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf gives the caller of ctx; System when there is none, because nobody has asked then.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return System("")
}
