package natsapi

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

// heartbeatLook is how often it is looked whether a heartbeat is due.
const heartbeatLook = 100 * time.Millisecond

// Heartbeats says that this runner is alive, and what it takes.
type Heartbeats struct {
	conn     *bus.Conn
	id, pool string
	capacity func() []runner.Capacity
}

// NewHeartbeats makes what says of a runner what capacity gives, and of the pool of all labels that it offers.
func NewHeartbeats(conn *bus.Conn, pool string, capacity func() []runner.Capacity) *Heartbeats {
	return &Heartbeats{conn: conn, id: uuid.NewString(), pool: pool, capacity: capacity}
}

// Run says it until ctx ends, and then that the runner stops.
func (h *Heartbeats) Run(ctx context.Context) {
	ticker := time.NewTicker(heartbeatLook)
	defer ticker.Stop()
	var said []runner.Capacity
	var at time.Time
	for {
		select {
		case <-ctx.Done():
			h.say(runner.Heartbeat{Capacity: []runner.Capacity{}, Stopping: true})
			return
		case now := <-ticker.C:
			capacity := h.capacity()
			same := slices.EqualFunc(said, capacity, func(a, b runner.Capacity) bool { return a.AgentType == b.AgentType && a.Slots == b.Slots })
			if same && now.Sub(at) < runner.HeartbeatEvery {
				continue
			}
			if h.say(runner.Heartbeat{Capacity: capacity}) {
				said, at = capacity, now
			}
		}
	}
}

func (h *Heartbeats) say(b runner.Heartbeat) bool {
	b.RunnerID, b.Pool = h.id, h.pool
	body, err := json.Marshal(b)
	return err == nil && h.conn.NATS().IsConnected() && h.conn.NATS().Publish(subject.RunnerHeartbeat, body) == nil
}
