package natsapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/dealing"
)

// HearRunners tells a dealer of the runners until ctx ends, and serve of the pools of all labels that they offer. The subscription outlives reconnects.
func HearRunners(ctx context.Context, nc *nats.Conn, dealer *dealing.Dealer, serve func(pool string), log zerolog.Logger) error {
	sub, err := nc.Subscribe(subject.RunnerHeartbeat, func(m *nats.Msg) {
		var h runner.Heartbeat
		switch err := json.Unmarshal(m.Data, &h); {
		case err != nil || h.RunnerID == "":
			log.Warn().Err(err).Msg("a runner's heartbeat does not decode")
		default:
			serve(h.Pool)
			dealer.Heard(h)
		}
	})
	if err != nil {
		return fmt.Errorf("listen for runners: %w", err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed by now
	return nil
}
