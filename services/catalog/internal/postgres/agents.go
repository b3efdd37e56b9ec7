package postgres

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/catalog/internal/access"
)

// Agents keeps agents. It is safe for concurrent use.
type Agents struct {
	db    *sqlx.DB
	reads *postgres.Prepared // what every start of an execution asks
}

// NewAgents makes a store over the catalog's schema.
func NewAgents(db *sqlx.DB) *Agents { return &Agents{db: db, reads: postgres.Prepare(db)} }

type agentRow struct {
	ID           string         `db:"id"`
	UserID       string         `db:"user_id"`
	Name         string         `db:"name"`
	Description  string         `db:"description"`
	Type         string         `db:"type"`
	Status       string         `db:"status"`
	Version      int            `db:"version"`
	Config       raw            `db:"config"`
	InputSchema  raw            `db:"input_schema"`
	OutputSchema raw            `db:"output_schema"`
	Tags         pq.StringArray `db:"tags"`
	IsPublic     bool           `db:"is_public"`
	Revision     int64          `db:"revision"`
	CreatedAt    time.Time      `db:"created_at"`
	UpdatedAt    time.Time      `db:"updated_at"`
}

const (
	agentsFrom   = "agents t JOIN agent_versions v ON v.agent_id = t.id AND v.version = t.version"
	agentColumns = `t.id, t.user_id, t.name, t.description, v.type, t.status, t.version, v.config, v.input_schema, v.output_schema,
		t.tags, t.is_public, t.revision, t.created_at, t.updated_at`

	insertAgent = `INSERT INTO agents (id, user_id, name, description, status, tags, is_public, version, revision, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10)`
	insertAgentVersion = `INSERT INTO agent_versions (agent_id, version, type, config, input_schema, output_schema, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`
	selectAgent  = `SELECT ` + agentColumns + ` FROM ` + agentsFrom + ` WHERE t.id = $1 AND t.deleted_at IS NULL`
	selectAgents = `SELECT ` + agentColumns + ` FROM ` + agentsFrom + ` WHERE t.id = ANY ($1::uuid[]) AND t.deleted_at IS NULL`
	updateAgent  = `UPDATE agents SET name = $3, description = $4, status = $5, tags = $6, is_public = $7, version = $8, updated_at = $9, revision = revision + 1
		WHERE id = $1 AND revision = $2 AND deleted_at IS NULL`
	deleteAgent = `UPDATE agents SET deleted_at = $3, revision = revision + 1
		WHERE id = $1 AND ($2 = '' OR user_id::text = $2) AND deleted_at IS NULL`
)

func (r agentRow) agent() catalog.Agent {
	return catalog.Agent{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Type: r.Type, Status: r.Status, Version: r.Version,
		Config: r.Config.json(), InputSchema: r.InputSchema.json(), OutputSchema: r.OutputSchema.json(),
		Tags: r.Tags, IsPublic: r.IsPublic, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}

// Insert implements agent.Store.
func (s *Agents) Insert(ctx context.Context, a catalog.Agent) error {
	return insert(ctx, s.db, "agent", a.ID, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, insertAgent, a.ID, a.UserID, a.Name, a.Description, a.Status, pq.StringArray(a.Tags), a.IsPublic,
			a.Version, a.CreatedAt, a.UpdatedAt); err != nil {
			return err
		}
		return insertVersionOfAgent(ctx, tx, a)
	})
}

func insertVersionOfAgent(ctx context.Context, tx *sqlx.Tx, a catalog.Agent) error {
	_, err := tx.ExecContext(ctx, insertAgentVersion, a.ID, a.Version, a.Type, string(a.Config), string(a.InputSchema), string(a.OutputSchema), a.UpdatedAt)
	return err
}

// Find implements agent.Store.
func (s *Agents) Find(ctx context.Context, id string) (catalog.Agent, error) {
	row, err := s.find(ctx, id)
	return row.agent(), err
}

func (s *Agents) find(ctx context.Context, id string) (agentRow, error) {
	var row agentRow
	if !isUUID(id) {
		return row, access.NotFound("agent", id)
	}
	err := s.reads.GetContext(ctx, &row, selectAgent, id)
	if errors.Is(err, sql.ErrNoRows) {
		return row, access.NotFound("agent", id)
	}
	return row, postgres.Translate(err)
}

// FindAll implements workflow.AgentFinder.
func (s *Agents) FindAll(ctx context.Context, ids []string) ([]catalog.Agent, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []agentRow
	if err := s.reads.SelectContext(ctx, &rows, selectAgents, pq.StringArray(ids)); err != nil {
		return nil, postgres.Translate(err)
	}
	agents := make([]catalog.Agent, len(rows))
	for i, r := range rows {
		agents[i] = r.agent()
	}
	return agents, nil
}

// Update implements agent.Store.
func (s *Agents) Update(ctx context.Context, id string, change func(catalog.Agent) (catalog.Agent, error)) (catalog.Agent, error) {
	var current catalog.Agent
	read := func() (catalog.Agent, int64, error) {
		row, err := s.find(ctx, id)
		current = row.agent()
		return current, row.Revision, err
	}
	save := func(next catalog.Agent, revision int64) (saved bool, err error) {
		if reflect.DeepEqual(next, current) {
			return true, nil
		}
		err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
			saved, err = changed(ctx, tx, updateAgent, id, revision, next.Name, next.Description, next.Status, pq.StringArray(next.Tags), next.IsPublic,
				next.Version, next.UpdatedAt)
			if err != nil || !saved || next.Version == current.Version {
				return err
			}
			return insertVersionOfAgent(ctx, tx, next)
		})
		return saved, err
	}
	return update("agent", id, read, change, save)
}

// Delete implements agent.Store.
func (s *Agents) Delete(ctx context.Context, id, owner string, at time.Time) error {
	return remove(ctx, s.db, deleteAgent, "agent", id, owner, at)
}

// List implements agent.Store.
func (s *Agents) List(ctx context.Context, owner string, q catalog.ListRequest) (rpc.List[catalog.Agent], error) {
	page, where, err := narrow(table(agentsFrom), owner, q)
	if err != nil {
		return rpc.List[catalog.Agent]{}, err
	}
	if q.Type != "" {
		where.And("v.type = ?", q.Type)
	}
	type listed struct {
		agentRow
		listing.Key
	}
	rows, pagination, err := listing.Select[listed](ctx, s.db, page, agentColumns, where)
	if err != nil {
		return rpc.List[catalog.Agent]{}, err
	}
	list := rpc.List[catalog.Agent]{Items: make([]catalog.Agent, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.agent()
	}
	return list, nil
}
