package identity

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"turbocat.io/pkg/seal"
	"turbocat.io/services/identity/internal/audit"
	"turbocat.io/services/identity/internal/mail"
)

// Config is what the service reads from the environment.
type Config struct {
	AccessSecret  string `env:"JWT_ACCESS_SECRET"`
	RefreshSecret string `env:"JWT_REFRESH_SECRET"`
	BcryptCost    int    `env:"TURBOCAT_IDENTITY_BCRYPT_COST" envDefault:"12"`
	// Keys seal users' secrets.
	Keys seal.Keys

	// FrontendURL is what links in mails begin with.
	FrontendURL string `env:"FRONTEND_URL"`
	// SMTPURL is the server that takes mail; MailFrom whom it is from.
	SMTPURL  string `env:"TURBOCAT_IDENTITY_SMTP_URL"`
	MailFrom string `env:"TURBOCAT_IDENTITY_MAIL_FROM"`
	// DevMailbox has mail kept and logged instead of sent; never in production, for whoever reads it can be anybody.
	DevMailbox bool `env:"TURBOCAT_IDENTITY_DEV_MAILBOX"`

	// AuditRetention is how long entries of the audit trail are kept; 0 for ever, for a trail must not vanish unasked.
	AuditRetention time.Duration `env:"TURBOCAT_IDENTITY_AUDIT_RETENTION" envDefault:"0"`
}

// minAuditRetention is as long as the sender of an entry may ask whether it is in the trail.
const minAuditRetention = 24 * time.Hour

const (
	minCost = 4
	maxCost = 16 // about five seconds a login
)

func (c Config) validate() error {
	problems := []error{seal.CheckKey("JWT_ACCESS_SECRET", c.AccessSecret), seal.CheckKey("JWT_REFRESH_SECRET", c.RefreshSecret), c.Keys.Check()}
	if c.AccessSecret != "" && c.AccessSecret == c.RefreshSecret {
		problems = append(problems, errors.New("JWT_ACCESS_SECRET and JWT_REFRESH_SECRET are the same; set each to a random text of its own"))
	}
	if c.SMTPURL != "" {
		if c.DevMailbox {
			problems = append(problems, errors.New("TURBOCAT_IDENTITY_SMTP_URL and TURBOCAT_IDENTITY_DEV_MAILBOX are both set; mail is either sent or kept, so leave one out"))
		}
		if c.FrontendURL == "" {
			problems = append(problems, errors.New("FRONTEND_URL is not set; links in mails begin with it: set it to an address like https://app.example.com"))
		}
		if _, err := mail.NewSMTP(c.SMTPURL, c.MailFrom, nil); err != nil {
			problems = append(problems, fmt.Errorf("TURBOCAT_IDENTITY_SMTP_URL %w", err))
		}
	}
	if u, err := url.Parse(c.FrontendURL); c.FrontendURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "") {
		problems = append(problems, errors.New("FRONTEND_URL is not an http or https address; give one like https://app.example.com"))
	}
	if c.AuditRetention != 0 && c.AuditRetention < minAuditRetention {
		problems = append(problems, fmt.Errorf("%s is %s; set it to %s or more, or to 0 to keep the audit trail for ever", audit.RetentionSetting, c.AuditRetention, minAuditRetention))
	}
	if c.BcryptCost < minCost || c.BcryptCost > maxCost {
		problems = append(problems, fmt.Errorf("TURBOCAT_IDENTITY_BCRYPT_COST is %d; set it to %d..%d (12 is the default)", c.BcryptCost, minCost, maxCost))
	}
	return errors.Join(problems...)
}
