package schema

import (
	"context"
	"errors"
	"runtime"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxSteps bounds what one check does: a schema of a few lines can ask for more steps than
// there is time, and the validator can not be told to stop.
const maxSteps = 5_000_000

// stepsPerLook is how many steps are done before the context and the stack are looked at.
const stepsPerLook = 512

// maxFrames bounds the stack of a check, where the depth of the value and the way from schema
// to schema multiply. It takes some 12 MiB.
const maxFrames = 20_000

var (
	errTooManySteps = errors.New("takes too many steps")
	errTooDeep      = errors.New("goes too deep")
)

// meter counts the steps of the check that is going on and breaks it off.
type meter struct {
	ctx   context.Context
	most  int
	spent int
	look  int // when the context and the stack are looked at
}

// brokenOff is what a check panics with, inside this package alone.
type brokenOff struct{ reason error }

func (m *meter) spend(steps int) {
	m.spent += steps
	if m.spent > m.most {
		panic(brokenOff{errTooManySteps})
	}
	if m.spent < m.look {
		return
	}
	m.look = m.spent + stepsPerLook
	if err := m.ctx.Err(); err != nil {
		panic(brokenOff{err})
	}
	if runtime.Callers(maxFrames, make([]uintptr, 1)) > 0 {
		panic(brokenOff{errTooDeep})
	}
}

// run validates doc. The reason tells why the check was broken off.
func (m *meter) run(ctx context.Context, s *jsonschema.Schema, doc any) (fault, reason error) {
	m.ctx, m.spent, m.look = ctx, 0, 0
	defer func() {
		m.ctx = nil
		switch r := recover().(type) {
		case nil:
		case brokenOff:
			fault, reason = nil, r.reason
		default:
			panic(r)
		}
	}()
	return s.Validate(doc), nil
}

// attach has m count every visit to s. A schema's format is what the validator asks for before
// it goes into the value or into other schemas, so m stands before the format. The list of an
// enum is asked for before that, so a long one moves into a schema of its own.
func (m *meter) attach(s *jsonschema.Schema) {
	const short = 8
	fixed := 1
	if s.Enum != nil && len(s.Enum.Values) > short {
		fixed += len(s.Enum.Values)
		s.AllOf = append(s.AllOf, &jsonschema.Schema{DraftVersion: s.DraftVersion, Location: s.Location, Enum: s.Enum})
		s.Enum = nil
	}
	fixed += len(s.AllOf) + len(s.AnyOf) + len(s.OneOf) + len(s.PrefixItems) +
		len(s.Dependencies) + len(s.DependentSchemas) + len(s.DependentRequired) + len(s.Required)/short
	perField := 1 + len(s.PatternProperties)
	next := s.Format
	metered := &jsonschema.Format{Validate: func(v any) error {
		steps := fixed
		switch v := v.(type) {
		case map[string]any:
			steps += len(v) * perField
		case []any:
			steps += len(v)
		case string:
			steps += len(v) / 64
		}
		m.spend(steps)
		if next == nil {
			return nil
		}
		return next.Validate(v)
	}}
	if next != nil {
		metered.Name = next.Name
	}
	s.Format = metered
}

// collect makes a vocabulary of no keywords that hands every schema of a compilation over.
func collect(take func(*jsonschema.Schema)) *jsonschema.Vocabulary {
	return &jsonschema.Vocabulary{
		URL: location + ":meter",
		Compile: func(ctx *jsonschema.CompilerContext, _ map[string]any) (jsonschema.SchemaExt, error) {
			take(ctx.Enqueue(nil))
			return nil, nil
		},
	}
}
