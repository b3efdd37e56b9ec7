package postgres

import (
	"github.com/jmoiron/sqlx"

	"turbocat.io/contracts/catalog"
)

// Agents keeps agents; it implements agent.Store and workflow.AgentFinder. It is safe for concurrent use.
type Agents struct {
	*store[catalog.Agent, agentRow]
}

// NewAgents makes a store over the catalog's schema.
func NewAgents(db *sqlx.DB) Agents {
	return Agents{newStore(db, kind[catalog.Agent, agentRow]{
		name: "agent", columns: []string{"type", "config", "input_schema", "output_schema"}, large: "config", both: []string{"type"},
		toRow: toAgentRow, fromRow: agentRow.agent,
	})}
}

type agentRow struct {
	head
	Type         string `db:"type"`
	Config       raw    `db:"config"`
	InputSchema  raw    `db:"input_schema"`
	OutputSchema raw    `db:"output_schema"`
}

func toAgentRow(a catalog.Agent, revision int64) (agentRow, error) {
	return agentRow{
		head: head{
			ID: a.ID, UserID: a.UserID, Name: a.Name, Description: a.Description, Status: a.Status, Tags: a.Tags, IsPublic: a.IsPublic,
			Version: a.Version, SourceID: a.SourceID, Revision: revision, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
		},
		Type: a.Type, Config: raw(a.Config), InputSchema: raw(a.InputSchema), OutputSchema: raw(a.OutputSchema),
	}, nil
}

func (r agentRow) agent() (catalog.Agent, error) {
	return catalog.Agent{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Type: r.Type, Status: r.Status, Version: r.Version,
		Config: r.Config.json(), InputSchema: r.InputSchema.json(), OutputSchema: r.OutputSchema.json(),
		Tags: r.Tags, IsPublic: r.IsPublic, SourceID: r.SourceID, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}, nil
}
