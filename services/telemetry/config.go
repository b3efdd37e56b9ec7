package telemetry

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"turbocat.io/pkg/seal"
)

// Config of the telemetry service, from TURBOCAT_TELEMETRY_<FIELD>.
type Config struct {
	// LogRetention is how long log lines and the events of feeds are kept.
	LogRetention time.Duration `env:"TURBOCAT_TELEMETRY_LOG_RETENTION" envDefault:"720h"`
	// AnalyticsRetention is how long what analytics are read from is kept.
	AnalyticsRetention time.Duration `env:"TURBOCAT_TELEMETRY_ANALYTICS_RETENTION" envDefault:"9600h"`

	// Keys seal the secrets of webhooks.
	Keys seal.Keys
	// AllowAddresses are private networks that webhooks may lead to.
	AllowAddresses []netip.Prefix `env:"TURBOCAT_TELEMETRY_ALLOW_ADDRESSES"`
}

// allowVariable is what AllowAddresses are read from.
const allowVariable = "TURBOCAT_TELEMETRY_ALLOW_ADDRESSES"

// minLogRetention is as long as lines may wait in LOGS for the database.
const minLogRetention = 24 * time.Hour

// minAnalyticsRetention is a day and the hours by which that of a time zone may differ, so that there is always a whole one.
const minAnalyticsRetention = 48 * time.Hour

// check refuses what can not be.
func (c Config) check() error {
	var faults []error
	if c.LogRetention < minLogRetention {
		faults = append(faults, fmt.Errorf("TURBOCAT_TELEMETRY_LOG_RETENTION is %s; give %s or more", c.LogRetention, minLogRetention))
	}
	if c.AnalyticsRetention < minAnalyticsRetention {
		faults = append(faults, fmt.Errorf("TURBOCAT_TELEMETRY_ANALYTICS_RETENTION is %s; give %s or more", c.AnalyticsRetention, minAnalyticsRetention))
	}
	return errors.Join(append(faults, c.Keys.Check())...)
}
