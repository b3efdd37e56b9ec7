package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is what Store takes.
type Message struct {
	Subject string
	ID      string // by which the stream drops a second copy; "" for none
	Headers map[string]string
	Body    []byte
}

// Store publishes messages to JetStream and waits until each is stored or ctx ends. With an error some may be stored all the same.
func (c *Conn) Store(ctx context.Context, messages []Message) error {
	if !c.nc.IsConnected() {
		return nats.ErrDisconnected
	}
	futures := make([]jetstream.PubAckFuture, 0, len(messages))
	var failed error
	for _, m := range messages {
		msg := nats.NewMsg(m.Subject)
		msg.Data = m.Body
		for name, value := range m.Headers {
			msg.Header.Set(name, value)
		}
		if m.ID != "" {
			msg.Header.Set(jetstream.MsgIDHeader, m.ID)
		}
		future, err := c.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
		if err != nil {
			failed = errors.Join(failed, err)
			break
		}
		futures = append(futures, future)
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			failed = errors.Join(failed, err)
		case <-ctx.Done():
			return errors.Join(failed, ctx.Err())
		}
	}
	return failed
}
