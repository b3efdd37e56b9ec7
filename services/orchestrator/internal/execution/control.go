package execution

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/orchestrator/internal/engine"
)

// Cancel asks for the end of an execution. Asking again is the same as asking once; a
// terminal execution is a CONFLICT.
func (s *Service) Cancel(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.CommandResponse, error) {
	return s.command(ctx, caller, req.ID, CommandCancel, "cancelled")
}

// Pause asks that no more steps of an execution start. A paused one stays as it is; a terminal one is a CONFLICT.
func (s *Service) Pause(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.CommandResponse, error) {
	return s.command(ctx, caller, req.ID, CommandPause, "paused")
}

// Resume asks a paused execution to go on. One that is not paused stays as it is; a terminal one is a CONFLICT.
func (s *Service) Resume(ctx context.Context, caller rpc.Caller, req orchestrator.IDRequest) (orchestrator.CommandResponse, error) {
	return s.command(ctx, caller, req.ID, CommandResume, "resumed")
}

func (s *Service) command(ctx context.Context, caller rpc.Caller, id, kind, participle string) (orchestrator.CommandResponse, error) {
	record, err := s.Visible(ctx, caller, id)
	if err != nil {
		return orchestrator.CommandResponse{}, err
	}
	x := record.Execution
	if x.Terminal() {
		return orchestrator.CommandResponse{}, errs.New(errs.Conflict, "the execution is %s; only one that has not ended can be %s", x.Status, participle)
	}
	c := Command{ID: uuid.Must(uuid.NewV7()).String(), ExecutionID: x.ID, Partition: x.Partition, Kind: kind, UserID: caller.UserID}
	if err := s.store.AddCommands(ctx, []Command{c}); err != nil {
		return orchestrator.CommandResponse{}, err
	}
	appendCommand(s.inputLog, c)
	return orchestrator.CommandResponse{CommandID: c.ID}, nil
}

// appendCommand puts a committed command into the input log; if that does not take it now, the reconciler repeats it.
func appendCommand(log InputLog, c Command) {
	if control, err := c.Control(); err == nil { // it was made here
		log.Append(control, func(error) {})
	}
}

const (
	maxComment = 1000
	// maxSignal is the largest payload of a signal: the state holds it as it is.
	maxSignal = 1 << 20
)

// SendSignal gives a signal to an execution that waits for it, or is going to. Without an idempotency key it is not safe to repeat.
func (s *Service) SendSignal(ctx context.Context, caller rpc.Caller, req orchestrator.SignalRequest) (orchestrator.CommandResponse, error) {
	record, err := s.Visible(ctx, caller, req.ID)
	if err != nil {
		return orchestrator.CommandResponse{}, err
	}
	x := record.Execution
	waits, approval := x.Definition.Awaits(req.Name)
	if waits == 0 {
		return orchestrator.CommandResponse{}, errs.New(errs.NotFound, "no step of the execution waits for a signal of this name; check it")
	}
	if req.Payload, err = checkSignal(req, approval); err != nil {
		return orchestrator.CommandResponse{}, err
	}
	signal := orchestrator.Signal{Name: req.Name, Payload: req.Payload, Approve: req.Approve, Comment: req.Comment, By: caller.UserID}
	body, err := json.Marshal(signal)
	if err != nil {
		return orchestrator.CommandResponse{}, fmt.Errorf("encode a signal: %w", err)
	}
	c := Command{
		ID: uuid.Must(uuid.NewV7()).String(), ExecutionID: x.ID, Partition: x.Partition, Kind: CommandSignal, UserID: caller.UserID, Name: req.Name, Signal: body,
	}
	var key *IdempotencyKey
	if req.IdempotencyKey != "" {
		key = &IdempotencyKey{UserID: caller.UserID, Route: "signal:" + x.ID, Key: req.IdempotencyKey, BodyHash: signalHash(signal)}
	}
	decisions := -1 // any number
	if approval {
		decisions = waits - reusedWaits(record, req.Name)
	}
	outcome, err := s.store.AddSignal(ctx, c, key, func(now Standing) error { return admitSignal(now, decisions) })
	switch {
	case err != nil:
		return orchestrator.CommandResponse{}, err
	case outcome.Conflict:
		return orchestrator.CommandResponse{}, errKeyUsed
	case !outcome.Replayed:
		appendCommand(s.inputLog, c)
	}
	return orchestrator.CommandResponse{CommandID: outcome.ID}, nil
}

// checkSignal gives the payload, null when there is none.
func checkSignal(req orchestrator.SignalRequest, approval bool) (json.RawMessage, error) {
	payload := json.RawMessage(bytes.TrimSpace(req.Payload))
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	if len(payload) > maxSignal {
		return nil, errs.New(errs.PayloadTooLarge, "the payload has %d bytes; at most %d are possible", len(payload), maxSignal)
	}
	var faults []errs.Detail
	if fault := rawjson.Fault(payload); fault != "" {
		faults = append(faults, errs.Detail{Field: "payload", Message: fault, Code: errs.BadJSON})
	}
	if approval && req.Approve == nil {
		faults = append(faults, errs.Detail{Field: "approve", Message: "is missing; give true to approve or false to refuse", Code: errs.Required})
	}
	if utf8.RuneCountInString(req.Comment) > maxComment {
		faults = append(faults, errs.Detail{Field: "comment", Message: "must be at most " + strconv.Itoa(maxComment) + " characters", Code: errs.OutOfRange})
	}
	checkKey(req.IdempotencyKey, &faults)
	if len(faults) > 0 {
		return nil, errs.Invalid("signal", faults)
	}
	return payload, nil
}

func signalHash(s orchestrator.Signal) []byte {
	approve := ""
	if s.Approve != nil {
		approve = strconv.FormatBool(*s.Approve)
	}
	return hashOf(s.Name, approve, strconv.Quote(s.Comment), compact(s.Payload))
}

// reusedWaits counts the WAITs for a signal that have had it in an earlier execution.
func reusedWaits(r Record, signal string) int {
	n := 0
	for i := range r.Reused {
		if r.Execution.Definition.Signal(i) == signal {
			n++
		}
	}
	return n
}

// admitSignal decides whether an execution takes a signal in; decisions is how many of its name can be, -1 for any number.
func admitSignal(now Standing, decisions int) error {
	switch {
	case engine.Terminal(now.Status):
		return errs.New(errs.Conflict, "the execution is %s; only one that has not ended takes signals", now.Status)
	case decisions >= 0 && now.Named >= decisions:
		return errs.New(errs.Conflict, "the approval is decided; a decision counts once")
	case now.Kept >= orchestrator.MaxSignals:
		return errs.New(errs.RateLimited, "the execution keeps %d signals that no step has waited for yet; send more when some are taken", now.Kept)
	}
	return nil
}
