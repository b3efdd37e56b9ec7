package postgres

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"turbocat.io/contracts/audit"
	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/contracts/rpc"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/pkg/postgres/once"
	"turbocat.io/pkg/postgres/trail"
	"turbocat.io/services/catalog/internal/access"
)

// Templates keeps templates and their ratings; it implements template.Store. It is safe for concurrent use.
type Templates struct {
	db        *sqlx.DB
	agents    Agents
	workflows Workflows
}

// NewTemplates makes a store over the catalog's schema. What is made of templates goes into the other two.
func NewTemplates(db *sqlx.DB, agents Agents, workflows Workflows) *Templates {
	return &Templates{db: db, agents: agents, workflows: workflows}
}

type templateRow struct {
	ID          string         `db:"id"`
	UserID      *string        `db:"user_id"`
	Name        string         `db:"name"`
	Description string         `db:"description"`
	Type        string         `db:"type"`
	Category    string         `db:"category"`
	Tags        pq.StringArray `db:"tags"`
	Content     raw            `db:"content"`
	IsPublic    bool           `db:"is_public"`
	IsOfficial  bool           `db:"is_official"`
	Version     int            `db:"version"`
	UsageCount  int64          `db:"usage_count"`
	RatingSum   int64          `db:"rating_sum"`
	RatingCount int64          `db:"rating_count"`
	OwnRating   *int           `db:"own_rating"`
	CreatedAt   time.Time      `db:"created_at"`
	UpdatedAt   time.Time      `db:"updated_at"`
	listing.Key
}

const templateColumns = `id, user_id, name, description, type, category, tags, content, is_public, is_official, version, usage_count, rating_sum, rating_count, created_at, updated_at`

func toTemplateRow(t catalog.Template) templateRow {
	return templateRow{
		ID: t.ID, UserID: t.UserID, Name: t.Name, Description: t.Description, Type: t.Type, Category: t.Category, Tags: t.Tags, Content: raw(t.Content),
		IsPublic: t.IsPublic, IsOfficial: t.IsOfficial, Version: t.Version, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

func (r templateRow) template() catalog.Template {
	t := catalog.Template{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Description: r.Description, Type: r.Type, Category: r.Category, Tags: r.Tags, Content: r.Content.json(),
		IsPublic: r.IsPublic, IsOfficial: r.IsOfficial, Version: r.Version, UsageCount: r.UsageCount, RatingCount: r.RatingCount, OwnRating: r.OwnRating,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.RatingCount > 0 {
		mean := float64(r.RatingSum) / float64(r.RatingCount)
		t.Rating = &mean
	}
	return t
}

const insertTemplate = `INSERT INTO templates (id, user_id, name, description, type, category, tags, content, is_public, is_official, version, created_at, updated_at)
	VALUES (:id, :user_id, :name, :description, :type, :category, :tags, :content, :is_public, :is_official, :version, :created_at, :updated_at)`

// Insert implements template.Store.
func (s *Templates) Insert(ctx context.Context, t catalog.Template, most int) error {
	err := postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		// Those of one user one after the other.
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('templates'), hashtext($1::text))`, t.UserID); err != nil {
			return err
		}
		var there int
		if err := tx.GetContext(ctx, &there, `SELECT count(*) FROM templates WHERE user_id = $1 AND deleted_at IS NULL`, t.UserID); err != nil {
			return err
		}
		if there >= most {
			return errs.New(errs.Conflict, "you have %d templates, which is the most; delete one first", there)
		}
		if _, err := tx.NamedExecContext(ctx, insertTemplate, toTemplateRow(t)); err != nil {
			return err
		}
		if err := s.record(ctx, tx, audit.TemplateCreated, t, nil, t); err != nil {
			return err
		}
		return once.Keep(ctx, tx, t)
	})
	if postgres.IsUnique(err, "") {
		return errs.Wrap(err, errs.Conflict, "the template id %s is taken; choose another", t.ID)
	}
	return err
}

// Keep implements template.Store.
func (s *Templates) Keep(ctx context.Context, t catalog.Template) error {
	_, err := s.db.NamedExecContext(ctx, insertTemplate+` ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, type = excluded.type,
		category = excluded.category, tags = excluded.tags, content = excluded.content, version = excluded.version, updated_at = excluded.updated_at
		WHERE templates.is_official AND templates.version < excluded.version`, toTemplateRow(t))
	return postgres.Translate(err)
}

func (s *Templates) record(ctx context.Context, tx *sqlx.Tx, action audit.Action, t catalog.Template, before, after any) error {
	deed := trail.Deed{Action: action, ResourceID: t.ID, Before: before, After: after}
	if t.UserID != nil {
		deed.OwnerID = *t.UserID
	}
	return trail.Record(ctx, tx, deed)
}

// Find implements template.Store.
func (s *Templates) Find(ctx context.Context, id, user string) (catalog.Template, error) {
	if !isUUID(id) {
		return catalog.Template{}, access.NotFound("template", id)
	}
	var row templateRow
	err := s.db.GetContext(ctx, &row, `SELECT `+templateColumns+`, (SELECT r.rating FROM template_ratings r WHERE r.template_id = templates.id AND r.user_id = nullif($2, '')::uuid) AS own_rating
		FROM templates WHERE id = $1 AND deleted_at IS NULL`, id, user)
	if errors.Is(err, sql.ErrNoRows) {
		return catalog.Template{}, access.NotFound("template", id)
	}
	return row.template(), postgres.Translate(err)
}

// locked reads a template that nobody else changes meanwhile.
func (s *Templates) locked(ctx context.Context, tx *sqlx.Tx, id string) (catalog.Template, error) {
	var row templateRow
	err := tx.GetContext(ctx, &row, `SELECT `+templateColumns+` FROM templates WHERE id = $1 AND deleted_at IS NULL FOR UPDATE`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return catalog.Template{}, access.NotFound("template", id)
	}
	return row.template(), err
}

// Update implements template.Store.
func (s *Templates) Update(ctx context.Context, id string, change func(catalog.Template) (catalog.Template, error)) (next catalog.Template, err error) {
	if !isUUID(id) {
		return next, access.NotFound("template", id)
	}
	err = postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		current, err := s.locked(ctx, tx, id)
		if err != nil {
			return err
		}
		if next, err = change(current); err != nil || reflect.DeepEqual(next, current) {
			return err
		}
		if _, err := tx.NamedExecContext(ctx, `UPDATE templates SET name = :name, description = :description, type = :type, category = :category, tags = :tags, content = :content,
			is_public = :is_public, version = :version, updated_at = :updated_at WHERE id = :id`, toTemplateRow(next)); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.TemplateUpdated, current, current, next)
	})
	return next, err
}

// Delete implements template.Store.
func (s *Templates) Delete(ctx context.Context, id, owner string, at time.Time) error {
	if !isUUID(id) {
		return access.NotFound("template", id)
	}
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		t, err := s.locked(ctx, tx, id)
		if err != nil {
			return err
		}
		if owner != "" && (t.UserID == nil || *t.UserID != owner) {
			return access.NotFound("template", id)
		}
		if t.IsOfficial {
			return errs.New(errs.Conflict, "an official template stays; it is a part of Turbocat")
		}
		if _, err := tx.ExecContext(ctx, `UPDATE templates SET deleted_at = $2 WHERE id = $1`, id, at); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.TemplateDeleted, t, t, nil)
	})
}

// Rate implements template.Store.
func (s *Templates) Rate(ctx context.Context, id, user string, rating int) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		t, err := s.locked(ctx, tx, id)
		if err != nil {
			return err
		}
		var before *int
		if err := tx.GetContext(ctx, &before, `SELECT rating FROM template_ratings WHERE template_id = $1 AND user_id = $2`, id, user); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO template_ratings (template_id, user_id, rating) VALUES ($1, $2, $3)
			ON CONFLICT (template_id, user_id) DO UPDATE SET rating = excluded.rating`, id, user, rating); err != nil {
			return err
		}
		// Counted anew: a sum that is added to could not be mended.
		if _, err := tx.ExecContext(ctx, `UPDATE templates SET (rating_sum, rating_count) = (SELECT coalesce(sum(rating), 0), count(*) FROM template_ratings WHERE template_id = $1) WHERE id = $1`, id); err != nil {
			return err
		}
		return s.record(ctx, tx, audit.TemplateRated, t, map[string]any{"rating": before}, map[string]any{"rating": rating})
	})
}

// Instantiate implements template.Store.
func (s *Templates) Instantiate(ctx context.Context, id string, made catalog.TemplateInstance) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		agents := made.Agents
		if made.Agent != nil {
			agents = append(agents, *made.Agent)
		}
		for _, a := range agents {
			if err := s.agents.insert(ctx, tx, a); err != nil {
				return err
			}
		}
		if made.Workflow != nil {
			if err := s.workflows.insert(ctx, tx, *made.Workflow); err != nil {
				return err
			}
		}
		if err := once.Keep(ctx, tx, made); err != nil {
			return err
		}
		// Last, for it makes others wait.
		_, err := tx.ExecContext(ctx, `UPDATE templates SET usage_count = usage_count + 1 WHERE id = $1`, id)
		return err
	})
}

// Import implements template.Store.
func (s *Templates) Import(ctx context.Context, w catalog.Workflow, agents []catalog.Agent) error {
	return postgres.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		for _, a := range agents {
			if err := s.agents.insert(ctx, tx, a); err != nil {
				return err
			}
		}
		if err := s.workflows.insert(ctx, tx, w); err != nil {
			return err
		}
		return once.Keep(ctx, tx, w)
	})
}

var templateTable = listing.Table{
	From: "templates", ID: "id",
	Columns: map[string]listing.Column{
		"createdAt": {SQL: "created_at", Kind: listing.Time}, "name": {SQL: "name", Kind: listing.Text},
		"usageCount": {SQL: "usage_count", Kind: listing.Integer}, "rating": {SQL: "rating", Kind: listing.Integer},
	},
}

// visibleTemplates lets through what a user sees, everything for an ADMIN; those that are public, those that are not, or both.
func visibleTemplates(user string, everything bool, public *bool) listing.Where {
	var where listing.Where
	where.And("deleted_at IS NULL")
	private, of := "NOT is_public", []any(nil)
	if !everything {
		private, of = "is_public IS NOT TRUE AND user_id = ?::uuid", []any{user} // in the words of the indexes
	}
	switch has := everything || user != ""; {
	case public != nil && *public, public == nil && !has:
		where.And("is_public")
	case !has:
		where.And("false")
	case public == nil:
		where.Either("is_public", private, of...)
	default:
		where.And(private, of...)
	}
	return where
}

// List implements template.Store.
func (s *Templates) List(ctx context.Context, user string, everything bool, q catalog.ListTemplatesRequest) (rpc.List[catalog.Template], error) {
	var faults form.Faults
	page := templateTable.Parse(q.Page, &faults)
	listing.Enum("type", q.Type, catalog.TemplateTypes(), &faults)
	if len(q.Tags) > 20 || strings.ContainsRune(strings.Join(q.Tags, ""), 0) || strings.ContainsRune(q.Category, 0) {
		faults.Add("tags", errs.BadValue, "must be at most 20 tags without NUL characters, as the category must be")
	}
	if err := faults.Err("query"); err != nil {
		return rpc.List[catalog.Template]{}, err
	}
	where := visibleTemplates(user, everything, q.IsPublic)
	if q.Type != "" {
		where.And("type = ?", q.Type)
	}
	if q.Category != "" {
		where.And("category = ?", q.Category)
	}
	if q.IsOfficial != nil {
		if *q.IsOfficial { // in the words of the index
			where.And("is_official")
		} else {
			where.And("NOT is_official")
		}
	}
	if len(q.Tags) > 0 {
		where.Search("tags @> ARRAY[?::text]", q.Tags...)
	}
	if q.Search != "" {
		where.Search("words @@ search_query(?)", listing.Words(q.Search)...)
	}
	rows, pagination, err := listing.Select[templateRow](ctx, s.db, page, templateColumns, where)
	list := rpc.List[catalog.Template]{Items: make([]catalog.Template, len(rows)), Pagination: pagination}
	for i, r := range rows {
		list.Items[i] = r.template()
	}
	return list, err
}

// maxCategories bounds an answer.
const maxCategories = 1000

// Categories implements template.Store.
func (s *Templates) Categories(ctx context.Context, user string, everything bool) ([]catalog.TemplateCategory, error) {
	categories := []catalog.TemplateCategory{}
	err := s.db.SelectContext(ctx, &categories, `SELECT category, sum(n)::bigint AS count FROM (
			SELECT category, templates AS n FROM template_categories WHERE ($2 OR is_public) AND templates > 0
			UNION ALL SELECT category, 1 FROM templates WHERE deleted_at IS NULL AND NOT $2 AND user_id = nullif($1, '')::uuid AND NOT is_public
		) counted GROUP BY category ORDER BY category LIMIT $3`, user, everything, maxCategories)
	return categories, postgres.Translate(err)
}
