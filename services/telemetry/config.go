package telemetry

// Config of the telemetry service: it has nothing to choose yet.
type Config struct{}
