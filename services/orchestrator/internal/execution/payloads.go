package execution

import (
	"context"
	"time"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/rawjson"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/grant"
)

// bodiesAtOnce is how many bodies of attempts are put together at once; the others wait.
const bodiesAtOnce = 2

// ErrServicesOnly refuses users what is for services.
var ErrServicesOnly = errs.New(errs.Forbidden, "only services may ask this")

// System tells whether a service asks by itself.
func System(caller rpc.Caller) bool { return caller.UserID == "" && caller.IsAdmin() }

// StorePayload keeps an output that a runner is going to report by its reference.
func (s *Service) StorePayload(ctx context.Context, caller rpc.Caller, req orchestrator.StorePayloadRequest) (rpc.Empty, error) {
	if !System(caller) {
		return rpc.Empty{}, ErrServicesOnly
	}
	if len(req.Payload) > runner.MaxOutput {
		return rpc.Empty{}, errs.New(errs.PayloadTooLarge, "the payload has %d bytes; at most %d are possible", len(req.Payload), runner.MaxOutput)
	}
	if fault := rawjson.Fault(req.Payload); fault != "" {
		return rpc.Empty{}, errs.New(errs.Validation, "the payload %s", fault)
	}
	_, err := s.store.StorePayload(ctx, req.ExecutionID, req.Payload)
	return rpc.Empty{}, err
}

// AttemptBody gives a runner the body of a step whose message has none. It answers once the ledger has the beginning of the attempt.
func (s *Service) AttemptBody(ctx context.Context, caller rpc.Caller, req orchestrator.AttemptRequest) (orchestrator.AttemptBodyResponse, error) {
	var none orchestrator.AttemptBodyResponse
	if !System(caller) {
		return none, ErrServicesOnly
	}
	for asked := false; ; asked = true {
		record, err := s.store.Get(ctx, req.ExecutionID)
		switch {
		case errs.CodeOf(err) == errs.NotFound:
			return none, nil
		case err != nil:
			return none, err
		}
		x := record.Execution
		i, known := x.Definition.StepIndex(req.StepKey)
		if !known {
			return none, nil
		}
		p := engine.Place{Step: i, Iteration: req.Iteration}
		if t := x.Task(p); t != nil && t.AwaitsResult() && t.Token == req.Token {
			return s.body(ctx, x, p)
		}
		if asked {
			return none, nil
		}
		if err := s.Applied(ctx, subject.PartitionOf(req.ExecutionID)); err != nil {
			return none, err
		}
	}
}

// GrantKey gives identity the key that verifies the grants of secrets.
func (s *Service) GrantKey(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (orchestrator.GrantKeyResponse, error) {
	if !System(caller) {
		return orchestrator.GrantKeyResponse{}, ErrServicesOnly
	}
	signer, err := s.signer(ctx)
	if err != nil {
		return orchestrator.GrantKeyResponse{}, err
	}
	return orchestrator.GrantKeyResponse{PublicKey: signer.PublicKey()}, nil
}

func (s *Service) signer(ctx context.Context) (*grant.Signer, error) {
	secret, err := s.store.Secret(ctx)
	if err != nil {
		return nil, err
	}
	return grant.NewSigner(secret)
}

func (s *Service) body(ctx context.Context, x *engine.Execution, p engine.Place) (out orchestrator.AttemptBodyResponse, err error) {
	select {
	case s.bodies <- struct{}{}:
		defer func() { <-s.bodies }()
	case <-ctx.Done():
		return out, errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "too many large inputs are asked for; ask again")
	}
	failed := s.payloads.Lend(ctx, x)
	var warnings []engine.Warning
	out.Body, warnings, out.Failure = x.DeferredBody(p)
	if err := failed(); err != nil {
		return orchestrator.AttemptBodyResponse{}, err
	}
	if names := x.Definition.Steps[p.Step].Work(p.Iteration).Secrets; names != nil && out.Failure == nil {
		signer, err := s.signer(ctx)
		if err != nil {
			return orchestrator.AttemptBodyResponse{}, err
		}
		token, err := signer.Sign(x.UserID, x.ID, names, time.Now())
		if err != nil {
			return orchestrator.AttemptBodyResponse{}, err
		}
		out.Body = grant.Within(out.Body, token)
	}
	for _, w := range warnings {
		s.inputLog.Warn(x, w)
	}
	return out, nil
}
