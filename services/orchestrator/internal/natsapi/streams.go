// Package natsapi is the orchestrator's side of NATS: the streams it owns, the input log,
// ready steps, public events, and the methods it answers.
package natsapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/runner"
	"turbocat.io/contracts/subject"
	"turbocat.io/services/orchestrator/internal/backlog"
	"turbocat.io/services/orchestrator/internal/partition"
)

// Limits are the settings of the streams that an operator chooses; sizes are in bytes.
type Limits struct {
	ExecutionInputBytes int64
	StepsBytes          int64
	EventsBytes         int64
	EventsAge           time.Duration
}

const (
	// probeBytes is plenty for one small message a service.
	probeBytes = 1 << 20
	// stepAckWait is how long a runner may be silent about a step before another takes it.
	stepAckWait = 5 * time.Second
	// stepsAtRunners bounds how many steps of one agent type all runners hold.
	stepsAtRunners = 8192
	// tokensBytes is what live text takes of the servers' memory, and tokensOfPartition how many messages of a partition: what
	// one runner sends of it in a quarter of an hour, for one that writes much must not drive out all others.
	tokensBytes       = 64 << 20
	tokensOfPartition = 16 << 10
	// tokensWait bounds how long the rest waits for that stream.
	tokensWait = time.Second
	// maxPools bounds the pools of runners that have consumers.
	maxPools = 64
	// stopsFor is for how long runners are told that an attempt no longer counts.
	stopsFor = time.Hour
)

// streams gives the streams that the orchestrator owns, with so many copies each.
func (l Limits) streams(replicas int) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			// No MaxAge: an input that nobody has applied must not vanish. Purged once all have.
			Name: subject.ExecutionInputStream, Subjects: []string{subject.ExecutionInputAll}, Description: "what can change an execution, in order",
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, MaxBytes: l.ExecutionInputBytes, Replicas: replicas,
		},
		{
			// No MaxAge: it would delete work without a word.
			Name: subject.StepsStream, Subjects: []string{subject.StepsAll}, Description: "ready steps, a work queue",
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, MaxBytes: l.StepsBytes, Replicas: replicas,
			Duplicates: 2 * time.Minute, AllowMsgTTL: true,
		},
		{
			Name: subject.EventsStream, Subjects: []string{subject.EventsAll}, Description: "public events; older ones are in the ledger",
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage, MaxBytes: l.EventsBytes, MaxAge: l.EventsAge, Replicas: replicas,
		},
		{
			// Whoever depends on the store writes here now and then, to see whether it can.
			Name: subject.ProbeStream, Subjects: []string{subject.ProbeAll}, Description: "messages that tell whether JetStream stores any",
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, MaxBytes: probeBytes, Replicas: replicas,
		},
	}
}

// tokensStream gives the stream of what models write, which nothing rests on.
func tokensStream(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subject.TokensStream, Subjects: []string{subject.TokensAll}, Description: "what models write, as they write it; results have all of it",
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.MemoryStorage, MaxAge: runner.TokensKept,
		MaxBytes: tokensBytes, MaxMsgsPerSubject: tokensOfPartition, Replicas: replicas,
	}
}

// stepConsumers gives the durable consumers of STEPS for a pool, one for each class of its runners, which pulls from
// it and changes nothing of it. A step is delivered until it is acked: how often is too often is for
// the runner to say, which answers in its place.
func stepConsumers(pool string) []jetstream.ConsumerConfig {
	var out []jetstream.ConsumerConfig
	for _, agentType := range catalog.RunnerAgentTypes() {
		out = append(out, jetstream.ConsumerConfig{
			Durable: subject.StepConsumer(pool, agentType), FilterSubject: subject.StepsOf(pool, agentType),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: stepAckWait, MaxDeliver: -1, MaxAckPending: stepsAtRunners,
		})
	}
	return out
}

// Serve has the consumers made by the next Ensure of every pool that a runner is of that was heard and offers the labels of one. Of too
// many pools nobody is served.
func (t *Transport) Serve(offered string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pool := range catalog.PoolsOf(offered) {
		if _, known := t.pools[pool]; known {
			continue
		}
		if len(t.pools) == maxPools {
			t.log.Warn().Str("pool", pool).Int("most", maxPools).Msg("a runner of one more pool is alive; there are too many, so it gets no steps of it")
			return
		}
		t.pools[pool] = false
	}
}

// ensureConsumers makes those of the pools that were heard since, or of all when STEPS is new.
func (t *Transport) ensureConsumers(ctx context.Context, all bool) error {
	t.mu.Lock()
	var missing []string
	for pool, made := range t.pools {
		if all || !made {
			missing = append(missing, pool)
		}
	}
	t.mu.Unlock()
	for _, pool := range missing {
		for _, consumer := range stepConsumers(pool) {
			if _, err := t.js.CreateOrUpdateConsumer(ctx, subject.StepsStream, consumer); err != nil {
				return fmt.Errorf("consumer %s: %w", consumer.Durable, err)
			}
		}
		t.mu.Lock()
		t.pools[pool] = true
		t.mu.Unlock()
	}
	return nil
}

// Queues gives the lines of STEPS by agent type.
func (t *Transport) Queues(ctx context.Context) (map[string]backlog.Queue, error) {
	stream, err := t.js.Stream(ctx, subject.StepsStream)
	if err != nil {
		return nil, err
	}
	queues := map[string]backlog.Queue{}
	listed := stream.ListConsumers(ctx)
	for info := range listed.Info() {
		for _, agentType := range catalog.RunnerAgentTypes() {
			if strings.HasSuffix(info.Name, subject.StepConsumer("", agentType)) {
				q := queues[agentType]
				q.Pending, q.AckPending = q.Pending+info.NumPending, q.AckPending+uint64(info.NumAckPending)
				queues[agentType] = q
			}
		}
	}
	return queues, listed.Err()
}

// Inputs gives how many inputs the log had behind the last one that came from it, of the partitions that this process reads.
func (t *Transport) Inputs() float64 { return float64(t.feed.pending.Load()) }

// cancelBucket gives the bucket whose keys are tokens of attempts.
func cancelBucket(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: subject.CancelBucket, Description: "tokens of attempts that runners are to stop", TTL: stopsFor, Replicas: replicas,
	}
}

// Ensure implements partition.Transport.
func (t *Transport) Ensure(ctx context.Context) (partition.Streams, error) {
	var out partition.Streams
	for _, cfg := range t.limits.streams(t.copies.Declared()) {
		info, made, err := t.ensureStream(ctx, cfg)
		if err != nil {
			return out, fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
		t.copies.Saw(info)
		if cfg.Name == subject.ExecutionInputStream {
			out.LogCreated, out.FirstSeq, out.LastSeq, out.Now = info.Created.UnixNano(), info.State.FirstSeq, info.State.LastSeq, info.TimeStamp.UnixNano()
		}
		if cfg.MaxBytes > 0 {
			full := float64(info.State.Bytes) / float64(cfg.MaxBytes)
			switch cfg.Name {
			case subject.ExecutionInputStream:
				out.LogFill = full
			case subject.StepsStream:
				out.StepsFill = full
			}
		}
		if cfg.Name == subject.StepsStream {
			if err := t.ensureConsumers(ctx, made); err != nil {
				return out, err
			}
		}
		t.mu.Lock()
		t.created[cfg.Name] = info.Created // known only now that it has its consumers
		t.mu.Unlock()
		out.Remade = out.Remade || made
	}
	if err := t.ensureBucket(ctx); err != nil {
		return out, fmt.Errorf("bucket %s: %w", subject.CancelBucket, err)
	}
	t.ensureTokens(ctx)
	return out, nil
}

// ensureTokens makes tokensStream if it can. Without it there is no live text, and all else goes on.
func (t *Transport) ensureTokens(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tokensWait)
	defer cancel()
	cfg := tokensStream(t.copies.Declared())
	info, _, err := t.ensureStream(ctx, cfg)
	t.mu.Lock()
	told := t.tokensMissing
	t.tokensMissing = err != nil
	if err == nil {
		t.created[cfg.Name] = info.Created
	}
	t.mu.Unlock()
	switch {
	case err == nil:
		t.copies.Saw(info)
	case !told:
		t.log.Warn().Err(err).Str("stream", cfg.Name).Msg("the stream of live text can not be made; does the server let streams be in memory?")
	}
}

// ensureStream makes the stream when this process has not seen it, or it is gone, and reads its state.
func (t *Transport) ensureStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, bool, error) {
	stream, err := t.js.Stream(ctx, cfg.Name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, false, err
	}
	t.mu.Lock()
	known := t.created[cfg.Name]
	t.mu.Unlock()
	if err == nil && known.Equal(stream.CachedInfo().Created) {
		return stream.CachedInfo(), false, nil
	}
	if stream, err = t.js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return nil, false, err
	}
	return stream.CachedInfo(), true, nil
}

func (t *Transport) ensureBucket(ctx context.Context) error {
	bucket, err := t.js.KeyValue(ctx, subject.CancelBucket)
	t.mu.Lock()
	known := t.cancelled != nil
	t.mu.Unlock()
	if errors.Is(err, jetstream.ErrBucketNotFound) || err == nil && !known {
		bucket, err = t.js.CreateOrUpdateKeyValue(ctx, cancelBucket(t.copies.Declared()))
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.cancelled = bucket
	t.mu.Unlock()
	return nil
}
