package natsapi

import (
	"context"
	"encoding/json"
	"fmt"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/bus"
	"turbocat.io/pkg/postgres/outbox"
	"turbocat.io/services/orchestrator/internal/schedule"
)

// Schedules carries to the catalog which workflows have a schedule that is on.
func Schedules(conn *bus.Conn) outbox.Route {
	return outbox.Route{Type: schedule.TypeNoted, Committed: func(ctx context.Context, messages []outbox.Message) ([]string, error) {
		ids, states := make([]string, len(messages)), make([]catalog.ScheduleState, len(messages))
		for i, m := range messages {
			ids[i] = m.ID
			if err := json.Unmarshal(m.Body, &states[i]); err != nil {
				return nil, fmt.Errorf("decode message %s of the outbox: %w", m.ID, err)
			}
		}
		_, err := bus.Call(ctx, conn, catalog.NoteSchedules, rpc.System(""), catalog.ScheduleStates{States: states})
		if err != nil {
			return nil, err
		}
		return ids, nil
	}}
}
