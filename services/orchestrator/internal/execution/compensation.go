package execution

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

// AcceptedCompensation gives a compensation as the ledger accepts it.
func AcceptedCompensation(c partition.Compensation) (Accepted, error) {
	body, err := json.Marshal(c.Definition)
	if err != nil {
		return Accepted{}, fmt.Errorf("encode the definition of a compensation: %w", err)
	}
	hash := sha256.Sum256(body)
	return Accepted{
		ID: c.ID, Caller: rpc.Caller{UserID: c.UserID, Role: rpc.RoleUser, RequestID: c.RequestID, Traceparent: c.Traceparent},
		Definition: c.Definition, DefinitionBody: body, DefinitionHash: hash[:], TriggerType: c.TriggerType, Priority: c.Priority, Inputs: c.Inputs,
		CreatedAt: c.EndedAt.Std(), Depth: c.Depth, CompensationOf: c.Of,
	}, nil
}

// ErrCompensatedAgain refuses to run a compensation again a second time.
var ErrCompensatedAgain = errs.New(errs.Conflict, "the compensation was run again before; see compensatedBy of the execution that it undoes for the one that counts")

// undone refuses to run an execution again whose steps are not undone yet.
func undone(r Record) error {
	c := r.Compensation
	switch {
	case c == nil || c.Status == orchestrator.ExecutionCompleted:
		return nil
	case engine.Terminal(c.Status):
		return errs.New(errs.Conflict, "the execution %s, which undoes what this one has done, is %s; retry that one first, and this one once it has COMPLETED", c.ID, c.Status)
	}
	return errs.New(errs.Conflict, "the execution %s, which undoes what this one has done, is %s; try again once it has COMPLETED", c.ID, c.Status)
}
