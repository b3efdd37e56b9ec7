package natsapi

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

// Feeds asks telemetry for the feeds of users; it implements inbound.Feeds.
type Feeds struct{ Conn *bus.Conn }

// Read implements inbound.Feeds.
func (f Feeds) Read(ctx context.Context, userID string, req telemetry.FeedRequest) (telemetry.FeedResponse, error) {
	return bus.Call(ctx, f.Conn, telemetry.ReadFeed, rpc.Caller{UserID: userID, Role: rpc.RoleUser, RequestID: rpc.CallerOf(ctx).RequestID}, req)
}

// HearFeeds tells heard whose feeds have something new, until ctx ends.
func HearFeeds(ctx context.Context, conn *bus.Conn, heard func(users []string), log zerolog.Logger) error {
	sub, err := conn.NATS().Subscribe(subject.FeedNews, func(m *nats.Msg) {
		var news telemetry.FeedNews
		if err := json.Unmarshal(m.Data, &news); err != nil {
			log.Warn().Err(err).Msg("news of feeds do not decode; triggers find the events when they look by themselves")
			return
		}
		users := make([]string, 0, len(news.Ends))
		for user := range news.Ends {
			users = append(users, user)
		}
		heard(users)
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // the connection may be closed by now
	return nil
}
