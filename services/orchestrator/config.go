package orchestrator

import (
	"errors"
	"fmt"
	"time"
)

// Config of the orchestrator, from TURBOCAT_ORCHESTRATOR_<FIELD>.
type Config struct {
	// Sizes of the streams. Inputs and steps beyond them are refused, never dropped; events
	// beyond them are still in the ledger.
	ExecutionInputBytes int64         `env:"TURBOCAT_ORCHESTRATOR_EXECUTION_INPUT_BYTES" envDefault:"4294967296"`
	StepsBytes          int64         `env:"TURBOCAT_ORCHESTRATOR_STEPS_BYTES" envDefault:"2147483648"`
	EventsBytes         int64         `env:"TURBOCAT_ORCHESTRATOR_EVENTS_BYTES" envDefault:"2147483648"`
	EventsAge           time.Duration `env:"TURBOCAT_ORCHESTRATOR_EVENTS_AGE" envDefault:"72h"`
	// UnfinishedPerUser is how many executions a user may have that have not ended; children do not count.
	UnfinishedPerUser int `env:"TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER" envDefault:"10000"`
	// Retention is how long an execution is kept after its end.
	Retention time.Duration `env:"TURBOCAT_ORCHESTRATOR_RETENTION" envDefault:"720h"`
}

// minRetention is as long as an idempotency key holds, which names its execution.
const minRetention = 24 * time.Hour

// check refuses what can not be.
func (c Config) check() error {
	var faults []error
	if c.UnfinishedPerUser < 1 {
		faults = append(faults, fmt.Errorf("TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER is %d; give 1 or more", c.UnfinishedPerUser))
	}
	if c.Retention < minRetention {
		faults = append(faults, fmt.Errorf("TURBOCAT_ORCHESTRATOR_RETENTION is %s; give %s or more", c.Retention, minRetention))
	}
	return errors.Join(faults...)
}
