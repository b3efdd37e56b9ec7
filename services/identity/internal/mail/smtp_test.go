package mail

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"turbocat.io/services/identity/internal/account"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an SMTP server on a real port that keeps what it takes.
type server struct {
	address string
	trust   *tls.Config // for its certificate

	mu     sync.Mutex
	taken  []string // sender, recipient and message
	user   string   // who has logged in
	secure bool     // the last message came over TLS
}

type connection struct {
	s        *server
	c        *smtp.Conn
	from, to string
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) { return &connection{s: s, c: c}, nil }

func (c *connection) AuthMechanisms() []string { return []string{sasl.Plain} }

func (c *connection) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "pass word/7" {
			return errors.New("wrong password")
		}
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.user = user
		return nil
	}), nil
}
func (c *connection) Mail(from string, _ *smtp.MailOptions) error { c.from = from; return nil }
func (c *connection) Rcpt(to string, _ *smtp.RcptOptions) error   { c.to = to; return nil }
func (c *connection) Reset()                                      {}
func (c *connection) Logout() error                               { return nil }

func (c *connection) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	_, c.s.secure = c.c.TLSConnectionState()
	c.s.taken = append(c.s.taken, c.from+" "+c.to+"\n"+strings.ReplaceAll(string(body), "=\r\n", ""))
	return nil
}

func serve(t *testing.T, mode string) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	s := &server{trust: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	own := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s.address = "localhost:" + port
	backend := smtp.NewServer(s)
	backend.Domain, backend.ErrorLog = "localhost", quiet{}
	switch mode {
	case "starttls":
		backend.TLSConfig = own
	case "tls":
		listener = tls.NewListener(listener, own)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = backend.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = backend.Close()
		<-done
	})
	return s
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

const sender = "Turbocat <no-reply@example.com>"

var message = account.Mail{To: "ada@example.com", Subject: "Your pässword", Text: "Open https://app.example.com/reset-password#token=abc_DEF-1\n.\nüber\n"}

func TestMailIsSent(t *testing.T) {
	for mode, address := range map[string]string{
		"starttls": "smtp://turbocat:pass%20word%2F7@", "tls": "smtps://turbocat:pass%20word%2F7@", "none": "smtp://",
	} {
		t.Run(mode, func(t *testing.T) {
			s := serve(t, mode)
			address += s.address
			if mode == "none" {
				address += "?tls=none"
			}
			m, err := NewSMTP(address, sender, s.trust)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Send(t.Context(), message); err != nil {
				t.Fatal(err)
			}
			if len(s.taken) != 1 || !strings.HasPrefix(s.taken[0], "no-reply@example.com ada@example.com\n") {
				t.Fatalf("taken: %q", s.taken)
			}
			for _, want := range []string{"From: \"Turbocat\" <no-reply@example.com>", "To: <ada@example.com>", "Subject: =?UTF-8?q?Your_p=C3=A4ssword?", "Auto-Submitted: auto-generated", "Message-ID: ", "Date: ", "reset-password#token=3Dabc_DEF-1"} {
				if !strings.Contains(s.taken[0], want) {
					t.Errorf("%q is not in\n%s", want, s.taken[0])
				}
			}
			if s.secure != (mode == "starttls") && mode != "tls" || (s.user == "turbocat") != (mode != "none") {
				t.Errorf("by %q, secure %v", s.user, s.secure)
			}
		})
	}
}

// TestMailIsNotSentInsecurely has servers that the mail, and the password, must not go to.
func TestMailIsNotSentInsecurely(t *testing.T) {
	for name, c := range map[string]struct {
		mode, scheme string
		trusted      bool
	}{
		"no STARTTLS":                {"none", "smtp://turbocat:pass%20word%2F7@", true},
		"a certificate of nobody":    {"starttls", "smtp://turbocat:pass%20word%2F7@", false},
		"a certificate, TLS at once": {"tls", "smtps://turbocat:pass%20word%2F7@", false},
		"a wrong password":           {"starttls", "smtp://turbocat:other@", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.mode)
			trust := s.trust
			if !c.trusted {
				trust = nil
			}
			m, err := NewSMTP(c.scheme+s.address, sender, trust)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), "pass word") {
				t.Errorf("sent, or told with the password: %v", err)
			}
			if len(s.taken) != 0 || s.user != "" {
				t.Errorf("%q by %q", s.taken, s.user)
			}
		})
	}
}

func TestMailGivesUpInTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	m, err := NewSMTP("smtp://"+silent.Addr().String()+"?tls=none", sender, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := m.Send(ctx, message); err == nil || time.Since(began) > timeout/2 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestAddressesOfServers(t *testing.T) {
	for address, want := range map[string]string{
		"smtp://mail.example.com": "", "smtps://u:p@mail.example.com": "", "smtp://u:p@mail.example.com:2525": "", "smtp://relay:25?tls=none": "",
		"": "is no address", "mail.example.com:587": "is no address", "http://mail.example.com": "is no address", "smtp://": "is no address", "smtp://u:secret@%zz": "is no address",
		"smtp://h:0": "has no port", "smtp://h:70000": "has no port", "smtp://h?tls=maybe": "has tls=maybe", "smtp://u:secret@h?tls=none": "in the clear",
	} {
		_, err := NewSMTP(address, sender, nil)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	if _, err := NewSMTP("smtp://mail.example.com", "nobody", nil); err == nil || !strings.Contains(err.Error(), "TURBOCAT_IDENTITY_MAIL_FROM") {
		t.Errorf("%v", err)
	}
}
