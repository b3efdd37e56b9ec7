// Package subject names every stream, subject, consumer and bucket of Turbocat.
//
//	exec.in.<p>.run | exec.in.<p>.ctl          stream EXECUTION_INPUT: what can change an execution
//	step.<pool>.<agentType>.<priority>         stream STEPS: ready steps, a work queue
//	step.open                                  stream STEPS: nothing, which keeps it from being empty
//	evt.<p>                                    stream EVENTS: batches of public events
//	log.<p>                                    stream LOGS: batches of log lines
//	tok.<p>                                    stream TOKENS: what models write, as they write it
//	runner.heartbeat                           no stream: who runs steps at present
//	feed.news                                  no stream: which users have new events in their feed
//	audit.<service>                            stream AUDIT: entries of the audit trail on their way to identity
//	probe.<service>                            stream PROBE: anything, to see whether it is stored
//	rpc.<service>.v<version>.<method>          request and reply
//
// p is the partition of the execution. No id stands in a subject: it would cost the
// server memory for every message.
package subject

import (
	"hash/fnv"
	"strconv"
)

// Partitions is how many ways executions are divided. It can not be changed on a running installation.
const Partitions = 32

// MaxPayload is the largest message the NATS server must accept, in bytes.
const MaxPayload = 8 << 20

// Streams.
const (
	ExecutionInputStream = "EXECUTION_INPUT"
	StepsStream          = "STEPS"
	EventsStream         = "EVENTS"
	LogsStream           = "LOGS"
	TokensStream         = "TOKENS"
	AuditStream          = "AUDIT"
	ProbeStream          = "PROBE"
)

// Wildcards that the streams listen on, or messages are counted by.
const (
	ExecutionInputAll = "exec.in.>"
	StepsAll          = "step.>"
	StepsWaiting      = "step.*.*.*" // without StepsOpen
	EventsAll         = "evt.>"
	LogsAll           = "log.>"
	TokensAll         = "tok.>"
	AuditAll          = "audit.>"
	ProbeAll          = "probe.>"
)

// CancelBucket is the key-value bucket that tells runners which attempts to stop; keys are tokens.
const CancelBucket = "CANCELLED_ATTEMPTS"

// DefaultPool is the pool of runners that every step goes to unless its agent requires labels; and the label of that pool, which runners
// offer that are told none.
const DefaultPool = "default"

// PartitionOf gives the partition of an execution: FNV-1a of its id modulo Partitions,
// the same as the server's partition().
func PartitionOf(executionID string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(executionID))
	return int(h.Sum32() % Partitions)
}

// ExecutionInputRun is where runners report on steps of partition p.
func ExecutionInputRun(p int) string { return "exec.in." + strconv.Itoa(p) + ".run" }

// ExecutionInputControl is where the orchestrator puts everything else of partition p.
func ExecutionInputControl(p int) string { return "exec.in." + strconv.Itoa(p) + ".ctl" }

// ExecutionInputPartition matches all inputs of partition p.
func ExecutionInputPartition(p int) string { return "exec.in." + strconv.Itoa(p) + ".*" }

// Step is where a ready step of an agent type waits for a runner. priority is 0..9; it is there to be seen, the order was
// decided before the step came here.
func Step(pool, agentType string, priority int) string {
	return "step." + pool + "." + agentType + "." + strconv.Itoa(priority)
}

// StepsOpen is where a message stands for some seconds that no runner takes: it keeps STEPS from being empty.
const StepsOpen = "step.open"

// StepsOf matches the ready steps of one agent type in a pool.
func StepsOf(pool, agentType string) string { return "step." + pool + "." + agentType + ".*" }

// StepConsumer is the durable consumer of StepsOf(pool, agentType).
func StepConsumer(pool, agentType string) string { return pool + "-" + agentType }

// Events is where the public events of partition p are told, several in a message.
func Events(p int) string { return "evt." + strconv.Itoa(p) }

// Logs is where a runner puts batches of log lines of executions in partition p.
func Logs(p int) string { return "log." + strconv.Itoa(p) }

// Tokens is where a runner puts what models write in executions of partition p.
func Tokens(p int) string { return "tok." + strconv.Itoa(p) }

// RunnerHeartbeat is where runners say that they are alive. What nobody hears is gone.
const RunnerHeartbeat = "runner.heartbeat"

// FeedNews is where telemetry says whose feeds have something new. What nobody hears of it, readers find when they look again.
const FeedNews = "feed.news"

// LogNews is where telemetry says which executions have new log lines. What nobody hears of it, readers find when they look again.
const LogNews = "logs.news"

// Audit is where a service puts what it has recorded for the audit trail.
func Audit(service string) string { return "audit." + service }

// Probe is where a service that depends on JetStream's store tries whether it takes a message.
func Probe(service string) string { return "probe." + service }

// RPC is the subject of a method.
func RPC(service string, version int, name string) string {
	return "rpc." + service + ".v" + strconv.Itoa(version) + "." + name
}
