package natsapi

import (
	"context"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/telemetry/internal/analytics"
	"turbocat.io/services/telemetry/internal/feed"
)

// Logs reads log lines.
type Logs interface {
	// List reads a page of an execution's lines; VALIDATION_ERROR with every fault of the request.
	List(ctx context.Context, q telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error)
}

// Feeds reads feeds.
type Feeds interface {
	Read(ctx context.Context, userID string, req telemetry.FeedRequest) (telemetry.FeedResponse, error)
}

// Register lets the service answer the methods of contracts/telemetry.
func Register(server *bus.Server, logs Logs, feeds Feeds, intake *feed.Intake, metrics *analytics.Metrics) {
	bus.Handle(server, telemetry.ReadFeed, func(ctx context.Context, caller rpc.Caller, q telemetry.FeedRequest) (telemetry.FeedResponse, error) {
		if caller.UserID == "" {
			return telemetry.FeedResponse{}, errs.New(errs.Unauthorized, "a feed is a user's; sign in")
		}
		return feeds.Read(ctx, caller.UserID, q)
	})
	bus.Handle(server, telemetry.IngestEvents, intake.Ingest)
	bus.Handle(server, telemetry.ReadMetrics, metrics.Read)
	bus.Handle(server, telemetry.ListLogs, func(ctx context.Context, _ rpc.Caller, q telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error) {
		return logs.List(ctx, q)
	})
}
