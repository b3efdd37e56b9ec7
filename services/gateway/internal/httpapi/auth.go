package httpapi

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
)

const (
	// verifiedFor is how long a positive answer about a token is believed; a revoked one works that long.
	verifiedFor = 2 * time.Second
	// maxVerified bounds the remembered answers; those longest unused go.
	maxVerified = 20_000
	maxToken    = 4096
)

// access says what a route asks of a request before its handler runs.
type access struct {
	anonymous bool   // needs no token
	optional  bool   // beside anonymous: a token or a key that is sent tells who asks
	auth      bool   // counts against the limit of the auth routes
	body      int    // the largest body, in bytes; 0 when the route takes none
	yaml      bool   // the body may be YAML too
	raw       bool   // the body may be anything
	open      bool   // it takes any parameters
	scope     string // that an API key needs; "" when none may call the route
	operation string // operationId
}

// admit lets a request through to its handler: it counts against its limit, belongs to a
// known caller, and its body is read. An anonymous body is never read before the limit.
func (a *API) admit(c *fiber.Ctx, need access) error {
	r := requestOf(c.UserContext())
	r.operation = need.operation
	var denied error
	if !need.anonymous || need.optional && (c.Get("Authorization") != "" || c.Get("X-API-Key") != "") {
		denied = a.authenticate(c, r)
	}
	if err := a.limit(c, r, need); err != nil {
		return err
	}
	if denied != nil {
		return denied
	}
	if err := need.allows(r.caller); err != nil {
		return err
	}
	if !need.open {
		if err := a.checkParameters(c, need.operation); err != nil {
			return err
		}
	}
	if need.body > 0 {
		return a.aside(func() error { return readBody(c, r, need) })
	}
	return nil
}

// guard is admit for a huma operation.
func (a *API) guard(need access) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		c := humafiber.Unwrap(ctx)
		if err := a.admit(c, need); err != nil {
			setFault(ctx.Context(), err)
			return
		}
		c.Request().Header.Del("Accept") // nothing to negotiate: every answer is application/json
		next(ctx)
	}
}

// authenticate makes the request's caller the one its access token or its API key belongs to.
func (a *API) authenticate(c *fiber.Ctx, r *request) error {
	scheme, token, _ := strings.Cut(c.Get("Authorization"), " ")
	token, key := strings.TrimSpace(token), c.Get("X-API-Key")
	switch {
	case scheme != "" && key != "":
		return errs.New(errs.Unauthorized, "both an access token and an API key were sent; send one of them")
	case key != "" && len(key) > maxToken:
		return errs.New(errs.Unauthorized, "the X-API-Key header holds no API key; send one as it was shown when it was made")
	case key != "":
		token = key
	case scheme == "":
		return errs.New(errs.Unauthorized, "no access token was sent; log in and send it as Authorization: Bearer <accessToken>, or send an API key as X-API-Key")
	case !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken:
		return errs.New(errs.Unauthorized, "the Authorization header holds no access token; send it as Bearer <accessToken>")
	}
	who, err := a.verifier.verify(c.UserContext(), credential{token, key != ""}, r.caller)
	if err != nil {
		return err
	}
	r.caller.UserID, r.caller.Role, r.caller.SessionID = who.userID, who.role, who.sessionID
	r.caller.APIKeyID, r.caller.Scopes, r.limit = who.apiKeyID, who.scopes, who.perMinute
	return nil
}

// credential is what a request came with.
type credential struct {
	text  string
	isKey bool // an API key, else an access token
}

// holder is who a credential belongs to.
type holder struct {
	userID, role        string
	sessionID, apiKeyID string   // one of them
	scopes              []string // of a key, never nil then
	perMinute           int      // of a key; 0 for no limit of its own
	until               time.Time
}

// verifier asks identity who a credential belongs to and believes the answer for a moment. It is safe for concurrent use.
type verifier struct {
	bus *bus.Conn
	now func() time.Time

	mu    sync.Mutex
	known *simplelru.LRU[[sha256.Size]byte, *verified]
}

// verified is a question about a credential, and its answer.
type verified struct {
	asked time.Time     // the belief counts from here, so that it never lasts longer
	done  chan struct{} // closed when the answer is there
	who   holder
	err   error
}

func newVerifier(b *bus.Conn) *verifier {
	known, _ := simplelru.NewLRU[[sha256.Size]byte, *verified](maxVerified, nil) // it refuses sizes below 1 alone
	return &verifier{bus: b, now: time.Now, known: known}
}

// verify tells who a credential belongs to. Requests that come at a time share a question.
func (v *verifier) verify(ctx context.Context, given credential, caller rpc.Caller) (holder, error) {
	key := given.digest()
	v.mu.Lock()
	q, ok := v.known.Get(key)
	if !ok || !v.believed(q) {
		q = &verified{asked: v.now(), done: make(chan struct{})}
		v.known.Add(key, q)
		go v.ask(context.WithoutCancel(ctx), q, key, given, caller) // others wait for it too
	}
	v.mu.Unlock()
	select {
	case <-q.done:
		return q.who, q.err
	case <-ctx.Done():
		return holder{}, errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "the identity service did not answer in time; try again shortly")
	}
}

// digest tells credentials apart, also a key from a token of the same text.
func (given credential) digest() [sha256.Size]byte {
	if given.isKey {
		return sha256.Sum256([]byte("key " + given.text))
	}
	return sha256.Sum256([]byte(given.text))
}

// believed tells whether a question needs not be asked again. The caller has the mutex.
func (v *verifier) believed(q *verified) bool {
	if !v.now().Before(q.asked.Add(verifiedFor)) {
		return false
	}
	select {
	case <-q.done:
		return q.who.until.IsZero() || v.now().Before(q.who.until)
	default:
		return true
	}
}

func (v *verifier) ask(ctx context.Context, q *verified, key [sha256.Size]byte, given credential, caller rpc.Caller) {
	q.who, q.err = v.holderOf(ctx, given, caller)
	v.mu.Lock()
	defer v.mu.Unlock()
	if now, _ := v.known.Peek(key); now == q && q.err != nil {
		v.known.Remove(key) // a refusal is not remembered
	}
	close(q.done)
}

func (v *verifier) holderOf(ctx context.Context, given credential, caller rpc.Caller) (holder, error) {
	if !given.isKey {
		who, err := bus.Call(ctx, v.bus, identity.Verify, caller, identity.VerifyRequest{AccessToken: given.text})
		return holder{userID: who.UserID, role: who.Role, sessionID: who.SessionID, until: who.ExpiresAt}, err
	}
	who, err := bus.Call(ctx, v.bus, identity.VerifyAPIKey, caller, identity.VerifyAPIKeyRequest{Key: given.text})
	h := holder{userID: who.UserID, role: who.Role, apiKeyID: who.APIKeyID, scopes: append([]string{}, who.Scopes...), perMinute: who.RateLimitPerMinute}
	if who.ExpiresAt != nil {
		h.until = *who.ExpiresAt
	}
	return h, err
}

const (
	apiPolicy  = "default-src 'none'; frame-ancestors 'none'"
	docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func setPolicyHeaders(c *fiber.Ctx) {
	c.Set("X-Content-Type-Options", "nosniff")
	c.Set("X-Frame-Options", "DENY")
	c.Set("Referrer-Policy", "no-referrer")
	c.Set("Content-Security-Policy", apiPolicy)
	c.Set("Cache-Control", "no-store")
}
