package mail

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	contract "turbocat.io/contracts/identity"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/identity/internal/account"
)

// kept is how many mails a mailbox keeps.
const kept = 100

// Mailbox keeps the newest mails in memory and writes them to the log, for development. It is safe for concurrent use.
type Mailbox struct {
	log zerolog.Logger

	mu    sync.Mutex
	mails []contract.DevMail // oldest first
}

// NewMailbox makes a mailbox.
func NewMailbox(log zerolog.Logger) *Mailbox { return &Mailbox{log: log} }

// Send implements account.Mailer.
func (b *Mailbox) Send(_ context.Context, m account.Mail) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.mails = append(b.mails, contract.DevMail{ID: id.String(), To: m.To, Subject: m.Subject, Text: m.Text, SentAt: time.Now().UTC()})
	b.mails = b.mails[max(0, len(b.mails)-kept):]
	b.mu.Unlock()
	b.log.Info().Str("to", m.To).Str("subject", m.Subject).Str("text", m.Text).Msg("mail, kept in the development mailbox")
	return nil
}

// List gives a page of the mails, newest first.
func (b *Mailbox) List(p rpc.Page) rpc.List[contract.DevMail] {
	b.mu.Lock()
	all := slices.Clone(b.mails)
	b.mu.Unlock()
	slices.Reverse(all)
	number, size := max(p.Page, 1), p.PageSize
	if size < 1 || size > 100 {
		size = 20
	}
	from := min((number-1)*size, len(all))
	return rpc.List[contract.DevMail]{
		Items:      all[from:min(from+size, len(all))],
		Pagination: rpc.Pagination{Page: number, PageSize: size, Total: len(all), TotalPages: (len(all) + size - 1) / size},
	}
}
