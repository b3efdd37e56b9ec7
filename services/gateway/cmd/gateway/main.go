// Command gateway runs the gateway as a process of its own.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/gateway"
)

func main() { os.Exit(service.Main(gateway.Spec().Unit())) }
