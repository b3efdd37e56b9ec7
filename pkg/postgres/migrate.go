package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/golang-migrate/migrate/v4"
	migratepg "github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/lib/pq"
)

// Migrate brings the schema of a service to the newest version, making it when it is not
// there. Safe to repeat, and safe to run by several processes at once: an advisory lock orders them.
func Migrate(ctx context.Context, databaseURL, schema string, files fs.FS) error {
	dsn, err := withParams(databaseURL, map[string]string{"search_path": schema, "connect_timeout": "5"})
	if err != nil {
		return err
	}
	db, err := Open(databaseURL, schema)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+pq.QuoteIdentifier(schema)); err != nil && !IsUnique(err, "") {
		return fmt.Errorf("make schema %s: %w", schema, err)
	}
	source, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("read the migrations of %s: %w", schema, err)
	}
	target, err := (&migratepg.Postgres{}).Open(dsn)
	if err != nil {
		return fmt.Errorf("open schema %s: %w", schema, err)
	}
	m, err := migrate.NewWithInstance("iofs", source, "postgres", target)
	if err != nil {
		return fmt.Errorf("prepare the migrations of %s: %w", schema, err)
	}
	defer func() { _, _ = m.Close() }()
	if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return fmt.Errorf("migrate schema %s: %w", schema, err)
	}
	return nil
}
