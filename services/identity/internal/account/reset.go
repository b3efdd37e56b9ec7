package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/ratelimit"
	"turbocat.io/services/identity/internal/password"
)

// Resets keeps who asked for a mail to set a new password, and the tokens of those mails.
type Resets interface {
	// AskReset records that a client asks for a mail to an address, whether it has an account or not.
	AskReset(ctx context.Context, client Client, email string, now time.Time) error
	// DueReset takes a request that is due and puts it off, so that it is not taken by others meanwhile, and later with every try; ErrUnknown when none is due.
	DueReset(ctx context.Context) (ResetRequest, error)
	// SettleReset ends a request, unless the address has asked anew.
	SettleReset(ctx context.Context, r ResetRequest) error
	// IssueReset puts a token in the place of any earlier one of the user, for the client that asked for it.
	IssueReset(ctx context.Context, client Client, user UserID, digest []byte, expires time.Time) error
	// CanReset tells whether a token could be redeemed.
	CanReset(ctx context.Context, digest []byte, now time.Time) (bool, error)
	// RedeemReset spends a token: its user has another password hash then, and no session, of those that it names; ErrUnknown for
	// a token that is unknown, spent, superseded or expired, or whose user may not log in.
	RedeemReset(ctx context.Context, digest []byte, hash, reason string, now time.Time) (UserID, []SessionID, error)
}

// ResetRequest is an address that has asked for a mail.
type ResetRequest struct {
	Email   string
	AskedAt time.Time
	Tries   int // this one included
	Client  Client
}

// Mail is a message in plain text.
type Mail struct {
	To, Subject, Text string
}

// Mailer sends mail. A mail is sent, or may be, when there is no error.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}

const (
	resetLifetime = time.Hour
	// resetPatience is how long sending a mail is tried again.
	resetPatience = 24 * time.Hour
	// mailTimeout bounds one try; what is taken is put off for longer.
	mailTimeout = 20 * time.Second
	// mailEvery is how often is looked for requests of other processes, or of before a restart.
	mailEvery = 2 * time.Second
)

// resetLimit bounds the mails to one address. Beyond it none is sent, and the last one's token is good.
var resetLimit = ratelimit.Limit{Rate: 5, Burst: 5, Period: time.Hour}

// ForgotPassword has a mail sent to an address that has an account. Nothing that is answered, nor when, tells whether it has: what is
// done here is the same, and the rest is done later.
func (a *Accounts) ForgotPassword(ctx context.Context, client Client, email string) error {
	email = normalEmail(email)
	if faults := checkEmail(email); len(faults) > 0 {
		return errs.Invalid("request", faults)
	}
	if !a.Attempts.Take(ctx, "reset:"+digestOf(email), resetLimit).Allowed {
		a.security(client, "password_reset_throttled").Info().Msg("security event")
		return a.Store.Refused(ctx, Refusal{Action: audit.AuthResetRequested, Reason: "throttled"})
	}
	if err := a.Store.AskReset(ctx, client.recorded(), email, a.now()); err != nil {
		return err
	}
	a.security(client, "password_reset_asked").Info().Msg("security event")
	select {
	case a.asked <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// ResetPassword sets a new password by the token of a mail, once, and ends all sessions.
func (a *Accounts) ResetPassword(ctx context.Context, client Client, token, secret string) error {
	faults := password.Check("password", secret)
	digest := resetDigest(token)
	good, err := a.Store.CanReset(ctx, digest, a.now())
	if err != nil {
		return err
	}
	if !good {
		if err := a.Store.Refused(ctx, Refusal{Action: audit.AuthPasswordReset, Reason: "bad_token"}); err != nil {
			return err
		}
		faults = append(faults, badResetToken())
	}
	if len(faults) > 0 {
		return errs.Invalid("request", faults)
	}
	hash, err := a.Hasher.Hash(ctx, secret)
	if err != nil {
		return err
	}
	user, ended, err := a.Store.RedeemReset(ctx, digest, hash, revokedReset, a.now())
	if errors.Is(err, ErrUnknown) { // spent meanwhile
		return errs.Invalid("request", []errs.Detail{badResetToken()})
	}
	if err != nil {
		return err
	}
	a.Liveness.Revoked(ctx, ended...)
	a.security(client, "password_reset").Info().Stringer("userId", user).Int("sessionsEnded", len(ended)).Msg("security event")
	return nil
}

// RunMail sends the mails that were asked for until ctx ends, those of before a restart included.
func (a *Accounts) RunMail(ctx context.Context) {
	ticker := time.NewTicker(mailEvery)
	defer ticker.Stop()
	for {
		for {
			r, err := a.Store.DueReset(ctx)
			if err != nil {
				if !errors.Is(err, ErrUnknown) && ctx.Err() == nil {
					a.Log.Warn().Err(err).Msg("requests for mail can not be read; trying again")
				}
				break
			}
			if err := a.mailReset(ctx, r); err != nil && ctx.Err() == nil {
				a.Log.Warn().Err(err).Int("tries", r.Tries).Msg("a mail is not sent; trying again later")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.asked:
		case <-ticker.C:
		}
	}
}

// mailReset makes a token and sends it to who asked, when the address has an account. Its text exists in the mail alone.
func (a *Accounts) mailReset(ctx context.Context, r ResetRequest) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	user, err := a.Store.ByEmail(ctx, r.Email)
	if errors.Is(err, ErrUnknown) || err == nil && !user.mayLogIn() {
		return a.Store.SettleReset(ctx, r)
	}
	if err != nil {
		return err
	}
	if a.now().Sub(r.AskedAt) > resetPatience {
		a.Log.Error().Stringer("userId", user.ID).Int("tries", r.Tries).Msg("a mail could not be sent for a day and is given up")
		return a.Store.SettleReset(ctx, r)
	}
	token := newResetToken()
	if err := a.Store.IssueReset(ctx, r.Client, user.ID, resetDigest(token), a.now().Add(resetLifetime)); err != nil {
		return err
	}
	if err := a.Mailer.Send(ctx, a.resetMail(user, token)); err != nil {
		return fmt.Errorf("send a mail: %w", err)
	}
	a.Log.Info().Str("event", "password_reset_mailed").Stringer("userId", user.ID).Msg("security event")
	return a.Store.SettleReset(ctx, r)
}

// resetMail words the mail. Its link is made of our own configuration; nothing of a request is in it.
func (a *Accounts) resetMail(u User, token string) Mail {
	way := "Open this link to choose a new one:\n\n" + a.Frontend + "/reset-password#token=" + token
	if a.Frontend == "" {
		way = "Send this token with a new one to POST /api/v1/auth/reset-password:\n\n" + token
	}
	return Mail{To: u.Email, Subject: "Your Turbocat password", Text: "Hello,\n\nsomebody, most likely you, has forgotten the password of this address at Turbocat.\n\n" + way +
		"\n\nIt works once, within an hour, and ends all your sessions. If it was not you, there is nothing to do: your password is as it was.\n"}
}

// Notify sends a user a mail; NOT_FOUND when there is nobody who would read it.
func (a *Accounts) Notify(ctx context.Context, userID, subject, text string) error {
	nobody := errs.New(errs.NotFound, "there is no such account that people use")
	id, err := uuid.Parse(userID)
	if err != nil {
		return nobody
	}
	user, err := a.Store.ByID(ctx, UserID{id})
	switch {
	case errors.Is(err, ErrUnknown), err == nil && !user.mayLogIn():
		return nobody
	case err != nil:
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	return a.Mailer.Send(ctx, Mail{To: user.Email, Subject: subject, Text: text})
}

// mayLogIn tells whether the account is one that people log in to.
func (u User) mayLogIn() bool { return refusal(true, true, u) == "" }

func newResetToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// resetDigest is what is stored of a token.
func resetDigest(token string) []byte {
	sum := sha256.Sum256([]byte("turbocat reset v1\x00" + token))
	return sum[:]
}

func badResetToken() errs.Detail {
	return errs.Detail{Field: "token", Message: "the token is not good: it is unknown, used, replaced by that of a newer mail, or older than an hour; ask for another mail", Code: errs.BadValue}
}
