//go:build unix

package main

import (
	"turbocat.io/pkg/service"
	"turbocat.io/services/catalog"
	"turbocat.io/services/gateway"
	"turbocat.io/services/identity"
	"turbocat.io/services/orchestrator"
	"turbocat.io/services/runner"
	"turbocat.io/services/telemetry"
)

// door is the service that clients talk to.
const door = gateway.Name

// units are all services, the same for one process and for one alone.
func units() []service.Unit {
	return []service.Unit{
		identity.Spec().Unit(),
		catalog.Spec().Unit(),
		orchestrator.Spec().Unit(),
		runner.Spec().Unit(),
		telemetry.Spec().Unit(),
		gateway.Spec().Unit(),
	}
}
