package natsapi

import (
	"context"

	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/telemetry"
	"turbocat.io/pkg/bus"
)

// Logs reads log lines.
type Logs interface {
	// List reads a page of an execution's lines; VALIDATION_ERROR with every fault of the request.
	List(ctx context.Context, q telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error)
}

// Register lets the service answer the methods of contracts/telemetry.
func Register(server *bus.Server, logs Logs) {
	bus.Handle(server, telemetry.ListLogs, func(ctx context.Context, _ rpc.Caller, q telemetry.LogsRequest) (rpc.List[telemetry.LogLine], error) {
		return logs.List(ctx, q)
	})
}
