package postgres

import (
	"slices"
	"strings"

	"turbocat.io/contracts/catalog"
	"turbocat.io/contracts/errs"
	"turbocat.io/pkg/form"
	"turbocat.io/pkg/postgres/listing"
	"turbocat.io/services/catalog/internal/agent"
)

// narrow checks a list's request and gives its page and its conditions.
func narrow(from, join, owner string, q catalog.ListRequest) (listing.Page, listing.Where, error) {
	var faults form.Faults
	page := listing.Table{From: from, Join: join, ID: "t.id", Columns: map[string]listing.Column{
		"createdAt": {SQL: "t.created_at", Kind: listing.Time},
		"updatedAt": {SQL: "t.updated_at", Kind: listing.Time},
		"name":      {SQL: "t.name", Kind: listing.Text},
		"status":    {SQL: "t.status", Kind: listing.Text},
	}}.Parse(q.Page, &faults)
	listing.Enum("status", q.Status, agent.Statuses(), &faults)
	listing.Enum("type", q.Type, catalog.AgentTypes(), &faults)
	if slices.ContainsFunc(q.Tags, func(tag string) bool { return strings.ContainsRune(tag, 0) }) || len(q.Tags) > 20 {
		faults.Add("tags", errs.BadValue, "must be at most 20 tags without NUL characters")
	}
	if err := faults.Err("query"); err != nil {
		return page, listing.Where{}, err
	}
	var where listing.Where
	where.And("t.deleted_at IS NULL")
	if owner != "" {
		where.And("t.user_id = ?", owner)
	}
	if q.IsPublic != nil {
		if *q.IsPublic { // in the words of the indexes
			where.And("t.is_public")
		} else {
			where.And("NOT t.is_public")
		}
	}
	if q.ScheduleEnabled != nil {
		if *q.ScheduleEnabled {
			where.And("t.schedule_enabled")
		} else {
			where.And("NOT t.schedule_enabled")
		}
	}
	if q.Status != "" {
		where.And("t.status = ?", q.Status)
	}
	if len(q.Tags) > 0 {
		where.Search("t.tags @> ARRAY[?::text]", q.Tags...)
	}
	if q.Search != "" {
		where.Search("t.words @@ search_query(?)", listing.Words(q.Search)...)
	}
	return page, where, nil
}
