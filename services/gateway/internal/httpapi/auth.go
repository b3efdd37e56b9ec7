package httpapi

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"

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
	anonymous bool // needs no token
	auth      bool // counts against the limit of the auth routes
	body      int  // the largest body, in bytes; 0 when the route takes none
}

// admit lets a request through to its handler: it counts against its limit, belongs to a
// known caller, and its body is read. An anonymous body is never read before the limit.
func (a *API) admit(c *fiber.Ctx, need access) error {
	r := requestOf(c.UserContext())
	var denied error
	if !need.anonymous {
		denied = a.authenticate(c, r)
	}
	if err := a.limit(c, r, need); err != nil {
		return err
	}
	if denied != nil {
		return denied
	}
	if need.body > 0 {
		return readBody(c, r, need.body)
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

// authenticate makes the request's caller the one its access token belongs to.
func (a *API) authenticate(c *fiber.Ctx, r *request) error {
	scheme, token, _ := strings.Cut(c.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if scheme == "" {
		return errs.New(errs.Unauthorized, "no access token was sent; log in and send it as Authorization: Bearer <accessToken>")
	}
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return errs.New(errs.Unauthorized, "the Authorization header holds no access token; send it as Bearer <accessToken>")
	}
	who, err := a.verifier.verify(c.UserContext(), token, r.caller)
	if err != nil {
		return err
	}
	r.caller.UserID, r.caller.Role, r.caller.SessionID = who.UserID, who.Role, who.SessionID
	return nil
}

// verifier asks identity who a token belongs to and believes the answer for a moment.
type verifier struct {
	bus   *bus.Conn
	now   func() time.Time
	known *lru.Cache[[sha256.Size]byte, verified]
}

type verified struct {
	identity.VerifyResponse
	until time.Time
}

func newVerifier(b *bus.Conn) *verifier {
	known, _ := lru.New[[sha256.Size]byte, verified](maxVerified) // it refuses sizes below 1 alone
	return &verifier{bus: b, now: time.Now, known: known}
}

func (v *verifier) verify(ctx context.Context, token string, caller rpc.Caller) (identity.VerifyResponse, error) {
	key := sha256.Sum256([]byte(token))
	hit, ok := v.known.Get(key)
	if ok && v.now().Before(hit.until) {
		return hit.VerifyResponse, nil
	}
	asked := v.now() // the belief counts from the question, so that it never lasts longer
	who, err := bus.Call(ctx, v.bus, identity.Verify, caller, identity.VerifyRequest{AccessToken: token})
	if err != nil {
		return who, err
	}
	until := asked.Add(verifiedFor)
	if who.ExpiresAt.Before(until) {
		until = who.ExpiresAt
	}
	v.known.Add(key, verified{who, until})
	return who, nil
}

// secure gives every answer the headers that keep browsers from doing more with it than asked.
func secure(c *fiber.Ctx) error {
	setPolicyHeaders(c)
	return c.Next()
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

// bearer documents how a route is entered.
var bearer = []map[string][]string{{"bearer": {}}}

func bearerScheme() map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{"bearer": {
		Type: "http", Scheme: "bearer", BearerFormat: "JWT",
		Description: "The accessToken that POST " + prefix + "/auth/login answers.",
	}}
}
