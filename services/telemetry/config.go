package telemetry

import (
	"fmt"
	"time"
)

// Config of the telemetry service, from TURBOCAT_TELEMETRY_<FIELD>.
type Config struct {
	// LogRetention is how long log lines and the events of feeds are kept.
	LogRetention time.Duration `env:"TURBOCAT_TELEMETRY_LOG_RETENTION" envDefault:"720h"`
}

// minLogRetention is as long as lines may wait in LOGS for the database.
const minLogRetention = 24 * time.Hour

// check refuses what can not be.
func (c Config) check() error {
	if c.LogRetention < minLogRetention {
		return fmt.Errorf("TURBOCAT_TELEMETRY_LOG_RETENTION is %s; give %s or more", c.LogRetention, minLogRetention)
	}
	return nil
}
