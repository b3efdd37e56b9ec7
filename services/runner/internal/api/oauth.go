package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"turbocat.io/contracts/runner"
	"turbocat.io/pkg/guard"
)

// maxGrants is of how many credentials the tokens are kept; those that were used longest ago go.
const maxGrants = 1024

// credentials are those of a client, with which it asks for tokens (RFC 6749, section 4.4).
type credentials struct {
	TokenURL, ClientID, ClientSecret, Audience string
	Scopes                                     []string
}

// grants keep what token endpoints gave, each until it expires or a server refuses it. They are safe for concurrent use.
type grants struct {
	client *http.Client

	mu   sync.Mutex
	kept *simplelru.LRU[[sha256.Size]byte, *grant]
}

// grant is the token of some credentials. Who holds turn may ask for another one; the others wait, and take it.
type grant struct {
	turn  chan struct{}
	token *oauth2.Token // nil when there is none
}

func newGrants(client *http.Client) *grants {
	kept, _ := simplelru.NewLRU[[sha256.Size]byte, *grant](maxGrants, nil) // it refuses sizes below 1 alone
	// An endpoint does not redirect: what is sent to it, secrets among it, is for nobody else.
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &grants{client: &direct, kept: kept}
}

func (g *grants) of(c credentials) *grant {
	raw, _ := json.Marshal(c) // strings always encode
	key := sha256.Sum256(raw)
	g.mu.Lock()
	defer g.mu.Unlock()
	found, ok := g.kept.Get(key)
	if !ok {
		found = &grant{turn: make(chan struct{}, 1)}
		g.kept.Add(key, found)
	}
	return found
}

// authorization gives the header with a token, one that has not been refused.
func (g *grants) authorization(ctx context.Context, c credentials, refused string, ours func() bool) (string, *failure) {
	at := g.of(c)
	select {
	case at.turn <- struct{}{}:
		defer func() { <-at.turn }()
	case <-ctx.Done():
		return "", &failure{err: c.noToken(ctx.Err())}
	}
	if !at.token.Valid() || header(at.token) == refused {
		config := clientcredentials.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, TokenURL: c.TokenURL, Scopes: c.Scopes}
		if c.Audience != "" {
			config.EndpointParams = url.Values{"audience": {c.Audience}}
		}
		token, err := config.Token(context.WithValue(guard.While(ctx, ours), oauth2.HTTPClient, g.client))
		if err != nil {
			return "", c.failed(err)
		}
		at.token = token
	}
	return header(at.token), nil
}

func header(t *oauth2.Token) string {
	if t == nil {
		return ""
	}
	return t.Type() + " " + t.AccessToken
}

// failed says why an endpoint gave no token. What it says beside its code may have secrets in it.
func (c credentials) failed(err error) *failure {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.Response == nil {
		return &failure{err: c.noToken(err)}
	}
	status, retryAfter := answered.Response.StatusCode, answered.Response.Header.Get("Retry-After")
	f := (&request{method: http.MethodPost, shown: c.shown()}).refused(status, retryAfter, excerpt([]byte(answered.ErrorCode)))
	f.Message = "auth: " + f.Message
	return &failure{err: f, status: status, retryAfter: retryAfter}
}

func (c credentials) noToken(err error) *runner.StepError {
	text := err.Error()
	if strings.HasPrefix(text, "oauth2: ") { // an answer that is no token
		return &runner.StepError{Code: runner.CodeInvalidOutput, Message: "auth: POST " + c.shown() + ": the answer has no token that can be used"}
	}
	f := (&request{method: http.MethodPost, shown: c.shown()}).noAnswer(err)
	f.Message = "auth: " + f.Message
	return f
}

func (c credentials) shown() string {
	u, _ := parseURL(c.TokenURL) // it has been read before
	return shown(u)
}
