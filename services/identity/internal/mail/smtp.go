// Package mail sends mail through an SMTP server, or keeps it for development.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"

	"turbocat.io/services/identity/internal/account"
)

// timeout bounds each exchange with the server.
const timeout = 15 * time.Second

// SMTP sends mail through a server. It is safe for concurrent use.
type SMTP struct {
	host    string
	from    string
	options []gomail.Option
}

// NewSMTP makes a sender of an address like smtp://user:password@host:587, which demands STARTTLS, smtps://user:password@host:465, or
// smtp://host:25?tls=none for a relay on a trusted network. trust is nil for the system's certificates. No error shows the password.
func NewSMTP(address, from string, trust *tls.Config) (*SMTP, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, errors.New("is no address of an SMTP server; give one like smtp://user:password@mail.example.com:587, or smtps:// for TLS from the beginning")
	}
	if _, err := mail.ParseAddress(from); err != nil {
		return nil, errors.New("needs TURBOCAT_IDENTITY_MAIL_FROM; set it to an address like Turbocat <no-reply@example.com>")
	}
	port, policy, plain := 587, gomail.TLSMandatory, false
	switch given := u.Query().Get("tls"); {
	case u.Scheme == "smtps":
		port, policy = 465, gomail.NoTLS // not STARTTLS: it begins with TLS
	case given == "none":
		policy, plain = gomail.NoTLS, true
	case given != "":
		return nil, fmt.Errorf("has tls=%s; leave it out, or give none for a relay on a trusted network", given)
	}
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return nil, errors.New("has no port from 1 to 65535; correct it")
		}
	}
	s := &SMTP{host: u.Hostname(), from: from, options: []gomail.Option{gomail.WithPort(port), gomail.WithTLSPolicy(policy)}}
	if u.Scheme == "smtps" {
		s.options = append(s.options, gomail.WithSSL())
	}
	if trust != nil {
		trust = trust.Clone()
		trust.ServerName = s.host
		s.options = append(s.options, gomail.WithTLSConfig(trust))
	}
	if name := u.User.Username(); name != "" {
		if plain {
			return nil, errors.New("has a password and tls=none, which would send it in the clear; leave one of them out")
		}
		secret, _ := u.User.Password()
		s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(name), gomail.WithPassword(secret))
	}
	return s, nil
}

// Send implements account.Mailer.
func (s *SMTP) Send(ctx context.Context, m account.Mail) error {
	message := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := errors.Join(message.From(s.from), message.To(m.To)); err != nil {
		return err
	}
	message.Subject(m.Subject)
	message.SetBodyString(gomail.TypeTextPlain, m.Text)
	message.SetGenHeader("Auto-Submitted", "auto-generated")
	patience := timeout
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(min(patience, time.Until(deadline)), time.Millisecond)
	}
	client, err := gomail.NewClient(s.host, append([]gomail.Option{gomail.WithTimeout(patience)}, s.options...)...)
	if err != nil {
		return err
	}
	return client.DialAndSendWithContext(ctx, message)
}

// None sends nothing: neither a server nor a mailbox is configured.
type None struct{}

// Send implements account.Mailer.
func (None) Send(context.Context, account.Mail) error {
	return errors.New("no mail can be sent: set TURBOCAT_IDENTITY_SMTP_URL")
}
