package natsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	contract "turbocat.io/contracts/audit"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/subject"
	"turbocat.io/pkg/bus"
	"turbocat.io/services/identity/internal/audit"
)

const (
	auditPrefetch      = 256
	auditTogether      = 500 // entries that are appended in one transaction
	auditEnsureTimeout = 5 * time.Second
	auditStoreTimeout  = 15 * time.Second
	auditLookEvery     = 10 * time.Second
	auditLookTimeout   = time.Second
)

// auditStream keeps entries until they are in the chain. When it is full it takes no more: they stay with who has recorded them.
func auditStream(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: subject.AuditStream, Subjects: []string{subject.AuditAll}, Description: "entries of the audit trail, until identity has committed them",
		Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxBytes: 256 << 20,
		Duplicates: 2 * time.Minute, Replicas: replicas,
	}
}

// auditConsumer is shared by all replicas of identity.
var auditConsumer = jetstream.ConsumerConfig{
	Durable: "identity-audit", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxDeliver: -1, MaxAckPending: 4 * auditPrefetch,
}

// RegisterAudit lets the service answer the methods of contracts/audit.
func RegisterAudit(s *bus.Server, trail *audit.Trail) {
	bus.Handle(s, contract.List, trail.List)
	bus.Handle(s, contract.Stored, trail.Stored)
	bus.Handle(s, contract.Denied, trail.Deny)
}

// AuditIntake takes entries from stream AUDIT, which it makes, and has them kept.
type AuditIntake struct {
	conn   *bus.Conn
	trail  *audit.Trail
	copies *bus.Copies
	log    zerolog.Logger
}

// NewAuditIntake makes an intake that takes nothing before Run.
func NewAuditIntake(conn *bus.Conn, trail *audit.Trail, copies *bus.Copies, log zerolog.Logger) *AuditIntake {
	return &AuditIntake{conn, trail, copies, log}
}

// Run takes entries in until ctx ends, whatever happens to the connection, the stream and its consumer. Meanwhile they wait where
// they were recorded: that identity can not take them in is no reason to answer nobody.
func (i *AuditIntake) Run(ctx context.Context) {
	i.conn.Keep(ctx, i.log, "the audit trail is not taken in; trying again", func(ctx context.Context, works func()) error {
		consumer, err := i.ensure(ctx)
		if err != nil {
			return err
		}
		return bus.Intake{Prefetch: auditPrefetch, Take: i.take, Look: i.look, Every: auditLookEvery}.Run(ctx, consumer, works)
	})
}

func (i *AuditIntake) ensure(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, auditEnsureTimeout)
	defer cancel()
	stream, err := i.conn.JetStream().CreateOrUpdateStream(ctx, auditStream(i.copies.Declared()))
	if err != nil {
		return nil, fmt.Errorf("make stream %s: %w", subject.AuditStream, err)
	}
	i.copies.Saw(stream.CachedInfo())
	consumer, err := stream.CreateOrUpdateConsumer(ctx, auditConsumer)
	if err != nil {
		return nil, fmt.Errorf("make consumer %s: %w", auditConsumer.Durable, err)
	}
	return consumer, nil
}

// look sees how many copies the stream has.
func (i *AuditIntake) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, auditLookTimeout)
	defer cancel()
	if stream, err := i.conn.JetStream().Stream(ctx, subject.AuditStream); err == nil {
		i.copies.Saw(stream.CachedInfo())
	}
}

// take keeps one entry and those that wait behind it, and acks them once they are committed.
func (i *AuditIntake) take(ctx context.Context, first jetstream.Msg, more <-chan jetstream.Msg) {
	var entries []contract.TrailEntry
	var read []jetstream.Msg
	for m := first; m != nil; {
		var e contract.TrailEntry
		err := json.Unmarshal(m.Data(), &e)
		if err == nil {
			e, err = audit.Clean(e)
		}
		if err != nil {
			bus.Settle(i.log, errs.Wrap(err, errs.Validation, "an entry of the audit trail does not decode"), m)
		} else {
			entries, read = append(entries, e), append(read, m)
		}
		m = nil
		if len(entries) < auditTogether {
			select {
			case m = <-more:
			default:
			}
		}
	}
	if len(entries) == 0 {
		return
	}
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditStoreTimeout)
	defer cancel()
	bus.Settle(i.log, i.trail.Keep(storing, entries), read...)
}
