// Package deadletter shows inputs that could not be applied to who operates the installation, and sends them once more.
package deadletter

import (
	"context"
	"maps"
	"strings"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
)

// Store keeps dead letters.
type Store interface {
	// DeadLetters gives a page; VALIDATION_ERROR with every fault of the request.
	DeadLetters(ctx context.Context, req orchestrator.DeadLettersRequest) (rpc.List[orchestrator.DeadLetter], error)
	// DeadLetter gives one, and its whole body; or NOT_FOUND.
	DeadLetter(ctx context.Context, id string) (d orchestrator.DeadLetter, body []byte, err error)
	// CountDeadLetters gives a count for each reason.
	CountDeadLetters(ctx context.Context) ([]orchestrator.DeadLetterCount, error)
	// NoteReplay counts that one was sent once more, and gives it as it is then.
	NoteReplay(ctx context.Context, id string) (orchestrator.DeadLetter, error)
}

// Log takes inputs of executions.
type Log interface {
	// Resend puts a message into the log and returns once it is stored there.
	Resend(ctx context.Context, subject string, headers map[string][]string, body []byte) error
}

// Service answers requests about dead letters. It is safe for concurrent use.
type Service struct {
	store Store
	log   Log
}

// NewService makes a Service.
func NewService(store Store, log Log) *Service { return &Service{store, log} }

// List gives a page of dead letters.
func (s *Service) List(ctx context.Context, caller rpc.Caller, req orchestrator.DeadLettersRequest) (rpc.List[orchestrator.DeadLetter], error) {
	if err := permit(caller); err != nil {
		return rpc.List[orchestrator.DeadLetter]{}, err
	}
	return s.store.DeadLetters(ctx, req)
}

// Get gives a dead letter with as much of its body as is shown.
func (s *Service) Get(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.DeadLetter, error) {
	if err := permit(caller); err != nil {
		return orchestrator.DeadLetter{}, err
	}
	d, body, err := s.store.DeadLetter(ctx, req.ID)
	d.Body = strings.ToValidUTF8(string(body[:min(len(body), orchestrator.MaxDeadBody)]), "\uFFFD")
	return d, err
}

// Count gives how many dead letters there are for each reason.
func (s *Service) Count(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (orchestrator.DeadLetterCounts, error) {
	if err := permit(caller); err != nil {
		return orchestrator.DeadLetterCounts{}, err
	}
	counts, err := s.store.CountDeadLetters(ctx)
	return orchestrator.DeadLetterCounts{Counts: counts}, err
}

// Replay sends a dead letter once more.
func (s *Service) Replay(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.DeadLetter, error) {
	if err := permit(caller); err != nil {
		return orchestrator.DeadLetter{}, err
	}
	d, body, err := s.store.DeadLetter(ctx, req.ID)
	if err != nil {
		return orchestrator.DeadLetter{}, err
	}
	// It is noted behind: who is cut off between the two finds it as it was, and may send it again.
	if err := s.log.Resend(ctx, d.Subject, own(d.Headers), body); err != nil {
		return orchestrator.DeadLetter{}, err
	}
	return s.store.NoteReplay(ctx, d.ID)
}

// own leaves out the headers that told NATS what to do with the message: one of an id would be taken for the first one still.
func own(headers map[string][]string) map[string][]string {
	kept := maps.Clone(headers)
	maps.DeleteFunc(kept, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
	return kept
}

func permit(caller rpc.Caller) error {
	if caller.IsAdmin() {
		return nil
	}
	return errs.New(errs.Forbidden, "only an ADMIN may do this; ask one")
}
