// Package pgtest gives each test a database of its own on the server that the test
// environment started.
package pgtest

import (
	"context"
	"database/sql"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"slices"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/peterldowns/pgtestdb"
	"github.com/peterldowns/pgtestdb/migrators/common"

	"turbocat.io/pkg/postgres"
)

// EnvURL names the variable that holds the server's superuser address.
const EnvURL = "TURBOCAT_TEST_DATABASE_URL"

// New opens a fresh database with the migrated schema of a service. It is dropped when the test ends well.
func New(t testing.TB, schema string, files fs.FS) *sqlx.DB {
	t.Helper()
	db, err := postgres.Open(URL(t, map[string]fs.FS{schema: files}), schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// URL makes a fresh database with the given schemas and gives its address.
func URL(t testing.TB, schemas map[string]fs.FS) string {
	t.Helper()
	server := os.Getenv(EnvURL)
	if server == "" {
		if os.Getenv("REQUIRE_INTEGRATION") != "" {
			t.Fatalf("%s is not set; run the tests with `make test`", EnvURL)
		}
		t.Skipf("SKIPPED: no PostgreSQL, %s is not set; run the tests with `make test`", EnvURL)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s: %v", EnvURL, err)
	}
	password, _ := u.User.Password()
	conf := pgtestdb.Custom(t, pgtestdb.Config{
		DriverName: "postgres", Host: u.Hostname(), Port: u.Port(), User: u.User.Username(), Password: password,
		Database: "postgres", Options: "sslmode=disable",
	}, migrator(schemas))
	return conf.URL()
}

type migrator map[string]fs.FS

func (m migrator) Hash() (string, error) {
	hash := common.NewRecursiveHash()
	for _, schema := range m.schemas() {
		hash.Add([]byte(schema))
		if err := hash.AddDirs(m[schema], "*.sql", "."); err != nil {
			return "", err
		}
	}
	return hash.String(), nil
}

func (m migrator) Migrate(ctx context.Context, _ *sql.DB, conf pgtestdb.Config) error {
	for _, schema := range m.schemas() {
		if err := postgres.Migrate(ctx, conf.URL(), schema, m[schema]); err != nil {
			return err
		}
	}
	return nil
}

func (m migrator) schemas() []string { return slices.Sorted(maps.Keys(m)) }
