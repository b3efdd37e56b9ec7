package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Intake takes the messages of a consumer, together those that wait behind one another.
type Intake struct {
	Prefetch int // how many wait in memory
	// Take handles a message and what more it likes of those that wait; it settles each. It is called by one goroutine.
	Take func(ctx context.Context, first jetstream.Msg, more <-chan jetstream.Msg)
	// Look is called every now and then, beside Take.
	Look  func(ctx context.Context)
	Every time.Duration
}

// Run takes messages until ctx ends or the consumer breaks; works is called once it consumes. It is what a Session does.
func (i Intake) Run(ctx context.Context, consumer jetstream.Consumer, works func()) error {
	messages := make(chan jetstream.Msg, i.Prefetch)
	broken := make(chan error, 1)
	ended := make(chan struct{})
	consuming, err := consumer.Consume(
		func(m jetstream.Msg) {
			select {
			case messages <- m:
			case <-ended: // it comes again
			}
		},
		jetstream.PullMaxMessages(i.Prefetch),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case broken <- err:
			default:
			}
		}),
	)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer func() {
		close(ended)
		consuming.Stop()
		select {
		case <-consuming.Closed():
		case <-time.After(time.Second):
		}
	}()
	works()
	look := time.NewTicker(i.Every)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return fmt.Errorf("consume: %w", err)
		case m := <-messages:
			i.Take(ctx, m, messages)
		case <-look.C:
			i.Look(ctx)
		}
	}
}
