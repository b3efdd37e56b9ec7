// Package postgres opens a service's own schema and holds what every store needs of the
// driver: transactions, error classes, migrations.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/errs"
)

// MaxConns is the size of a service's connection pool.
const MaxConns = 10

// Open connects to the schema of a service. The pool is lazy: Open checks the address, not the server.
func Open(databaseURL, schema string) (*sqlx.DB, error) {
	return OpenWith(databaseURL, schema, nil)
}

// OpenWith is Open with settings of the server for each connection.
func OpenWith(databaseURL, schema string, settings map[string]string) (*sqlx.DB, error) {
	return open(databaseURL, schema, silence, settings)
}

func open(databaseURL, schema string, silence time.Duration, settings map[string]string) (*sqlx.DB, error) {
	params := map[string]string{
		"search_path":                         schema,
		"application_name":                    "turbocat-" + schema,
		"statement_timeout":                   "10000",
		"lock_timeout":                        "3000",
		"idle_in_transaction_session_timeout": "4000", // a process that is paused must not keep rows locked for longer than its leases
		"connect_timeout":                     "5",
		"binary_parameters":                   "yes",                // a []byte is sent as it is; see Bytes
		"plan_cache_mode":                     "force_generic_plan", // by its own estimates the server would plan anew what it was given a short array for
	}
	maps.Copy(params, settings)
	dsn, err := withParams(databaseURL, params)
	if err != nil {
		return nil, err
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	connector.Dialer(newDialer(silence))
	db := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	db.SetMaxOpenConns(MaxConns)
	db.SetMaxIdleConns(MaxConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

func withParams(databaseURL string, params map[string]string) (string, error) {
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// The value may hold a password, so it is not repeated.
		return "", errors.New("DATABASE_URL is not of the form postgres://user:password@host:port/database?sslmode=...; correct it")
	}
	q := u.Query()
	for k, v := range params {
		if !q.Has(k) || k == "search_path" {
			q.Set(k, v)
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// InTx runs fn in a transaction and commits it when fn returns nil. An error of the commit
// itself leaves the outcome unknown: the caller re-reads or repeats what is safe to repeat.
func InTx(ctx context.Context, db *sqlx.DB, fn func(tx *sqlx.Tx) error) error {
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return Translate(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := fn(tx); err != nil {
		return Translate(err)
	}
	return Translate(tx.Commit())
}

// Translate gives err a code where the driver's error tells one: DEPENDENCY_UNAVAILABLE for a
// database that is away or overloaded. Everything else, and errs.Error, passes unchanged.
func Translate(err error) error {
	if err == nil {
		return nil
	}
	var coded *errs.Error
	if errors.As(err, &coded) {
		return err
	}
	if Unavailable(err) {
		return errs.Wrap(err, errs.DependencyUnavailable, "the database is not available; try again shortly")
	}
	return err
}

// Unavailable tells whether err says that the database can not be reached, is starting or
// stopping, or took too long: the same call may succeed later.
func Unavailable(err error) bool {
	var pe *pq.Error
	if errors.As(err, &pe) {
		switch pe.Code.Class() {
		case "08", "53", "57", "58":
			return true
		}
		return pe.Code == "55P03" || pe.Code == "25006"
	}
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || unsent(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// unsent tells whether err is a failed write to a broken connection: lib/pq gives it a type of
// its own that is not exported and unwraps to nothing.
func unsent(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if fmt.Sprintf("%T", err) == "*pq.safeRetryError" {
			return true
		}
	}
	return false
}

// Refused tells whether the database rejected the data itself, so that repeating is in vain.
func Refused(err error) bool {
	var pe *pq.Error
	if !errors.As(err, &pe) {
		return false
	}
	c := pe.Code.Class()
	return c == "22" || c == "23" || c == "54"
}

// IsUnique tells whether err is a violation of the named unique constraint; "" means any.
func IsUnique(err error, constraint string) bool {
	var pe *pq.Error
	return errors.As(err, &pe) && pe.Code == "23505" && (constraint == "" || pe.Constraint == constraint)
}
