// Command catalog runs the catalog service as a process of its own.
package main

import (
	"os"

	"turbocat.io/pkg/service"
	"turbocat.io/services/catalog"
)

func main() { os.Exit(service.Main(catalog.Spec().Unit())) }
