package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"turbocat.io/contracts/runner"
)

// ErrGrantOver is what a Vault gives when a grant is good for nothing any more: another is to be asked for.
var ErrGrantOver = errors.New("the grant of secrets is over")

// Vault has users' secrets.
type Vault interface {
	// Open gives the secrets of a grant by name, and the names that there is no secret of. It asks until it is answered, or gives
	// ctx's error or ErrGrantOver.
	Open(ctx context.Context, s *Step, grant string) (values map[string]string, missing []string, err error)
}

// grantAgain is the pause before another grant is asked for, when the last one was good for nothing either.
const grantAgain = 500 * time.Millisecond

// open gives the secrets that an attempt needs, and puts those of its input where they belong. They are read anew for each attempt.
func (p *Pool) open(ctx context.Context, step *Step, body *runner.StepBody) (map[string]string, error) {
	if body.Grant == "" {
		return nil, nil
	}
	for tries := 0; ; tries++ {
		values, missing, err := p.Vault.Open(ctx, step, body.Grant)
		switch {
		case errors.Is(err, ErrGrantOver): // the step waited for longer than the grant is good
			if tries > 0 {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(grantAgain):
				}
			}
			if *body, err = p.fetchBody(ctx, step); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		case len(missing) > 0:
			return nil, noSecret(missing)
		default:
			body.Input, err = filled(body.Input, body.Secrets, values)
			return values, err
		}
	}
}

func noSecret(names []string) error {
	slices.Sort(names)
	what := "secret " + names[0] + " does not exist; make it with PUT /api/v1/secrets/" + names[0]
	if len(names) > 1 {
		what = "secrets " + strings.Join(names, ", ") + " do not exist; make them with PUT /api/v1/secrets/{name}"
	}
	return &runner.StepError{Code: runner.CodeNoSecret, Message: "the " + what + ", and run the step again"}
}

// filled gives a JSON text with secrets in their places.
func filled(text json.RawMessage, points []runner.SecretPoint, values map[string]string) (json.RawMessage, error) {
	if len(points) == 0 {
		return text, nil
	}
	var out []byte
	at := 0
	for _, point := range points {
		value, known := values[point.Name]
		if !known || point.At < at || point.At > len(text) {
			return nil, fmt.Errorf("the secret %.128q has no place at %d", point.Name, point.At)
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("the secret %.128q does not encode", point.Name)
		}
		out = append(append(out, text[at:point.At]...), quoted[1:len(quoted)-1]...)
		at = point.At
	}
	return append(out, text[at:]...), nil
}
