// Command runner runs the runner as a process of its own.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/runner"
)

func main() {
	runner.SandboxMain()
	os.Exit(service.Main(runner.Spec().Unit()))
}
