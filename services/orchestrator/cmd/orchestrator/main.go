// Command orchestrator runs the orchestrator service alone.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/orchestrator"
)

func main() {
	os.Exit(service.Main(orchestrator.Spec().Unit()))
}
