// Package account holds the rules of accounts and sessions: who may register, log in, stay
// logged in, and change what. It does no I/O but through Store and Liveness.
package account

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/ratelimit"
	"turbocat.io/services/identity/internal/password"
	"turbocat.io/services/identity/internal/token"
)

// What a Store tells beside failures.
var (
	ErrTaken   = errors.New("address or id is taken")
	ErrUnknown = errors.New("no such row")
)

// Store keeps accounts and sessions. An error that is not named here is errs.DependencyUnavailable or a fault. Each change is one transaction.
type Store interface {
	Users
	Sessions
	Resets
}

// Users keeps accounts.
type Users interface {
	// Create adds an account, and its first session unless that is nil; ErrTaken when the address or the id is.
	Create(ctx context.Context, u User, s *Session) error
	// ByID and ByEmail give an account or ErrUnknown.
	ByID(ctx context.Context, id UserID) (User, error)
	ByEmail(ctx context.Context, email string) (User, error)
	// Update changes the profile of an account under a lock and gives it as it is then; ErrUnknown when there is none.
	Update(ctx context.Context, id UserID, change func(*User)) (User, error)
	// ChangeStanding changes the role of an account, and whether it is active, under a lock, and ends its sessions, which it names,
	// when one of them is another then; ErrUnknown when there is none. change is told how many other active ADMINs there are; its error changes nothing.
	ChangeStanding(ctx context.Context, id UserID, reason string, now time.Time, change func(u *User, otherAdmins int) error) (User, []SessionID, error)
	// List reads a page of all accounts.
	List(ctx context.Context, q contract.ListUsersRequest) (rpc.List[User], error)
}

// Sessions keeps sessions.
type Sessions interface {
	// Open adds a session of an account and records the login; sessions of that account that expired before go. ErrUnknown when
	// the owner is not active any more, or has another role or password than it was read with.
	Open(ctx context.Context, s Session, owner User) error
	// UpdateSession changes a session under a lock and commits when change returns; ErrUnknown when there is none.
	UpdateSession(ctx context.Context, id SessionID, change func(s *Session, owner User)) error
	// EndSessions ends the sessions of a user that have not ended, but one, and names them.
	EndSessions(ctx context.Context, user UserID, except SessionID, reason string, now time.Time) ([]SessionID, error)
	// Refused tells the audit trail of what was tried and refused, and changes nothing.
	Refused(ctx context.Context, r Refusal) error
	// ListSessions reads a page of the sessions of a user that have not ended.
	ListSessions(ctx context.Context, user UserID, now time.Time, q contract.ListSessionsRequest) (rpc.List[Session], error)
}

// Refusal is a security event that changes nothing. It has no address: of an unknown one, nothing is kept.
type Refusal struct {
	Action audit.Action
	User   UserID // zero when it is not known
	Reason string
}

// Liveness tells fast whether the access tokens of a session are good.
type Liveness interface {
	// Live may be up to two seconds late to learn of a change it was not told.
	Live(ctx context.Context, id SessionID) (bool, error)
	// Revoked tells that sessions have ended in the Store.
	Revoked(ctx context.Context, ids ...SessionID)
}

// Parts are what Accounts is made of.
type Parts struct {
	Store    Store
	Liveness Liveness
	Tokens   *token.Signer
	Hasher   *password.Hasher
	Attempts *ratelimit.Limiter // counts what might be guessing, or a flood of mail
	Mailer   Mailer
	Frontend string // the web address that links in mails begin with, without a slash at its end; "" for none
	Now      func() time.Time
	Log      zerolog.Logger
}

// Accounts is what people do with accounts and sessions. It is safe for concurrent use.
type Accounts struct {
	Parts
	asked chan struct{} // a mail was asked for in this process
}

// New makes Accounts.
func New(parts Parts) *Accounts { return &Accounts{parts, make(chan struct{}, 1)} }

// Grant is an account with the tokens of one of its sessions.
type Grant struct {
	User         User
	AccessToken  string
	Access       token.Access
	RefreshToken string
	Refresh      token.Refresh
}

// Registration is what a person gives to get an account.
type Registration struct {
	Email, Password, FullName string
}

func (r Registration) normal() Registration {
	r.Email, r.FullName = normalEmail(r.Email), strings.TrimSpace(r.FullName)
	return r
}

func (r Registration) faults() []errs.Detail {
	faults := checkEmail(r.Email)
	faults = append(faults, password.Check("password", r.Password)...)
	return append(faults, checkFullName(r.FullName)...)
}

// Register makes an account with role USER and logs it in; CONFLICT when the address is taken.
func (a *Accounts) Register(ctx context.Context, client Client, r Registration) (Grant, error) {
	r = r.normal()
	if faults := r.faults(); len(faults) > 0 {
		return Grant{}, errs.Invalid("registration", faults)
	}
	hash, err := a.Hasher.Hash(ctx, r.Password)
	if err != nil {
		return Grant{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Grant{}, err
	}
	now := a.now()
	user := newUser(UserID{id}, r, hash, rpc.RoleUser, now)
	user.LastLoginAt = &now
	session, grant, err := a.newSession(client, user, now)
	if err != nil {
		return Grant{}, err
	}
	switch err := a.Store.Create(ctx, user, &session); {
	case errors.Is(err, ErrTaken):
		if err := a.Store.Refused(ctx, Refusal{Action: audit.UserRegistered, Reason: "address_taken"}); err != nil {
			return Grant{}, err
		}
		return Grant{}, errs.New(errs.Conflict, "the e-mail address has an account already; log in, or register with another")
	case err != nil:
		return Grant{}, err
	}
	a.security(client, "user_registered").Info().Stringer("userId", user.ID).Msg("security event")
	return grant, nil
}

// Login opens a session. Whatever is wrong with the credentials or the account, the answer and the time it takes are the same;
// RATE_LIMITED after several failures from one address, also for an account that is not there.
func (a *Accounts) Login(ctx context.Context, client Client, email, secret string) (Grant, error) {
	email = normalEmail(email)
	if faults := append(checkEmail(email), password.CheckText("password", secret)...); len(faults) > 0 {
		return Grant{}, errs.Invalid("login", faults)
	}
	user, err := a.Store.ByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Grant{}, err // and not counted: it is no guess
	}
	known := err == nil
	attempts := loginAttempts(email, client)
	// Counted before the password is compared: many that come at a time are no more tries than one after the other.
	if got := a.Attempts.Take(ctx, attempts, loginLimit); !got.Allowed {
		a.security(client, "login_throttled").Info().Msg("security event")
		if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthLoginFailed, User: user.ID, Reason: "throttled"}); err != nil {
			return Grant{}, err
		}
		return Grant{}, errs.New(errs.RateLimited, "too many failed logins to this account from your address; try again in %d s", wholeSeconds(got.RetryAfter)).Again(got.RetryAfter)
	}
	matches, err := a.Hasher.Matches(ctx, user.PasswordHash, secret)
	if err != nil {
		return Grant{}, err
	}
	if reason := refusal(known, matches, user); reason != "" {
		event := a.security(client, "login_failed").Info().Str("reason", reason)
		if known {
			event = event.Stringer("userId", user.ID)
		}
		event.Msg("security event")
		if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthLoginFailed, User: user.ID, Reason: reason}); err != nil {
			return Grant{}, err
		}
		return Grant{}, badCredentials()
	}
	now := a.now()
	user.LastLoginAt = &now
	session, grant, err := a.newSession(client, user, now)
	if err != nil {
		return Grant{}, err
	}
	switch err := a.Store.Open(ctx, session, user); {
	case errors.Is(err, ErrUnknown):
		if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthLoginFailed, User: user.ID, Reason: "changed_meanwhile"}); err != nil {
			return Grant{}, err
		}
		return Grant{}, badCredentials()
	case err != nil:
		a.Attempts.Forget(ctx, attempts) // the password is right
		return Grant{}, err
	}
	a.Attempts.Forget(ctx, attempts)
	a.security(client, "user_login").Info().Stringer("userId", user.ID).Stringer("sessionId", session.ID).Msg("security event")
	return grant, nil
}

// refusal gives why a login is refused; "" when it is not.
func refusal(known, matches bool, u User) string {
	switch {
	case !known:
		return "unknown_address"
	case !matches:
		return "wrong_password"
	case !u.Active:
		return "inactive_account"
	case u.Role == rpc.RoleAgent:
		return "service_account" // API keys only
	}
	return ""
}

// Refresh gives a session new tokens for its newest refresh token. Any older one ends the session.
func (a *Accounts) Refresh(ctx context.Context, client Client, refreshToken string) (Grant, error) {
	presented, err := a.Tokens.ParseRefresh(refreshToken)
	if err != nil {
		return Grant{}, invalidRefresh()
	}
	id := SessionID{presented.SessionID}
	nextToken, next, err := a.Tokens.Refresh(id.UUID)
	if err != nil {
		return Grant{}, err
	}
	var user User
	var outcome rotation
	var previous bool
	err = a.Store.UpdateSession(ctx, id, func(s *Session, owner User) {
		previous = s.isPrevious(presented)
		user, outcome = owner, s.rotate(owner, presented, next, a.now())
	})
	if errors.Is(err, ErrUnknown) { // one of ours, whose session is long over
		if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthRefreshRefused, Reason: "session_unknown"}); err != nil {
			return Grant{}, err
		}
		return Grant{}, invalidRefresh()
	}
	if err != nil {
		return Grant{}, err
	}
	if outcome != rotated {
		if outcome == refusedReuse || outcome == refusedAccount {
			a.Liveness.Revoked(ctx, id)
		}
		// A reused token that is the previous one may be the client's own race; an older one hardly is.
		a.security(client, "refresh_refused").Info().Str("reason", string(outcome)).Bool("previousToken", previous).
			Stringer("userId", user.ID).Stringer("sessionId", id).Msg("security event")
		if outcome != refusedReuse && outcome != refusedAccount { // those have ended the session, which is recorded
			if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthRefreshRefused, User: user.ID, Reason: string(outcome)}); err != nil {
				return Grant{}, err
			}
		}
		return Grant{}, invalidRefresh()
	}
	accessToken, access, err := a.Tokens.Access(user.ID.UUID, id.UUID, user.Role)
	if err != nil {
		return Grant{}, err
	}
	return Grant{User: user, AccessToken: accessToken, Access: access, RefreshToken: nextToken, Refresh: next}, nil
}

// Logout ends the session of a refresh token, be it the newest or not. Safe to repeat.
func (a *Accounts) Logout(ctx context.Context, client Client, refreshToken string) error {
	presented, err := a.Tokens.ParseRefresh(refreshToken)
	if err != nil {
		return invalidRefresh()
	}
	id := SessionID{presented.SessionID}
	var user UserID
	err = a.Store.UpdateSession(ctx, id, func(s *Session, owner User) {
		s.revoke(revokedLogout, a.now())
		user = owner.ID
	})
	if errors.Is(err, ErrUnknown) {
		return invalidRefresh()
	}
	if err != nil {
		return err
	}
	a.Liveness.Revoked(ctx, id)
	a.security(client, "user_logout").Info().Stringer("userId", user).Stringer("sessionId", id).Msg("security event")
	return nil
}

// Verify gives what a good access token says; TOKEN_EXPIRED or UNAUTHORIZED for any other.
func (a *Accounts) Verify(ctx context.Context, accessToken string) (token.Access, error) {
	access, err := a.Tokens.ParseAccess(accessToken)
	if errors.Is(err, token.ErrExpired) {
		return token.Access{}, errs.New(errs.TokenExpired, "the access token has expired; get a new one with the refresh token")
	}
	if err != nil {
		return token.Access{}, invalidAccess()
	}
	live, err := a.Liveness.Live(ctx, SessionID{access.SessionID})
	if err != nil {
		return token.Access{}, err
	}
	if !live {
		return token.Access{}, invalidAccess()
	}
	return access, nil
}

// Me gives the account of a caller.
func (a *Accounts) Me(ctx context.Context, userID string) (User, error) {
	id, err := uuid.Parse(userID)
	if err != nil {
		return User{}, notLoggedIn()
	}
	user, err := a.Store.ByID(ctx, UserID{id})
	if errors.Is(err, ErrUnknown) {
		return User{}, notLoggedIn()
	}
	return user, err
}

// UpdateMe changes the account of a caller by a JSON object; the error names every fault in it.
func (a *Accounts) UpdateMe(ctx context.Context, userID string, body json.RawMessage) (User, error) {
	id, err := uuid.Parse(userID)
	if err != nil {
		return User{}, notLoggedIn()
	}
	patch, err := parseProfile(body)
	if err != nil {
		return User{}, err
	}
	user, err := a.Store.Update(ctx, UserID{id}, patch.apply)
	if errors.Is(err, ErrUnknown) {
		return User{}, notLoggedIn()
	}
	return user, err
}

// Seed makes an account unless its address or its id is taken; then it gives the account that
// has it and changes nothing.
func (a *Accounts) Seed(ctx context.Context, id, role string, r Registration) (user User, created bool, err error) {
	r = r.normal()
	faults := r.faults()
	parsed, err := uuid.Parse(id)
	if err != nil {
		faults = append(faults, errs.Detail{Field: "id", Message: "the id is not a UUID; give one", Code: errs.BadValue})
	}
	if !slices.Contains(roles, role) {
		faults = append(faults, badRole())
	}
	if len(faults) > 0 {
		return User{}, false, errs.Invalid("account", faults)
	}
	userID := UserID{parsed}
	if user, err = a.holder(ctx, userID, r.Email); !errors.Is(err, ErrUnknown) {
		return user, false, err
	}
	hash, err := a.Hasher.Hash(ctx, r.Password)
	if err != nil {
		return User{}, false, err
	}
	user = newUser(userID, r, hash, role, a.now())
	err = a.Store.Create(ctx, user, nil)
	if errors.Is(err, ErrTaken) { // meanwhile, by another process
		user, err = a.holder(ctx, userID, r.Email)
		return user, false, err
	}
	if err != nil {
		return User{}, false, err
	}
	a.Log.Info().Str("event", "user_seeded").Stringer("userId", userID).Str("role", role).Msg("security event")
	return user, true, nil
}

// holder gives the account that has the address or else the id.
func (a *Accounts) holder(ctx context.Context, id UserID, email string) (User, error) {
	user, err := a.Store.ByEmail(ctx, email)
	if errors.Is(err, ErrUnknown) {
		return a.Store.ByID(ctx, id)
	}
	return user, err
}

func newUser(id UserID, r Registration, hash, role string, now time.Time) User {
	return User{
		ID: id, Email: r.Email, FullName: r.FullName, PasswordHash: hash, Role: role, Active: true,
		Preferences: json.RawMessage("{}"), CreatedAt: now,
	}
}

func (a *Accounts) newSession(client Client, user User, now time.Time) (Session, Grant, error) {
	raw, err := uuid.NewV7()
	if err != nil {
		return Session{}, Grant{}, err
	}
	id := SessionID{raw}
	accessToken, access, err := a.Tokens.Access(user.ID.UUID, id.UUID, user.Role)
	if err != nil {
		return Session{}, Grant{}, err
	}
	refreshToken, refresh, err := a.Tokens.Refresh(id.UUID)
	if err != nil {
		return Session{}, Grant{}, err
	}
	client = client.recorded()
	session := Session{
		ID: id, UserID: user.ID, Role: user.Role, CurrentToken: fingerprint(refresh), IP: client.IP, UserAgent: client.UserAgent,
		CreatedAt: now, LastAccessedAt: now, ExpiresAt: refresh.ExpiresAt,
	}
	return session, Grant{User: user, AccessToken: accessToken, Access: access, RefreshToken: refreshToken, Refresh: refresh}, nil
}

// now has the precision of the database, so that what is answered is what is stored.
func (a *Accounts) now() time.Time { return a.Now().UTC().Truncate(time.Microsecond) }

func (a *Accounts) security(client Client, event string) *zerolog.Logger {
	return Security(a.Log, client, event)
}

// Security is the log for a security event, of accounts, sessions or API keys. No address, password, token or key ever goes into it.
func Security(log zerolog.Logger, client Client, event string) *zerolog.Logger {
	log = log.With().Str("event", event).Str("ip", client.recorded().IP).Str("requestId", client.RequestID).Logger()
	return &log
}

func badCredentials() error {
	return errs.New(errs.Unauthorized, "the e-mail address or the password is wrong; check both")
}

func invalidAccess() error {
	return errs.New(errs.Unauthorized, "the access token is not valid; log in again")
}

func invalidRefresh() error {
	return errs.New(errs.Unauthorized, "the refresh token is not valid; log in again")
}

func notLoggedIn() error {
	return errs.New(errs.Unauthorized, "nobody is logged in; log in first")
}
