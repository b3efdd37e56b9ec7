package execution

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/observe"
	"turbocat.io/services/orchestrator/internal/engine"
	"turbocat.io/services/orchestrator/internal/partition"
)

const (
	// maxTogether is how many submits share one transaction.
	maxTogether = 128
	// committers is how many such transactions are under way at once.
	committers = 2

	maxKeyLength = 255
)

// Acceptor accepts executions. A submit that is answered is committed; it runs whether or
// not NATS has heard of it.
type Acceptor struct {
	store    Store
	inputLog InputLog
	catalog  Catalog
	log      zerolog.Logger
	queue    chan pending

	registerer prometheus.Registerer
	accepted   prometheus.Counter
}

type pending struct {
	accepted Accepted
	reply    chan answer
}

type answer struct {
	outcome Outcome
	err     error
}

// Option says how an acceptor is watched.
type Option func(*Acceptor)

// WithMetrics registers what accepting is measured by.
func WithMetrics(r prometheus.Registerer) Option { return func(a *Acceptor) { a.registerer = r } }

// NewAcceptor makes an acceptor; it works while Run does.
func NewAcceptor(store Store, inputLog InputLog, catalog Catalog, log zerolog.Logger, options ...Option) *Acceptor {
	a := &Acceptor{store: store, inputLog: inputLog, catalog: catalog, log: log, queue: make(chan pending, 4*maxTogether)}
	for _, option := range options {
		option(a)
	}
	a.accepted = promauto.With(a.registerer).NewCounter(prometheus.CounterOpts{
		Name: "executions_accepted_total", Help: "Executions that were committed, and will end whatever happens.",
	})
	return a
}

// Submit accepts an execution of a workflow. Without an idempotency key it is not safe to repeat.
// The outcome tells whose execution it is when the key was used before.
func (a *Acceptor) Submit(ctx context.Context, caller rpc.Caller, req orchestrator.SubmitRequest) (Accepted, Outcome, error) {
	inputs, err := checkSubmit(req)
	if err != nil {
		return Accepted{}, Outcome{}, err
	}
	execution, err := a.prepare(ctx, caller, req.WorkflowID, inputs)
	if err != nil {
		return Accepted{}, Outcome{}, err
	}
	execution.ID, execution.TriggerType = uuid.Must(uuid.NewV7()).String(), req.TriggerType
	if req.Priority != nil {
		execution.Priority = *req.Priority
	}
	if req.IdempotencyKey != "" {
		execution.Key = &IdempotencyKey{UserID: caller.UserID, Route: "execute", Key: req.IdempotencyKey, BodyHash: bodyHash(req)}
	}
	outcome, err := a.Accept(ctx, execution)
	return execution, outcome, err
}

// errKeyUsed refuses a key that stands for another request.
var errKeyUsed = errs.New(errs.Conflict, "the Idempotency-Key was used for another request within 24 hours; use a new key")

// Accept commits an execution that is checked, and puts it into the input log. The outcome tells whose execution it is when
// the key was used before; without a key it is not safe to repeat.
func (a *Acceptor) Accept(ctx context.Context, execution Accepted) (Outcome, error) {
	outcome, err := a.commit(ctx, execution)
	switch {
	case err != nil:
		return Outcome{}, err
	case outcome.Conflict:
		return Outcome{}, errKeyUsed
	case outcome.Replayed, outcome.Obsolete:
		return outcome, nil
	}
	ids := observe.IDsOf(ctx)
	ids.ExecutionID = outcome.ID
	a.inputLog.Append(partition.Control{P: subject.PartitionOf(outcome.ID), Kind: engine.Submitted, ExecutionID: outcome.ID}, func(err error) {
		if err != nil {
			a.log.Warn().EmbedObject(ids).Err(err).Msg("an accepted execution is not in the input log yet; the reconciler puts it there")
		}
	})
	return outcome, nil
}

// prepare freezes a workflow for a caller, and checks the inputs by its schema.
func (a *Acceptor) prepare(ctx context.Context, caller rpc.Caller, workflowID string, inputs []byte) (Accepted, error) {
	def, err := a.catalog.Resolve(ctx, caller, workflowID)
	if err != nil {
		return Accepted{}, err
	}
	if err := checkInputs(ctx, def.InputSchema, inputs); err != nil {
		return Accepted{}, err
	}
	if _, err := engine.Compile(def); err != nil { // accepted, it would hold up its partition
		return Accepted{}, errs.Wrap(err, errs.Conflict, "this version can not run the workflow: %s", err)
	}
	body, err := json.Marshal(def)
	if err != nil {
		return Accepted{}, fmt.Errorf("encode the definition: %w", err)
	}
	hash := sha256.Sum256(body)
	return Accepted{
		Caller: caller, Definition: def, DefinitionBody: body, DefinitionHash: hash[:], Priority: def.Priority, Inputs: inputs, CreatedAt: time.Now().UTC(),
	}, nil
}

func checkSubmit(req orchestrator.SubmitRequest) ([]byte, error) {
	var faults []errs.Detail
	inputs, err := checkObject("inputs", req.Inputs, &faults)
	if err != nil {
		return nil, err
	}
	if req.Priority != nil && (*req.Priority < 0 || *req.Priority > 9) {
		faults = append(faults, errs.Detail{Field: "priority", Message: "must be 0 to 9", Code: errs.OutOfRange})
	}
	checkKey(req.IdempotencyKey, &faults)
	if len(faults) > 0 {
		return nil, errs.Invalid("request", faults)
	}
	return slices.Clone(inputs), nil
}

// checkObject gives the inputs of an execution, {} when there are none.
func checkObject(field string, inputs []byte, faults *[]errs.Detail) ([]byte, error) {
	inputs = bytes.TrimSpace(inputs)
	if len(inputs) == 0 || string(inputs) == "null" {
		inputs = []byte("{}")
	}
	if len(inputs) > runner.MaxOutput {
		return nil, errs.New(errs.PayloadTooLarge, "the %s have %d bytes; at most %d are possible", field, len(inputs), runner.MaxOutput)
	}
	if inputs[0] != '{' {
		*faults = append(*faults, errs.Detail{Field: field, Message: "must be a JSON object", Code: errs.BadType})
	}
	if !utf8.Valid(inputs) {
		*faults = append(*faults, errs.Detail{Field: field, Message: "is not valid UTF-8; encode it as UTF-8", Code: errs.BadValue})
	}
	return inputs, nil
}

func checkKey(key string, faults *[]errs.Detail) {
	if len(key) > maxKeyLength || !printable(key) {
		*faults = append(*faults, errs.Detail{
			Field: "Idempotency-Key", Message: "must be at most " + strconv.Itoa(maxKeyLength) + " printable characters", Code: errs.BadValue,
		})
	}
}

func printable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// bodyHash tells requests with one idempotency key apart.
func bodyHash(req orchestrator.SubmitRequest) []byte {
	priority := ""
	if req.Priority != nil {
		priority = strconv.Itoa(*req.Priority)
	}
	return hashOf(req.WorkflowID, priority, compact(req.Inputs))
}

// hashOf tells requests apart. Only the last part may have line breaks.
func hashOf(parts ...string) []byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return sum[:]
}

// compact gives JSON without the spaces that say nothing; what is no JSON stays as it is.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// commit hands the execution to a committer and waits for the outcome. When ctx ends first
// the outcome is unknown.
func (a *Acceptor) commit(ctx context.Context, execution Accepted) (Outcome, error) {
	p := pending{execution, make(chan answer, 1)}
	select {
	case a.queue <- p:
	case <-ctx.Done():
		return Outcome{}, errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "the orchestrator is overloaded; try again shortly")
	}
	select {
	case r := <-p.reply:
		return r.outcome, r.err
	case <-ctx.Done():
		return Outcome{}, errs.Wrap(ctx.Err(), errs.DependencyUnavailable, "the execution was not committed in time; repeat the request with an Idempotency-Key")
	}
}

// Run commits what Submit hands over until ctx ends.
func (a *Acceptor) Run(ctx context.Context) error {
	done := make(chan struct{}, committers)
	for range committers {
		go func() {
			defer func() { done <- struct{}{} }()
			a.commitTogether(ctx)
		}()
	}
	for range committers {
		<-done
	}
	return nil
}

func (a *Acceptor) commitTogether(ctx context.Context) {
	var next []pending // left over because its key was in the last transaction
	for {
		batch := next
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case p := <-a.queue:
				batch = append(batch, p)
			}
		}
	fill:
		for len(batch) < maxTogether {
			select {
			case p := <-a.queue:
				batch = append(batch, p)
			default:
				break fill
			}
		}
		batch, next = distinctKeys(batch)
		a.commitBatch(ctx, batch)
	}
}

// distinctKeys splits off what repeats an idempotency key of the batch.
func distinctKeys(batch []pending) (first, rest []pending) {
	type key struct{ user, route, key string }
	seen := map[key]bool{}
	for _, p := range batch {
		if k := p.accepted.Key; k != nil {
			id := key{k.UserID, k.Route, k.Key}
			if seen[id] {
				rest = append(rest, p)
				continue
			}
			seen[id] = true
		}
		first = append(first, p)
	}
	return first, rest
}

func (a *Acceptor) commitBatch(ctx context.Context, batch []pending) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	executions := make([]Accepted, len(batch))
	for i, p := range batch {
		executions[i] = p.accepted
	}
	outcomes, err := a.store.Accept(ctx, executions)
	if err != nil && len(batch) > 1 && errs.CodeOf(err) != errs.DependencyUnavailable {
		for _, p := range batch { // one of them is refused: the others must not suffer
			a.commitBatch(ctx, []pending{p})
		}
		return
	}
	for i, p := range batch {
		if err != nil {
			p.reply <- answer{err: err}
			continue
		}
		if !outcomes[i].Replayed && !outcomes[i].Conflict && !outcomes[i].Obsolete {
			a.accepted.Inc()
		}
		p.reply <- answer{outcome: outcomes[i]}
	}
}
