// Command telemetry runs the telemetry service as a process of its own.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/telemetry"
)

func main() { os.Exit(service.Main(telemetry.Spec().Unit())) }
