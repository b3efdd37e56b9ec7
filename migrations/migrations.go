// Package migrations holds the SQL of every service's schema. A migration is named by its
// purpose, has a way back, and is never changed once released.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed */*.sql
var files embed.FS

// Services that own a schema, in the order in which they are migrated.
func Services() []string { return []string{"identity", "catalog", "orchestrator", "telemetry"} }

// Of gives the migration files of one service.
func Of(service string) fs.FS {
	sub, err := fs.Sub(files, service)
	if err != nil {
		panic(err) // the name is a constant of the caller
	}
	return sub
}
