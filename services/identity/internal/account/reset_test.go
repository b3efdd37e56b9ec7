package account_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/services/identity/internal/account"
)

// post is where mail goes in tests.
type post struct {
	mu    sync.Mutex
	mails []account.Mail
	fails int // that many times from now
}

func (p *post) Send(_ context.Context, m account.Mail) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails > 0 {
		p.fails--
		return errors.New("the server is away")
	}
	p.mails = append(p.mails, m)
	return nil
}

func (p *post) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mails)
}

var resetLink = regexp.MustCompile(`https://app\.example\.com/reset-password#token=([A-Za-z0-9_-]{43})\n`)

// deliver sends mail until there are n of them, and gives the token in the last.
func (b *bundle) deliver(a *account.Accounts, n int) string {
	b.t.Helper()
	b.delivering(a, func() bool { return b.mail.count() >= n })
	b.mail.mu.Lock()
	defer b.mail.mu.Unlock()
	last := b.mail.mails[len(b.mail.mails)-1]
	token := resetLink.FindStringSubmatch(last.Text)
	if len(b.mail.mails) != n || token == nil {
		b.t.Fatalf("%d mails, the last %+v", len(b.mail.mails), last)
	}
	return token[1]
}

// delivering sends mail until something holds.
func (b *bundle) delivering(a *account.Accounts, until func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.RunMail(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	for deadline := time.Now().Add(20 * time.Second); !until(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatal("it does not happen")
		}
	}
}

// settled tells whether no request is left.
func (b *bundle) settled() bool {
	var n int
	return b.db.Get(&n, `SELECT count(*) FROM password_reset_requests`) == nil && n == 0
}

func (b *bundle) forgot(email string) {
	b.t.Helper()
	if err := b.ForgotPassword(b.t.Context(), client, email); err != nil {
		b.t.Fatal(err)
	}
}

const better = "Better-Horse-8"

func TestAForgottenPassword(t *testing.T) {
	b, ctx := setup(t), t.Context()
	ada, bob := b.register("ada@example.com"), b.register("bob@example.com")
	again := b.login("ada@example.com")
	b.forgot(" ADA@example.com ")
	token := b.deliver(b.Accounts, 1)
	if m := b.mail.mails[0]; m.To != "ada@example.com" || !strings.Contains(m.Text, "within an hour") {
		t.Errorf("%+v", m)
	}
	var stored string
	if err := b.db.Get(&stored, `SELECT coalesce(string_agg(r::text, ''), '') || (SELECT string_agg(t::text, '') FROM password_reset_tokens t) FROM password_reset_requests r`); err != nil || strings.Contains(stored, token) || !strings.Contains(stored, ada.User.ID.String()) {
		t.Errorf("the token is stored: %s, %v", stored, err)
	}

	err := b.ResetPassword(ctx, client, token, "short")
	wantCode(t, "a weak password", err, errs.Validation)
	err = b.ResetPassword(ctx, client, token+"x", "short")
	var e *errs.Error
	if !errors.As(err, &e) || len(e.Details) < 4 || e.Details[len(e.Details)-1].Field != "token" {
		t.Errorf("all faults at once: %+v", e)
	}
	results := make(chan error, 6) // one use, also of those that come at a time
	for range cap(results) {
		go func() { results <- b.ResetPassword(context.Background(), client, token, better) }()
	}
	used := 0
	for range cap(results) {
		if err := <-results; err == nil {
			used++
		} else {
			wantCode(t, "a second use", err, errs.Validation)
		}
	}
	if used != 1 {
		t.Errorf("the token was used %d times", used)
	}
	for _, g := range []account.Grant{ada, again} {
		b.wantVerify(g.AccessToken, errs.Unauthorized)
		_, err := b.Refresh(ctx, client, g.RefreshToken)
		wantCode(t, "refresh after a reset", err, errs.Unauthorized)
	}
	b.wantVerify(bob.AccessToken, "")
	_, err = b.Login(ctx, client, "ada@example.com", secret)
	wantCode(t, "the old password", err, errs.Unauthorized)
	if _, err := b.Login(ctx, client, "ada@example.com", better); err != nil {
		t.Error(err)
	}
	for _, event := range []string{"password_reset_asked", "password_reset_mailed", `"password_reset"`} {
		if !strings.Contains(b.log.String(), event) {
			t.Errorf("%s is not told", event)
		}
	}
	for _, leak := range []string{token, better, "ada@"} {
		if strings.Contains(b.log.String(), leak) {
			t.Errorf("the log holds %q", leak)
		}
	}
}

func TestTokensEnd(t *testing.T) {
	b, ctx := setup(t), t.Context()
	b.register("ada@example.com")
	b.forgot("ada@example.com")
	first := b.deliver(b.Accounts, 1)
	b.forgot("ada@example.com")
	second := b.deliver(b.Accounts, 2)
	wantCode(t, "superseded", b.ResetPassword(ctx, client, first, better), errs.Validation)
	b.advance(time.Hour - time.Minute)
	b.forgot("ada@example.com")
	third := b.deliver(b.Accounts, 3)
	wantCode(t, "superseded", b.ResetPassword(ctx, client, second, better), errs.Validation)
	b.advance(time.Hour)
	wantCode(t, "expired", b.ResetPassword(ctx, client, third, better), errs.Validation)
	b.forgot("ada@example.com")
	fourth := b.deliver(b.Accounts, 4)
	b.exec(`UPDATE users SET active = false`)
	wantCode(t, "of a deactivated account", b.ResetPassword(ctx, client, fourth, better), errs.Validation)
	for _, token := range []string{"", "x", strings.Repeat("a", 1<<20), "\x00\xff"} {
		wantCode(t, "made up", b.ResetPassword(ctx, client, token, better), errs.Validation)
	}
}

// TestNobodyIsTold asks for addresses that get no mail: the answer is the same, and so is what is done for it.
func TestNobodyIsTold(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	b.register("gone@example.com")
	b.register("robot@example.com")
	b.exec(`UPDATE users SET active = false WHERE email = 'gone@example.com'`)
	b.exec(`UPDATE users SET role = 'AGENT' WHERE email = 'robot@example.com'`)
	for i, email := range []string{"nobody@example.com", "gone@example.com", "robot@example.com", "ada@example.com"} {
		b.forgot(email)
		var n int
		if err := b.db.Get(&n, `SELECT count(*) FROM password_reset_requests`); err != nil || n != i+1 {
			t.Fatalf("%d requests after %s, %v", n, email, err)
		}
	}
	b.delivering(b.Accounts, b.settled)
	if n := b.mail.count(); n != 1 || b.mail.mails[0].To != "ada@example.com" {
		t.Errorf("%d mails", n)
	}
	for _, email := range []string{"", "x", "a\x00@b.c", strings.Repeat("a", 300) + "@example.com"} {
		wantCode(t, email, b.ForgotPassword(t.Context(), client, email), errs.Validation)
	}
}

// TestMailIsNotLost has the server fail, and the process end before it could send.
func TestMailIsNotLost(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	b.forgot("ada@example.com")
	b.mail.fails = 2
	other := b.on(b.db) // a process that was not asked, or the same after a restart
	for try := range 2 {
		b.delivering(other, func() bool {
			b.mail.mu.Lock()
			defer b.mail.mu.Unlock()
			return b.mail.fails == 1-try
		})
		var wait float64
		if err := b.db.Get(&wait, `SELECT extract(epoch FROM due_at - now())::float8 FROM password_reset_requests`); err != nil || wait < float64(15*(try+1)) || wait > float64(30*(try+1)) {
			t.Fatalf("after try %d it is due in %.1f s, %v", try+1, wait, err)
		}
		b.exec(`UPDATE password_reset_requests SET due_at = now()`)
	}
	token := b.deliver(other, 1)
	if err := b.ResetPassword(t.Context(), client, token, better); err != nil {
		t.Error(err)
	}
	b.delivering(other, b.settled)

	b.forgot("ada@example.com")
	b.advance(25 * time.Hour)
	b.delivering(other, b.settled)
	if n := b.mail.count(); n != 1 || !strings.Contains(b.log.String(), "given up") {
		t.Errorf("%d mails; what is a day late is not given up", n)
	}
}

// TestMailsToOneAddressAreBounded leaves the last one good: a flood of requests does not keep anybody from a new password.
func TestMailsToOneAddressAreBounded(t *testing.T) {
	b := setup(t)
	b.register("ada@example.com")
	token := ""
	for n := range 5 {
		b.forgot("ada@example.com")
		token = b.deliver(b.Accounts, n+1)
	}
	for range 5 {
		b.forgot("ada@example.com")
	}
	if !b.settled() {
		t.Error("another mail is asked for")
	}
	if err := b.ResetPassword(t.Context(), client, token, better); err != nil {
		t.Error(err)
	}
}

// TestLongPasswords has some that bcrypt alone would cut.
func TestLongPasswords(t *testing.T) {
	b, ctx := setup(t), t.Context()
	for i, length := range []int{8, 71, 72, 73, 200, 256} {
		long := "Aa1-" + strings.Repeat("x", length-4)
		email := fmt.Sprintf("u%d@example.com", i)
		if _, err := b.Register(ctx, client, account.Registration{Email: email, Password: long, FullName: "U"}); err != nil {
			t.Fatalf("%d characters: %v", length, err)
		}
		for name, wrong := range map[string]string{"one less": long[:length-1], "one more": long + "x", "another end": long[:length-1] + "y"} {
			if len(wrong) > 256 {
				continue
			}
			_, err := b.Login(ctx, client, email, wrong)
			wantCode(t, fmt.Sprintf("%s of %d", name, length), err, errs.Unauthorized)
		}
		if _, err := b.Login(ctx, client, email, long); err != nil {
			t.Errorf("%d characters: %v", length, err)
		}
	}
	for _, bad := range []string{"Aa1-xyz", "Aa1-" + strings.Repeat("x", 253)} {
		_, err := b.Register(ctx, client, account.Registration{Email: "bad@example.com", Password: bad, FullName: "U"})
		wantCode(t, fmt.Sprintf("%d characters", len(bad)), err, errs.Validation)
	}
}
