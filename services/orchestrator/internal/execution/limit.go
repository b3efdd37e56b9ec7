package execution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/template"
)

// Limit is the concurrency limit that counts an execution, together with those of its workflow that have the same Key.
type Limit struct {
	Key     string // what the limit's template has become
	Max     int
	OnLimit string
}

// Queue is the place of an execution that waits behind a limit.
type Queue struct {
	Key       string
	Max, Held int
	Holders   []string // that have held their slot longest, at most MaxHolders of them
	Place     int      // from 1
	Waiting   int      // executions in the queue
}

// MaxHolders is how many holders a Queue names.
const MaxHolders = 10

// maxLimitKey is how many bytes a key may become; it stands in an index.
const maxLimitKey = 1000

// limitOf gives the limit that counts an execution; nil when its workflow has none. Inputs that make no key are refused.
func limitOf(def catalog.Definition, inputs []byte) (*Limit, error) {
	c := def.Concurrency
	if c == nil {
		return nil, nil
	}
	raw, err := json.Marshal(c.Key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of a concurrency limit: %w", err)
	}
	key, problems := template.Parse(raw)
	if len(problems) > 0 { // the catalog has checked it
		return nil, errs.New(errs.Conflict, "this version can not run the workflow: the key of its concurrency %s", problems[0].Message)
	}
	const room = 6*maxLimitKey + 2 // a byte of text has at most six in JSON
	rendered, unresolved, err := key.RenderWithin(room, func(p template.Path) (json.RawMessage, bool) {
		if p.Root() != "inputs" {
			return nil, false
		}
		return template.Walk(inputs, p[1:])
	})
	if err != nil && !errors.Is(err, template.ErrTooLarge) {
		return nil, err
	}
	if len(unresolved) > 0 && def.StrictTemplates {
		faults := make([]errs.Detail, len(unresolved))
		for i, path := range unresolved {
			faults[i] = errs.Detail{Field: path.String(), Message: "is not there, and the key of the workflow's concurrency names it; give it", Code: errs.Required}
		}
		return nil, errs.Invalid("inputs", faults)
	}
	out := &Limit{Key: text(rendered), Max: c.Max, OnLimit: c.OnLimit}
	if err != nil || len(out.Key) > maxLimitKey {
		return nil, errs.Invalid("inputs", []errs.Detail{{
			Field: "inputs", Message: fmt.Sprintf("make a key of the workflow's concurrency of more than %d bytes; give shorter values", maxLimitKey), Code: errs.OutOfRange,
		}})
	}
	return out, nil
}

// text gives a string as it reads, and any other value as its JSON.
func text(value []byte) string {
	var s string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &s) == nil {
		return s
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return string(value)
	}
	return b.String()
}

// Eviction is the cancel of an execution whose slot a newer one is to have. It is the same however often it is asked for.
func Eviction(executionID string) Command {
	return Command{
		ID:          uuid.NewSHA1(uuid.NameSpaceOID, []byte("turbocat eviction "+executionID)).String(),
		ExecutionID: executionID, Partition: subject.PartitionOf(executionID), Kind: CommandCancel,
	}
}
