package execution

import (
	"context"

	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/orchestrator"
	"turbocat.io/contracts/rpc"
	"turbocat.io/contracts/subject"
)

// maxEventBytes is how many bytes of events are enough for one answer.
const maxEventBytes = 4 << 20

// PartitionEvents gives telemetry what it has missed of a partition.
func (s *Service) PartitionEvents(ctx context.Context, caller rpc.Caller, req orchestrator.PartitionEventsRequest) (orchestrator.PartitionEventsResponse, error) {
	out := orchestrator.PartitionEventsResponse{Events: []orchestrator.PartitionEvent{}}
	switch {
	case !System(caller):
		return out, ErrServicesOnly
	case req.Partition < 0 || req.Partition >= subject.Partitions:
		return out, errs.New(errs.Validation, "there is no partition %d", req.Partition)
	}
	rows, err := s.store.Events(ctx, req.Partition, req.After, min(max(req.Limit, 1), maxEvents))
	size := 0
	for _, r := range rows {
		if size += len(r.Body); size > maxEventBytes && len(out.Events) > 0 {
			break
		}
		out.Events = append(out.Events, orchestrator.PartitionEvent{N: r.N, Body: r.Body})
	}
	return out, err
}

// EventNumbers tells telemetry how far the partitions are.
func (s *Service) EventNumbers(ctx context.Context, caller rpc.Caller, _ rpc.Empty) (orchestrator.EventNumbersResponse, error) {
	out := orchestrator.EventNumbersResponse{Last: make([]uint64, subject.Partitions)}
	if !System(caller) {
		return out, ErrServicesOnly
	}
	all := make([]int, subject.Partitions)
	for p := range all {
		all[p] = p
	}
	positions, err := s.store.Positions(ctx, all)
	for _, p := range positions {
		out.Last[p.P] = p.EventN
	}
	return out, err
}
