package execution

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
)

// cancellable are the statuses from which an execution is cancelled.
var cancellable = []string{orchestrator.ExecutionPending, orchestrator.ExecutionRunning, orchestrator.ExecutionPaused}

const (
	// maxBulkFailures is how many failures are told.
	maxBulkFailures = 100
	// retriesAtOnce is how many executions a bulk retries at a time.
	retriesAtOnce = 16
	// answerIn is what a bulk leaves of its time for the answer.
	answerIn = 2 * time.Second
)

// Bulk cancels or retries the executions that a filter names and the caller can see, the oldest first. A cancel asked for again
// is the same as one; a retry leaves out what was run again before, so that repeating the request goes on with the rest, also while the first is not done.
func (s *Service) Bulk(ctx context.Context, caller rpc.Caller, req orchestrator.BulkRequest) (orchestrator.BulkResponse, error) {
	out := orchestrator.BulkResponse{Failed: []orchestrator.BulkFailure{}}
	if caller.UserID == "" {
		return out, errs.New(errs.Unauthorized, "only a user has executions; sign in")
	}
	user := caller.UserID
	if caller.IsAdmin() {
		user = ""
	}
	statuses, act := cancellable, s.cancelAll
	switch req.Action {
	case orchestrator.BulkCancel:
	case orchestrator.BulkRetry:
		statuses, act = retryable, s.retryAll
	default:
		return out, errs.Invalid("request", []errs.Detail{{
			Field: "action", Message: "is none that there is; give " + orchestrator.BulkCancel + " or " + orchestrator.BulkRetry, Code: errs.BadEnum,
		}})
	}
	ids, matched, err := s.store.Named(ctx, user, req.Filter, req.Action, statuses, orchestrator.MaxBulk)
	if err != nil {
		return out, err
	}
	out.Matched = matched
	return act(ctx, caller, ids, out)
}

func (s *Service) cancelAll(ctx context.Context, caller rpc.Caller, ids []string, out orchestrator.BulkResponse) (orchestrator.BulkResponse, error) {
	commands := make([]Command, len(ids))
	for i, id := range ids {
		commands[i] = Command{ID: uuid.Must(uuid.NewV7()).String(), ExecutionID: id, Partition: subject.PartitionOf(id), Kind: CommandCancel, UserID: caller.UserID}
	}
	if err := s.store.AddCommands(ctx, commands); err != nil {
		return out, err
	}
	for _, c := range commands {
		appendCommand(s.inputLog, c)
	}
	out.Done = len(commands)
	return out, nil
}

// retryAll retries executions until the time for the answer has come.
func (s *Service) retryAll(ctx context.Context, caller rpc.Caller, ids []string, out orchestrator.BulkResponse) (orchestrator.BulkResponse, error) {
	until, bounded := ctx.Deadline()
	var mu sync.Mutex
	var working sync.WaitGroup
	free := make(chan struct{}, retriesAtOnce)
	for _, id := range ids {
		if bounded && time.Until(until) < answerIn {
			break
		}
		free <- struct{}{}
		working.Go(func() {
			defer func() { <-free }()
			fresh, err := s.retryOne(ctx, caller, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fresh:
				out.Done++
			case err != nil && len(out.Failed) < maxBulkFailures:
				e := errs.From(err)
				out.Failed = append(out.Failed, orchestrator.BulkFailure{ID: id, Code: string(e.Code), Message: e.Message})
			}
		})
	}
	working.Wait()
	return out, nil
}

// retryOne tells whether an execution is run again: not when another bulk, at the same time, has done so.
func (s *Service) retryOne(ctx context.Context, caller rpc.Caller, id string) (bool, error) {
	record, err := s.store.Get(ctx, id)
	if err != nil {
		return false, err
	}
	again, err := retryOf(record)
	if err != nil {
		return false, err
	}
	again.Key = &IdempotencyKey{UserID: record.Execution.UserID, Route: "bulk", Key: id, BodyHash: hashOf(id)}
	outcome, err := s.acceptAgain(ctx, caller, again)
	return err == nil && !outcome.Replayed, err
}
