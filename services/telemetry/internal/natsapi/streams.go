package natsapi

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
)

const (
	// prefetch is how many batches wait in memory.
	prefetch      = 64
	ensureTimeout = 5 * time.Second
)

// logsStream is the stream that keeps batches of log lines until they are stored. When that takes too long the
// oldest go: a log line is worth less than an execution that can go on.
func logsStream(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subject.LogsStream, Subjects: []string{subject.LogsAll}, Description: "batches of log lines, until telemetry has stored them",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, MaxAge: 24 * time.Hour, MaxBytes: 1 << 30, Replicas: replicas,
	}
}

// logsConsumer is shared by all replicas of telemetry. A batch that none acks within 30 s goes
// to another, for ever: what can not be stored is for Settle to throw away.
var logsConsumer = jetstream.ConsumerConfig{
	Durable: "telemetry-logs", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxDeliver: -1, MaxAckPending: 4 * prefetch,
}

// ensureLogs makes logsStream and logsConsumer, or brings them to what they should be.
func ensureLogs(ctx context.Context, js jetstream.JetStream, copies *bus.Copies) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(ctx, logsStream(copies.Declared()))
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", subject.LogsStream, err)
	}
	copies.Saw(stream.CachedInfo())
	consumer, err := stream.CreateOrUpdateConsumer(ctx, logsConsumer)
	if err != nil {
		return nil, fmt.Errorf("make consumer %s: %w", logsConsumer.Durable, err)
	}
	return consumer, nil
}
