package orchestrator

import "time"

// Config of the orchestrator, from TURBOCAT_ORCHESTRATOR_<FIELD>.
type Config struct {
	// Sizes of the streams. Inputs and steps beyond them are refused, never dropped; events
	// beyond them are still in the ledger.
	ExecutionInputBytes int64         `env:"TURBOCAT_ORCHESTRATOR_EXECUTION_INPUT_BYTES" envDefault:"4294967296"`
	StepsBytes          int64         `env:"TURBOCAT_ORCHESTRATOR_STEPS_BYTES" envDefault:"2147483648"`
	EventsBytes         int64         `env:"TURBOCAT_ORCHESTRATOR_EVENTS_BYTES" envDefault:"2147483648"`
	EventsAge           time.Duration `env:"TURBOCAT_ORCHESTRATOR_EVENTS_AGE" envDefault:"72h"`
	// Replicas of every stream: 1 with one NATS server, 3 with a cluster of three.
	Replicas int `env:"TURBOCAT_ORCHESTRATOR_STREAM_REPLICAS" envDefault:"1"`
}
