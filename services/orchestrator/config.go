package orchestrator

import (
	"errors"
	"fmt"
	"math"
	"time"

	"turbocat.io/pkg/seal"
)

// Config of the orchestrator, from TURBOCAT_ORCHESTRATOR_<FIELD>.
type Config struct {
	// Keys seal the secrets of triggers.
	Keys seal.Keys
	// Sizes of the streams. Inputs and steps beyond them are refused, never dropped; events
	// beyond them are still in the ledger.
	ExecutionInputBytes int64         `env:"TURBOCAT_ORCHESTRATOR_EXECUTION_INPUT_BYTES" envDefault:"4294967296"`
	StepsBytes          int64         `env:"TURBOCAT_ORCHESTRATOR_STEPS_BYTES" envDefault:"2147483648"`
	EventsBytes         int64         `env:"TURBOCAT_ORCHESTRATOR_EVENTS_BYTES" envDefault:"2147483648"`
	EventsAge           time.Duration `env:"TURBOCAT_ORCHESTRATOR_EVENTS_AGE" envDefault:"72h"`
	// UnfinishedPerUser is how many executions a user may have that have not ended; children do not count.
	UnfinishedPerUser int `env:"TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER" envDefault:"10000"`
	// LLMUserDailyUSD is what the models that the executions of a user call may cost in a UTC day; 0 bounds nothing.
	LLMUserDailyUSD float64 `env:"TURBOCAT_LLM_USER_DAILY_USD"`
	// Retention is how long an execution is kept after its end.
	Retention time.Duration `env:"TURBOCAT_ORCHESTRATOR_RETENTION" envDefault:"720h"`
}

// minRetention is as long as an idempotency key holds, which names its execution.
const minRetention = 24 * time.Hour

// check refuses what can not be.
func (c Config) check() error {
	faults := []error{c.Keys.Check()}
	if c.UnfinishedPerUser < 1 {
		faults = append(faults, fmt.Errorf("TURBOCAT_ORCHESTRATOR_UNFINISHED_PER_USER is %d; give 1 or more", c.UnfinishedPerUser))
	}
	if c.LLMUserDailyUSD < 0 || c.LLMUserDailyUSD > 1e9 || math.IsNaN(c.LLMUserDailyUSD) {
		faults = append(faults, fmt.Errorf("TURBOCAT_LLM_USER_DAILY_USD is %g; give 0 or more, or leave it out to bound nothing", c.LLMUserDailyUSD))
	}
	if c.Retention < minRetention {
		faults = append(faults, fmt.Errorf("TURBOCAT_ORCHESTRATOR_RETENTION is %s; give %s or more", c.Retention, minRetention))
	}
	return errors.Join(faults...)
}
