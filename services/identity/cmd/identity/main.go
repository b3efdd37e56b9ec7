// Command identity runs the identity service as a process of its own.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/identity"
)

func main() {
	os.Exit(service.Main(identity.Spec().Unit()))
}
