package execution

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/schema"
	"turbocat.io/services/orchestrator/internal/engine"
)

const (
	// maxFrozen bounds the bytes of the definitions that are kept to be executed again; those longest unused go.
	maxFrozen = 64 << 20
	// compiledSchema is how much more than its text a compiled schema takes, about.
	compiledSchema = 30
)

// frozen is a definition as executions of it are accepted. It is immutable.
type frozen struct {
	definition catalog.Definition
	versions   catalog.Versions
	body       []byte // the canonical JSON of definition
	hash       []byte // its SHA-256
	inputs     *schema.Schema
	compiled   *engine.Definition
}

// size is about what it takes in memory.
func (f *frozen) size() int { return 6*len(f.body) + compiledSchema*len(f.definition.InputSchema) }

// freeze gives a workflow as the caller may execute it now. The catalog is asked each time, so that a change has effect at once.
func (a *Acceptor) freeze(ctx context.Context, caller rpc.Caller, workflowID string) (*frozen, error) {
	return a.looks.do(ctx, caller, workflowID, func(ctx context.Context) (*frozen, error) { return a.look(ctx, caller, workflowID) })
}

// look asks the catalog, which sends what has changed alone.
func (a *Acceptor) look(ctx context.Context, caller rpc.Caller, workflowID string) (*frozen, error) {
	req := catalog.ResolveRequest{ID: workflowID}
	known := a.frozen.find(workflowID)
	if known != nil {
		req.Known = &known.versions
	}
	resolved, err := a.catalog.Resolve(ctx, caller, req)
	switch {
	case err != nil:
		return nil, err
	case resolved.Unchanged && known != nil:
		return known, nil
	}
	f, err := freeze(resolved.Definition)
	if err != nil {
		return nil, err
	}
	a.frozen.keep(workflowID, f)
	return f, nil
}

func freeze(def catalog.Definition) (*frozen, error) {
	f := &frozen{definition: def, versions: catalog.Versions{Workflow: def.WorkflowVersion, Agents: make([]catalog.AgentVersion, len(def.Agents))}}
	for i, agent := range def.Agents {
		f.versions.Agents[i] = catalog.AgentVersion{ID: agent.ID, Version: agent.Version}
	}
	var err error
	if f.inputs, err = compileInputs(def.InputSchema); err != nil {
		return nil, err
	}
	if f.compiled, err = engine.Compile(def); err != nil { // accepted, it would hold up its partition
		return nil, errs.Wrap(err, errs.Conflict, "this version can not run the workflow: %s", err)
	}
	if f.body, err = json.Marshal(def); err != nil {
		return nil, fmt.Errorf("encode the definition: %w", err)
	}
	hash := sha256.Sum256(f.body)
	f.hash = hash[:]
	return f, nil
}

// frozenDefinitions are those that were executed last, by workflow. They are safe for concurrent use.
type frozenDefinitions struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, *frozen]
	bytes int
}

func newFrozenDefinitions() *frozenDefinitions {
	f := &frozenDefinitions{}
	f.known, _ = simplelru.NewLRU(maxFrozen, func(_ string, gone *frozen) { f.bytes -= gone.size() }) // it refuses sizes below 1 alone
	return f
}

func (f *frozenDefinitions) find(workflowID string) *frozen {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, _ := f.known.Get(workflowID)
	return known
}

func (f *frozenDefinitions) keep(workflowID string, d *frozen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.Remove(workflowID)
	f.known.Add(workflowID, d)
	for f.bytes += d.size(); f.bytes > maxFrozen && f.known.Len() > 1; {
		f.known.RemoveOldest()
	}
}
