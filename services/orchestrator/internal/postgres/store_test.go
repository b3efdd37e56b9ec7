package postgres

import (
	"testing"

	"turbocat.io/migrations"
	"turbocat.io/pkg/postgres/pgtest"
	"turbocat.io/services/orchestrator/internal/partition/partitiontest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	partitiontest.Conform(t, func(t *testing.T) partitiontest.Store {
		db := pgtest.New(t, "orchestrator", migrations.Of("orchestrator"))
		return New(db, db)
	})
}
