package execution

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/catalog"
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
	// maxBytesTogether is how many bytes of inputs and outputs are enough for one transaction.
	maxBytesTogether = 8 << 20
	// committers is how many such transactions are under way at once. What comes during one shares the next, which begins once that has
	// ended or takes longer than patience.
	committers = 2
	patience   = 20 * time.Millisecond

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
	frozen   *frozenDefinitions
	looks    *looks

	expect    func(p int, id string) func(*engine.Execution) // nil expects nothing
	pressed   func() error
	admission *admission // nil admits everything

	registerer prometheus.Registerer
	accepted   prometheus.Counter
	refused    *prometheus.CounterVec
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

// WithBound refuses to accept what a user asks for beyond so many executions that have not ended.
func WithBound(most int) Option {
	return func(a *Acceptor) { a.admission = newAdmission(most, a.store.Unfinished) }
}

// WithArrivals has whoever owns the partition of an execution in this process know of it; see partition.Owner.Expect.
func WithArrivals(expect func(p int, id string) func(*engine.Execution)) Option {
	return func(a *Acceptor) { a.expect = expect }
}

// WithPressure has pressed asked before anything is accepted that somebody asks for; its error is the answer.
func WithPressure(pressed func() error) Option { return func(a *Acceptor) { a.pressed = pressed } }

// NewAcceptor makes an acceptor; it works while Run does.
func NewAcceptor(store Store, inputLog InputLog, catalog Catalog, log zerolog.Logger, options ...Option) *Acceptor {
	a := &Acceptor{store: store, inputLog: inputLog, catalog: catalog, log: log, queue: make(chan pending, 4*maxTogether), frozen: newFrozenDefinitions(), looks: newLooks()}
	for _, option := range options {
		option(a)
	}
	a.accepted = promauto.With(a.registerer).NewCounter(prometheus.CounterOpts{
		Name: "executions_accepted_total", Help: "Executions that were committed, and will end whatever happens.",
	})
	a.refused = promauto.With(a.registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "accepts_refused_total", Help: "Executions that were not accepted, by reason: user (has too many), or pressure (the writer is behind, or a stream nearly full).",
	}, []string{"reason"})
	return a
}

// Submit accepts an execution of a workflow, or of an agent alone. Without an idempotency key it is not safe to repeat.
// The outcome tells whose execution it is when the key was used before.
func (a *Acceptor) Submit(ctx context.Context, caller rpc.Caller, req orchestrator.SubmitRequest) (Accepted, Outcome, error) {
	inputs, err := checkSubmit(req)
	if err != nil {
		return Accepted{}, Outcome{}, err
	}
	var key *IdempotencyKey
	if req.IdempotencyKey != "" {
		key = &IdempotencyKey{UserID: caller.UserID, Route: routeOf(req), Key: req.IdempotencyKey, BodyHash: bodyHash(req)}
	}
	if before, err := a.admit(ctx, caller.UserID, key); err != nil || before.Replayed {
		return Accepted{}, before, err
	}
	var execution Accepted
	if req.AgentID != "" {
		execution, err = a.prepareTest(ctx, caller, req.AgentID, inputs)
	} else {
		execution, err = a.prepare(ctx, caller, req.WorkflowID, inputs)
	}
	if err != nil {
		return Accepted{}, Outcome{}, err
	}
	execution.ID, execution.TriggerType, execution.Key = uuid.Must(uuid.NewV7()).String(), req.TriggerType, key
	if req.Priority != nil {
		execution.Priority = *req.Priority
	}
	outcome, err := a.Accept(ctx, execution)
	return execution, outcome, err
}

// admit decides whether somebody may ask for another execution now. If not, and the request repeats one that was accepted
// under its key, the outcome is that one's.
func (a *Acceptor) admit(ctx context.Context, userID string, key *IdempotencyKey) (Outcome, error) {
	reason, refusal := a.refusal(ctx, userID)
	if refusal == nil {
		return Outcome{}, nil
	}
	if key != nil {
		switch before, used, err := a.store.Keyed(ctx, *key); {
		case err != nil || !used:
		case before.Conflict:
			return Outcome{}, errKeyUsed
		default:
			return before, nil
		}
	}
	if reason != "" {
		a.refused.WithLabelValues(reason).Inc()
	}
	return Outcome{}, refusal
}

// refusal tells why somebody may not ask for another execution now, and what to count that as; nil when nothing is against it.
func (a *Acceptor) refusal(ctx context.Context, userID string) (reason string, err error) {
	if a.pressed != nil {
		if err := a.pressed(); err != nil {
			return "pressure", err
		}
	}
	if a.admission == nil || userID == "" {
		return "", nil
	}
	if err = a.admission.take(ctx, userID); errs.CodeOf(err) == errs.RateLimited {
		reason = "user"
	}
	return reason, err
}

// errKeyUsed refuses a key that stands for another request.
var errKeyUsed = errs.New(errs.Conflict, "the Idempotency-Key was used for another request within 24 hours; use a new key")

// Accept commits an execution that is checked, and puts it into the input log. The outcome tells whose execution it is when
// the key was used before; without a key it is not safe to repeat.
func (a *Acceptor) Accept(ctx context.Context, execution Accepted) (Outcome, error) {
	var err error
	if execution.Limit, err = limitOf(execution.Definition, execution.Inputs); err != nil {
		return Outcome{}, err
	}
	outcome, err := a.commit(ctx, execution)
	switch {
	case err != nil:
		return Outcome{}, err
	case outcome.Conflict:
		return Outcome{}, errKeyUsed
	case outcome.Replayed, outcome.Obsolete, outcome.Slot == engine.SlotWaiting: // who frees a slot for it says so
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
	f, err := a.freeze(ctx, caller, workflowID)
	if err != nil {
		return Accepted{}, err
	}
	return ofFrozen(ctx, caller, f, inputs)
}

// prepareTest makes an execution of an agent alone.
func (a *Acceptor) prepareTest(ctx context.Context, caller rpc.Caller, agentID string, inputs []byte) (Accepted, error) {
	resolved, err := a.catalog.Resolve(ctx, caller, catalog.ResolveRequest{ID: agentID, Agent: true})
	if err != nil {
		return Accepted{}, err
	}
	f, err := freeze(resolved.Definition)
	if err != nil {
		return Accepted{}, err
	}
	return ofFrozen(ctx, caller, f, inputs)
}

// ofFrozen makes an execution of a frozen definition, whose schema its inputs must fit.
func ofFrozen(ctx context.Context, caller rpc.Caller, f *frozen, inputs []byte) (Accepted, error) {
	if err := checkInputs(ctx, f.inputs, inputs); err != nil {
		return Accepted{}, err
	}
	return Accepted{
		Caller: caller, Definition: f.definition, DefinitionBody: f.body, DefinitionHash: f.hash, Compiled: f.compiled,
		Priority: f.definition.Priority, Inputs: inputs, CreatedAt: time.Now().UTC(),
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

// routeOf tells keys of tests from keys of executions.
func routeOf(req orchestrator.SubmitRequest) string {
	if req.AgentID != "" {
		return "test"
	}
	return "execute"
}

// bodyHash tells requests with one idempotency key apart.
func bodyHash(req orchestrator.SubmitRequest) []byte {
	priority := ""
	if req.Priority != nil {
		priority = strconv.Itoa(*req.Priority)
	}
	return hashOf(req.WorkflowID+req.AgentID, priority, compact(req.Inputs))
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
	done, turn := make(chan struct{}, committers), make(chan struct{}, 1)
	for range committers {
		go func() {
			defer func() { done <- struct{}{} }()
			a.commitTogether(ctx, turn)
		}()
	}
	for range committers {
		<-done
	}
	return nil
}

// commitTogether commits what is handed over, in turns with the other committers.
func (a *Acceptor) commitTogether(ctx context.Context, turn chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case turn <- struct{}{}:
		}
		batch := a.gather(ctx)
		pass := sync.OnceFunc(func() { <-turn })
		slow := time.AfterFunc(patience, pass)
		for len(batch) > 0 {
			var again []pending // whose key is in this transaction
			batch, again = distinctKeys(batch)
			a.commitBatch(ctx, batch)
			batch = again
		}
		slow.Stop()
		pass()
	}
}

// gather waits for something to commit and gives all that is there for one transaction; nil when ctx ends.
func (a *Acceptor) gather(ctx context.Context) (batch []pending) {
	select {
	case <-ctx.Done():
		return nil
	case p := <-a.queue:
		batch = append(batch, p)
	}
	for len(batch) < maxTogether && sizeOf(batch) < maxBytesTogether {
		select {
		case p := <-a.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// sizeOf gives the bytes of the payloads of a batch.
func sizeOf(batch []pending) (n int) {
	for _, p := range batch {
		n += len(p.accepted.Inputs)
		for _, k := range p.accepted.Reused {
			n += len(k.Output)
		}
	}
	return n
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

// expecting tells whoever owns the partitions in this process of executions that are about to be accepted. What it gives is called once with the outcomes, or nil.
func (a *Acceptor) expecting(executions []Accepted) func([]Outcome) {
	arrive := make([]func(*engine.Execution), len(executions))
	begun := make([]*engine.Execution, len(executions))
	for i, x := range executions {
		if begun[i] = x.Begun(); begun[i] != nil && a.expect != nil {
			arrive[i] = a.expect(begun[i].Partition, x.ID)
		}
	}
	return func(outcomes []Outcome) {
		for i, arrived := range arrive {
			switch {
			case arrived == nil:
			case outcomes != nil && outcomes[i] == Outcome{ID: executions[i].ID}:
				arrived(begun[i])
			default:
				arrived(nil)
			}
		}
	}
}

func (a *Acceptor) commitBatch(ctx context.Context, batch []pending) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(10+sizeOf(batch)>>21)*time.Second)
	defer cancel()
	executions := make([]Accepted, len(batch))
	for i, p := range batch {
		executions[i] = p.accepted
	}
	accepted := a.expecting(executions)
	outcomes, inputs, err := a.store.Accept(ctx, executions)
	if err != nil {
		outcomes = nil // those that were accepted nevertheless are read from the ledger
	}
	accepted(outcomes)
	if err != nil && len(batch) > 1 && errs.CodeOf(err) != errs.DependencyUnavailable {
		for _, p := range batch { // one of them is refused: the others must not suffer
			a.commitBatch(ctx, []pending{p})
		}
		return
	}
	for _, c := range inputs {
		a.inputLog.Append(c, func(error) {}) // the reconciler repeats what is lost
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
