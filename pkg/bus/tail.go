package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deadTail is how long the server keeps the consumer of a process that is gone.
const deadTail = time.Minute

// Tail gives the messages of a stream to take, in their order and with no durable place, until ctx ends or it can not go on. works is told
// when it has begun. An ordered consumer resumes by stream sequence, which a remade stream begins anew: after any fault it ends, and whoever
// calls it again, as Keep does, begins on whatever stream is there. So messages may be missing between two of them.
func (c *Conn) Tail(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig, take func(jetstream.Msg), works func()) error {
	cfg.InactiveThreshold = deadTail
	consumer, err := c.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("consume %s: %w", stream, err)
	}
	broken := make(chan error, 1)
	reading, err := consumer.Consume(take,
		jetstream.PullHeartbeat(5*time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case broken <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("consume %s: %w", stream, err)
	}
	defer reading.Stop()
	works()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-reading.Closed():
		return errors.New("the consumer closed")
	case err := <-broken:
		return err
	}
}
