package postgres

import (
	"context"
	"database/sql"
	"sync"

	"github.com/jmoiron/sqlx"
)

// Prepared runs constant statements of a hot path: each is prepared once per connection, so
// that the server plans it once and not at every call. It keeps every statement it has seen,
// so its texts must be constants. It is safe for concurrent use.
type Prepared struct {
	db *sqlx.DB

	mu         sync.RWMutex
	statements map[string]*sqlx.Stmt
}

// Prepare makes a Prepared over an open schema, which stays the caller's to close.
func Prepare(db *sqlx.DB) *Prepared {
	return &Prepared{db: db, statements: map[string]*sqlx.Stmt{}}
}

func (p *Prepared) statement(ctx context.Context, query string) (*sqlx.Stmt, error) {
	p.mu.RLock()
	s := p.statements[query]
	p.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	s, err := p.db.PreparexContext(ctx, query)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.statements[query]; other != nil {
		_ = s.Close()
		return other, nil
	}
	p.statements[query] = s
	return s, nil
}

// GetContext reads one row into dest, as sqlx.DB does.
func (p *Prepared) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	s, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return s.GetContext(ctx, dest, args...)
}

// SelectContext reads all rows into dest, as sqlx.DB does.
func (p *Prepared) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	s, err := p.statement(ctx, query)
	if err != nil {
		return err
	}
	return s.SelectContext(ctx, dest, args...)
}

// ExecContext runs a statement, as sqlx.DB does.
func (p *Prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// InTx is the package's InTx with prepared statements.
func (p *Prepared) InTx(ctx context.Context, fn func(tx *PreparedTx) error) error {
	return InTx(ctx, p.db, func(tx *sqlx.Tx) error { return fn(&PreparedTx{p, tx}) })
}

// PreparedTx is a transaction of a Prepared.
type PreparedTx struct {
	p  *Prepared
	tx *sqlx.Tx
}

// GetContext reads one row into dest, as sqlx.Tx does.
func (t *PreparedTx) GetContext(ctx context.Context, dest any, query string, args ...any) error {
	s, err := t.p.statement(ctx, query)
	if err != nil {
		return err
	}
	return t.tx.StmtxContext(ctx, s).GetContext(ctx, dest, args...)
}

// SelectContext reads all rows into dest, as sqlx.Tx does.
func (t *PreparedTx) SelectContext(ctx context.Context, dest any, query string, args ...any) error {
	s, err := t.p.statement(ctx, query)
	if err != nil {
		return err
	}
	return t.tx.StmtxContext(ctx, s).SelectContext(ctx, dest, args...)
}

// ExecContext runs a statement, as sqlx.Tx does.
func (t *PreparedTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := t.p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return t.tx.StmtxContext(ctx, s).ExecContext(ctx, args...)
}

// Set runs SET LOCAL statements, several at once if need be.
func (t *PreparedTx) Set(ctx context.Context, settings string) error {
	_, err := t.tx.ExecContext(ctx, settings)
	return err
}
