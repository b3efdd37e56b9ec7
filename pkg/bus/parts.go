package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"turbocat.io/contracts/rpc"
)

// A request or an answer that is larger than partSize stays where it is: its message says where its parts can be had, and who
// receives it asks for one after another. So it is never faster than its receiver, needs no store, and whatever is lost on
// the way is asked for again.
const (
	partSize = 512 << 10
	maxBody  = 160 << 20

	// maxPulled bounds the bytes of large requests that a server holds at once; others wait with theirs.
	maxPulled = 256 << 20

	// partWait is how long a part is awaited before it is asked for again.
	partWait = 2 * time.Second
)

// done is asked for instead of a part once all are there, or no more are wanted.
const done = "done"

// offer is a body whose parts can be had until it is closed.
type offer struct {
	sub   *nats.Subscription
	taken chan struct{} // has one entry once its receiver asks for no more
}

// attach makes body that of a message, or offers its parts; the offer is nil when there is none.
func attach(nc *nats.Conn, m *nats.Msg, body []byte) (*offer, error) {
	if len(body) <= partSize {
		m.Data = body
		return nil, nil
	}
	o := &offer{taken: make(chan struct{}, 1)}
	at := nats.NewInbox()
	sub, err := nc.Subscribe(at, func(ask *nats.Msg) {
		n, err := strconv.Atoi(string(ask.Data))
		switch {
		case string(ask.Data) == done:
			select {
			case o.taken <- struct{}{}:
			default:
			}
		case err == nil && n >= 0 && n < parts(len(body)):
			_ = ask.Respond(body[n*partSize : min((n+1)*partSize, len(body))]) // it is asked for again
		}
	})
	if err != nil {
		return nil, err
	}
	o.sub = sub
	m.Header.Set(rpc.HeaderPartsAt, at)
	m.Header.Set(rpc.HeaderSize, strconv.Itoa(len(body)))
	return o, nil
}

func (o *offer) close() {
	if o != nil {
		_ = o.sub.Unsubscribe()
	}
}

// wait returns once the receiver asks for no more, or ctx ends.
func (o *offer) wait(ctx context.Context) error {
	if o == nil {
		return nil
	}
	select {
	case <-o.taken:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("its parts were not fetched: %w", ctx.Err())
	}
}

// sizeOf gives the size of the body of a message whose parts are to be had elsewhere; 0 for the others.
func sizeOf(h nats.Header) (int, error) {
	if h.Get(rpc.HeaderPartsAt) == "" {
		return 0, nil
	}
	size, err := strconv.Atoi(h.Get(rpc.HeaderSize))
	if err != nil || size <= 0 || size > maxBody {
		return 0, fmt.Errorf("%s is %q, not a number from 1 to %d", rpc.HeaderSize, h.Get(rpc.HeaderSize), maxBody)
	}
	return size, nil
}

// bodyOf gives the body of a message, wherever it is to be had.
func bodyOf(ctx context.Context, nc *nats.Conn, m *nats.Msg) ([]byte, error) {
	size, err := sizeOf(m.Header)
	if err != nil || size == 0 {
		return m.Data, err
	}
	at := m.Header.Get(rpc.HeaderPartsAt)
	defer func() { _ = nc.Publish(at, []byte(done)) }() // lost, its sender waits until its deadline
	body := make([]byte, 0, size)
	for n := range parts(size) {
		part, err := partOf(ctx, nc, at, n)
		if err != nil {
			return nil, err
		}
		if len(part) != min(partSize, size-len(body)) {
			return nil, fmt.Errorf("part %d of %d bytes has %d", n, size, len(part))
		}
		body = append(body, part...)
	}
	return body, nil
}

func partOf(ctx context.Context, nc *nats.Conn, at string, n int) ([]byte, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, partWait)
		part, err := nc.RequestWithContext(waiting, at, []byte(strconv.Itoa(n)))
		cancel()
		switch {
		case err == nil:
			return part.Data, nil
		case errors.Is(err, nats.ErrNoResponders):
			return nil, fmt.Errorf("who offered part %d is gone: %w", n, err)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

func parts(size int) int { return (size + partSize - 1) / partSize }
